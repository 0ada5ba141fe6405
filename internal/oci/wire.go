package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"banger/internal/api"
)

// wire is the one way to the network: for the registry, its token service, the
// targets of its redirects and the URLs of foreign layers alike. It refuses
// plain HTTP and addresses inside the user's network where a registry has no
// business to send us, gives up on peers that say nothing, and turns answers that
// are worth a retry into errors, with their Retry-After.
type wire struct {
	hosts *hosts
	host  string // of the registry, without port
	plain bool   // HTTP is allowed
	stall time.Duration
}

// newWire makes the way to a host: own in URLs, name in the settings.
func newWire(own, name string, o Options) *wire {
	return &wire{hosts: newHosts(own, name, o), host: hostname(own), plain: o.plain(name), stall: o.stall}
}

// RoundTrip implements [http.RoundTripper].
func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := w.allow(req.URL); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	timer := time.AfterFunc(w.stall, func() { cancel(fmt.Errorf("%s: %w (%v)", req.URL.Host, errStalled, w.stall)) })
	resp, err := w.hosts.RoundTrip(req.WithContext(ctx))
	timer.Stop()
	if err != nil {
		defer cancel(nil)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	resp.Body = &watchedBody{body: resp.Body, timer: timer, stall: w.stall, ctx: ctx, cancel: cancel}
	if temporaryStatus(resp.StatusCode) {
		return nil, newStatusError(resp)
	}
	return resp, nil
}

// allow refuses what is not safe to ask for.
func (w *wire) allow(u *url.URL) error {
	host := u.Hostname()
	switch {
	case u.Scheme == "http" && !w.plain:
		return api.Hint(fmt.Errorf("plain HTTP to %s: %w", u.Host, errRefused),
			"use --insecure if you trust the network between here and there")
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("request by %q: %w", u.Scheme, errRefused)
	case host != w.host && internalAddress(host) && !internalAddress(w.host):
		return fmt.Errorf("request of %s to the private address %s: %w", w.host, host, errRefused)
	}
	return nil
}

// watchedBody fails a Read that brings nothing for too long. The time between
// reads does not count: that is our own disk.
type watchedBody struct {
	body   io.ReadCloser
	timer  *time.Timer
	stall  time.Duration
	ctx    context.Context //nolint:containedctx // of the request; ends the body as well
	cancel context.CancelCauseFunc
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.stall)
	n, err := b.body.Read(p)
	b.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) && b.ctx.Err() != nil {
		err = context.Cause(b.ctx)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.timer.Stop()
	err := b.body.Close()
	b.cancel(nil)
	return err
}

// hostname returns host without its port and brackets.
func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return strings.Trim(host, "[]")
}

// loopback reports whether host is this machine.
func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// internalAddress reports whether host is an address that only a machine in the
// user's own network should be sent to, such as a cloud's metadata service. What
// a name resolves to is not looked at.
func internalAddress(host string) bool {
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host == "localhost" || strings.HasSuffix(host, ".localhost")
	}
	ip = ip.Unmap()
	return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() || ip.IsUnspecified()
}
