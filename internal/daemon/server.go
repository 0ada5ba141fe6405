package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"sync"
	"sync/atomic"
	"syscall"

	"banger/internal/api"
	"banger/internal/openapi"
)

// maxRequest bounds the body of a request, in bytes; the largest is a command
// line, which Linux bounds at 2 MiB (ARG_MAX).
const maxRequest = 4 << 20

// server turns functions into verbs of the API, and knows what it has made.
type server struct {
	mux   *http.ServeMux
	verbs []openapi.Operation
	busy  atomic.Int64 // calls under way
}

func newServer() *server {
	s := &server{mux: http.NewServeMux()}
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, fmt.Errorf("%s %s: no such verb: %w", r.Method, r.URL.Path, api.ErrNotFound))
	})
	return s
}

// handle routes op and describes it: a verb that is served is one that is
// described, with the types that are decoded and sent.
func handle[Request, Result any](s *server, op openapi.Operation, h func(w http.ResponseWriter, r *http.Request, req Request)) {
	op.Request, op.Result = reflect.TypeFor[Request](), reflect.TypeFor[Result]()
	s.verbs = append(s.verbs, op)
	s.mux.HandleFunc("POST /v1/"+op.Verb, func(w http.ResponseWriter, r *http.Request) {
		s.busy.Add(1)
		defer s.busy.Add(-1)
		var req Request
		if err := decode(w, r, &req); err != nil {
			writeError(w, err)
			return
		}
		h(w, r, req)
	})
}

// call makes f a verb that answers at once.
func call[Request, Result any](s *server, verb, summary string, f func(context.Context, Request) (Result, error)) {
	op := openapi.Operation{Verb: verb, Summary: summary, Kind: openapi.Call}
	handle[Request, Result](s, op, func(w http.ResponseWriter, r *http.Request, req Request) {
		result, err := f(r.Context(), req)
		if err != nil {
			writeError(w, err)
			return
		}
		writeJSON(w, http.StatusOK, result)
	})
}

// stream makes f a verb that reports progress: lines of JSON, the last of which
// has the result or the error.
func stream[Request, Result any](s *server, verb, summary string, f func(context.Context, Request, api.Progress) (Result, error)) {
	op := openapi.Operation{Verb: verb, Summary: summary, Kind: openapi.Stream}
	handle[Request, Result](s, op, func(w http.ResponseWriter, r *http.Request, req Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		var mu sync.Mutex // guards w: progress comes from several goroutines
		lines, flush := json.NewEncoder(w), http.NewResponseController(w)
		send := func(e api.Event) {
			mu.Lock()
			defer mu.Unlock()
			// A client that went away is noticed by the request's context.
			_ = lines.Encode(e)
			_ = flush.Flush()
		}
		result, err := f(r.Context(), req, send)
		if err != nil {
			send(api.Event{Error: api.AsError(err)})
			return
		}
		send(api.Event{Result: result})
	})
}

// upgrade makes f a verb that takes the connection over. Before it calls
// accept, f may still fail with an ordinary error.
func upgrade[Request any](s *server, verb, summary string, f func(ctx context.Context, req Request, accept func() (io.ReadWriteCloser, error)) error) {
	op := openapi.Operation{Verb: verb, Summary: summary, Kind: openapi.Upgrade}
	handle[Request, none](s, op, func(w http.ResponseWriter, r *http.Request, req Request) {
		if r.Header.Get("Upgrade") != api.Protocol {
			writeError(w, fmt.Errorf("%w: %s wants the header Upgrade: %s", api.ErrInvalid, verb, api.Protocol))
			return
		}
		accepted := false
		err := f(r.Context(), req, func() (io.ReadWriteCloser, error) {
			accepted = true
			return hijack(w)
		})
		if err != nil && !accepted {
			writeError(w, err)
		}
	})
}

// text makes f a verb that answers with plain text, each write at once. An error
// before the first write is an ordinary one; a later one breaks the answer off.
func text[Request any](s *server, verb, summary string, f func(context.Context, Request, io.Writer) error) {
	op := openapi.Operation{Verb: verb, Summary: summary, Kind: openapi.Text}
	handle[Request, none](s, op, func(w http.ResponseWriter, r *http.Request, req Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		out := &flushed{w: w}
		err := f(r.Context(), req, out)
		switch {
		case err != nil && out.begun:
			panic(http.ErrAbortHandler) // net/http: the client sees that there is more
		case err != nil:
			writeError(w, err)
		}
	})
}

// flushed sends each write at once.
type flushed struct {
	w     http.ResponseWriter
	begun bool
}

func (f *flushed) Write(b []byte) (int, error) {
	f.begun = true
	n, err := f.w.Write(b)
	return n, errors.Join(err, http.NewResponseController(f.w).Flush())
}

func hijack(w http.ResponseWriter) (io.ReadWriteCloser, error) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", api.Protocol)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return struct {
		io.Reader
		io.WriteCloser
	}{buf.Reader, conn}, nil
}

// splice copies both ways until either side ends, and closes both.
func splice(a, b io.ReadWriteCloser) {
	var wg sync.WaitGroup
	copyTo := func(dst, src io.ReadWriteCloser) {
		_, _ = io.Copy(dst, src) // either end may go away at any time: that is how a stream ends
		dst.Close()
		src.Close()
	}
	wg.Go(func() { copyTo(a, b) })
	wg.Go(func() { copyTo(b, a) })
	wg.Wait()
}

// decode reads a request strictly: a misspelt field is an error, not a default.
func decode(w http.ResponseWriter, r *http.Request, req any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	d.DisallowUnknownFields()
	if err := d.Decode(req); err != nil {
		return fmt.Errorf("%w request: %w", api.ErrInvalid, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("%w request: more than one JSON value", api.ErrInvalid)
	}
	return nil
}

func writeError(w http.ResponseWriter, err error) {
	e := api.AsError(err)
	status := map[string]int{
		"not-found": http.StatusNotFound, "exists": http.StatusConflict, "in-use": http.StatusConflict,
		"invalid": http.StatusBadRequest, "unsupported": http.StatusNotImplemented,
	}[e.Code]
	if status == 0 {
		status = http.StatusInternalServerError
	}
	writeJSON(w, status, e)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client went away: nobody to tell
}

// ownerOnly accepts connections of our own user and of root. The socket's mode
// says the same; this holds when somebody changes it.
type ownerOnly struct {
	net.Listener
	uid int
}

func (l ownerOnly) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if uid, err := peerUID(conn); err == nil && l.admits(uid) {
			return conn, nil
		}
		conn.Close()
	}
}

func (l ownerOnly) admits(uid int) bool { return uid == l.uid || uid == 0 }

func peerUID(conn net.Conn) (int, error) {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *syscall.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err = errors.Join(err, credErr); err != nil {
		return 0, err
	}
	return int(cred.Uid), nil
}
