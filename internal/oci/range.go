package oci

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"banger/internal/api"
)

// openAt opens the bytes of a blob from start, by a Range unless all of them are
// wanted. A server that knows no ranges sends everything: what is before start is
// dropped, what is behind end is the caller's.
func openAt(d v1.Descriptor, start, end int64, get func(http.Header) (*http.Response, error)) (*body, error) {
	header := http.Header{}
	if start > 0 || end < d.Size {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", start, end-1))
	}
	resp, err := get(header)
	if status := (*statusError)(nil); errors.As(err, &status) && header.Get("Range") != "" {
		switch {
		case start == 0 && refusesRange(status.code):
			resp, err = get(http.Header{})
		case status.code == http.StatusRequestedRangeNotSatisfiable:
			return nil, wrongSize(d, fmt.Sprintf("at most %d", start)) // the blob ends before
		}
	}
	if err != nil {
		return nil, err
	}
	b, err := bodyAt(resp, d, start)
	if err != nil {
		resp.Body.Close()
	}
	return b, err
}

// refusesRange says whether a status may mean that a request without a Range
// would do.
func refusesRange(code int) bool {
	switch code {
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusRequestedRangeNotSatisfiable, http.StatusNotImplemented:
		return true
	}
	return false
}

// bodyAt reads resp up to start.
func bodyAt(resp *http.Response, d v1.Descriptor, start int64) (*body, error) {
	b := &body{ReadCloser: resp.Body, end: d.Size, ranged: resp.StatusCode == http.StatusPartialContent}
	first, total := int64(0), resp.ContentLength
	if b.ranged {
		var err error
		s := resp.Header.Get("Content-Range")
		if first, b.end, total, err = contentRange(s); err != nil || first > start || b.end <= start {
			return nil, fmt.Errorf("%w: asked for bytes from %d, got Content-Range %q", api.ErrInvalid, start, s)
		}
	}
	if total >= 0 && total != d.Size || b.end > d.Size {
		return nil, wrongSize(d, fmt.Sprint(max(total, b.end)))
	}
	if _, err := io.CopyN(io.Discard, resp.Body, start-first); err != nil {
		return nil, noEOF(err)
	}
	return b, nil
}

// contentRange reads "bytes first-last/total" (RFC 9110, 14.4). end is behind the
// last byte; total is -1 for "*".
func contentRange(s string) (first, end, total int64, err error) {
	span, all, _ := strings.Cut(strings.TrimPrefix(s, "bytes "), "/")
	from, to, _ := strings.Cut(span, "-")
	if first, err = strconv.ParseInt(from, 10, 64); err != nil {
		return 0, 0, 0, err
	}
	if end, err = strconv.ParseInt(to, 10, 64); err != nil {
		return 0, 0, 0, err
	}
	if all == "*" {
		return first, end + 1, -1, nil
	}
	total, err = strconv.ParseInt(all, 10, 64)
	return first, end + 1, total, err
}
