package oci

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// MismatchError says that bytes are not what the image promises.
type MismatchError struct {
	Object string // "layer sha256:...", "config sha256:...", "document sha256:..."
	What   string // "digest", "size" or "diffID"
	Want   string
	Got    string
	Mirror string // that sent some of them; "" for none
}

// Error implements error.
func (e *MismatchError) Error() string {
	s := fmt.Sprintf("%s: wrong %s: expected %s, got %s", e.Object, e.What, e.Want, e.Got)
	if e.Mirror != "" {
		s += ", from mirror " + e.Mirror
	}
	return s
}

// statusError is an answer of a registry other than success. It says nothing of
// the request, whose URL may carry a signature.
type statusError struct {
	host   string
	code   int
	detail string        // the registry's own words
	after  time.Duration // Retry-After
}

func (e *statusError) Error() string {
	s := fmt.Sprintf("%s answered %d %s", e.host, e.code, http.StatusText(e.code))
	if e.detail != "" {
		s += ": " + e.detail
	}
	return s
}

// newStatusError reads what is of use in resp and closes it.
func newStatusError(resp *http.Response) error {
	defer resp.Body.Close()
	e := &statusError{host: resp.Request.URL.Host, code: resp.StatusCode, after: retryAfter(resp.Header)}
	var te *transport.Error
	if errors.As(transport.CheckError(resp), &te) {
		e.detail = diagnostics(te)
	}
	return e
}

// diagnostics returns the errors of a registry's JSON body, not the body: of a
// storage service that may repeat the signed request.
func diagnostics(te *transport.Error) string {
	var all []string
	for _, d := range te.Errors {
		if text := strings.Trim(d.Message, " "); text != "" {
			all = append(all, text)
		} else if d.Code != "" {
			all = append(all, string(d.Code))
		}
	}
	text := strings.Join(slices.Compact(all), "; ")
	return strings.ToValidUTF8(text[:min(len(text), 300)], "")
}

// retryAfter reads Retry-After: seconds or a date (RFC 9110, 10.2.3).
func retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if n, err := strconv.Atoi(v); err == nil && n > 0 {
		return time.Duration(min(n, 1<<20)) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(0, time.Until(t))
	}
	return 0
}

var (
	errStalled = errors.New("no data for too long")
	errRefused = errors.New("refused for safety")
)

// brokenBody is the end of a connection in the middle of an answer.
type brokenBody struct{ error }

func (e brokenBody) Unwrap() error { return e.error }

// temporary reports whether the same request may well succeed a little later.
func temporary(err error) bool {
	var (
		status *statusError
		cert   *tls.CertificateVerificationError
		dns    *net.DNSError
		answer *transport.Error
		broken brokenBody
		mirror *mirrorError
		local  *fs.PathError // of the cache: an errno would pass for a net.Error
		netErr net.Error
	)
	switch {
	case errors.Is(err, errStalled), errors.As(err, &broken), errors.As(err, &mirror) && mirror.again:
		return true
	case errors.As(err, &status):
		return temporaryStatus(status.code)
	case errors.As(err, &local), errors.As(err, &answer), errors.As(err, &cert), errors.Is(err, errRefused), differs(err),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	case errors.As(err, &dns):
		return !dns.IsNotFound
	case errors.Is(err, syscall.ECONNREFUSED): // a wrong port more often than a restart
		return false
	}
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.As(err, &netErr)
}

func temporaryStatus(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false
	}
	return code >= 500
}

// redact drops the query of the URL from an error that http.Client returned: the
// target of a redirect is often signed.
func redact(err error) error {
	var ue *url.Error
	if !errors.As(err, &ue) {
		return err
	}
	u, perr := url.Parse(ue.URL)
	if perr != nil {
		return ue.Err
	}
	return fmt.Errorf("%s %s://%s%s: %w", strings.ToUpper(ue.Op), u.Scheme, u.Host, u.Path, ue.Err)
}

const (
	maxTries   = 5                // in a row without progress
	maxBackoff = 30 * time.Second // between two tries
	maxWait    = 2 * time.Minute  // longer than this is not waited for a registry that asks
)

// retry calls try until it succeeds, fails for good, or has failed maxTries times
// in a row without progress. Before each further try it calls again with the
// cause and the wait.
func retry(ctx context.Context, base time.Duration, again func(cause error, wait time.Duration), try func() (progress bool, err error)) error {
	for failures := 0; ; {
		progress, err := try()
		if ctx.Err() != nil && err != nil {
			return context.Cause(ctx)
		}
		if err == nil || !temporary(err) {
			return err
		}
		if progress {
			failures = 0
		}
		if failures++; failures == maxTries {
			return fmt.Errorf("gave up after %d tries: %w", maxTries, err)
		}
		wait := min(maxBackoff, base<<(failures-1))
		wait = wait/2 + rand.N(wait)
		if status := (*statusError)(nil); errors.As(err, &status) && status.after > 0 {
			if status.after > maxWait {
				return fmt.Errorf("gave up: the registry asks to wait %v: %w", status.after.Round(time.Second), err)
			}
			wait = max(wait, status.after)
		}
		again(err, wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
