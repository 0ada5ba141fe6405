package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banger/internal/api"
)

// publish serves stored as a file and returns its description.
func publish(s *server, stored []byte) File {
	s.inner = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/dir/file" {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(stored))
	})
	return File{URL: "http://" + s.host + "/dir/file", Digest: sumOf(stored).String(), Size: int64(len(stored))}
}

// readFile reads what is in the file.
func readFile(t *testing.T, f File, o Options) ([]byte, error) {
	t.Helper()
	l, err := f.Layer(o)
	if err != nil {
		return nil, err
	}
	return readLayer(t, l, o.Progress)
}

func TestFile(t *testing.T) {
	t.Parallel()
	inside := tarOf(1, 3<<20)
	stored := zst(inside)
	part := len(stored) / 2
	tests := []struct {
		name  string
		fault func(s *server) func(w http.ResponseWriter, r *http.Request, n int) bool
		want  int // requests
	}{
		{"good", nil, 1},
		{"cut", func(s *server) func(http.ResponseWriter, *http.Request, int) bool {
			return func(w http.ResponseWriter, r *http.Request, n int) bool {
				if n == 1 {
					s.inner.ServeHTTP(&cut{w, part}, r)
				}
				return false
			}
		}, 2},
		{"busy", func(*server) func(http.ResponseWriter, *http.Request, int) bool {
			return func(w http.ResponseWriter, _ *http.Request, n int) bool {
				if n < 4 {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
				return n < 4
			}
		}, 4},
		{"no_ranges", func(s *server) func(http.ResponseWriter, *http.Request, int) bool {
			return func(w http.ResponseWriter, r *http.Request, n int) bool {
				r.Header.Del("Range")
				if n == 1 {
					s.inner.ServeHTTP(&cut{w, part}, r)
				}
				return false
			}
		}, 2},
		{"redirect", func(s *server) func(http.ResponseWriter, *http.Request, int) bool {
			return func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if r.URL.RawQuery == "" {
					http.Redirect(w, r, "/dir/file?elsewhere", http.StatusFound)
				}
				return r.URL.RawQuery == ""
			}
		}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			f := publish(s, stored)
			if tt.fault != nil {
				s.fault = tt.fault(s)
			}
			o := testOptions(t)
			for range 2 { // the second time from the cache
				got, err := readFile(t, f, o)
				if err != nil || !bytes.Equal(got, inside) {
					t.Fatalf("got %d bytes, %v; want the %d inside", len(got), err, len(inside))
				}
			}
			if got := s.count("/dir/file"); got != tt.want {
				t.Errorf("%d requests, want %d", got, tt.want)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if got, want := s.ranges["/dir/file"], fmt.Sprintf("bytes=%d-%d", part, len(stored)-1); tt.name == "cut" && got != want {
				t.Errorf("went on with Range %q, want %q", got, want)
			}
		})
	}
}

func TestFileIsWrong(t *testing.T) {
	t.Parallel()
	inside := tarOf(1, 1<<20)
	stored := zst(inside)
	missing := filepath.Join(t.TempDir(), "missing")
	local := filepath.Join(t.TempDir(), "local")
	if err := os.WriteFile(local, stored, 0o600); err != nil {
		t.Fatal(err)
	}
	s := newServer(t)
	good := publish(s, stored)
	tests := []struct {
		name   string
		change func(*File)
		want   string // in the error; "" for none
	}{
		{"local", func(f *File) { f.URL = "file://" + local }, ""},
		{"size_less", func(f *File) { f.Size-- }, "wrong size"},
		{"size_more", func(f *File) { f.Size++ }, "wrong size"},
		{"digest", func(f *File) { f.Digest = sumOf(inside).String() }, "wrong digest"},
		{"local_size_less", func(f *File) { f.URL, f.Size = "file://"+local, f.Size-1 }, "wrong size"},
		{"local_digest", func(f *File) { f.URL, f.Digest = "file://"+local, sumOf(inside).String() }, "wrong digest"},
		{"local_missing", func(f *File) { f.URL = "file://" + missing }, "not found"},
		{"missing", func(f *File) { f.URL += "2" }, "not found"},
		{"bad_digest", func(f *File) { f.Digest = "md5:12" }, "digest"},
		{"no_size", func(f *File) { f.Size = 0 }, "size"},
		{"plain_http", func(f *File) { f.URL = "http://192.0.2.1/x" }, "refused for safety"},
		{"scheme", func(f *File) { f.URL = "ftp://127.0.0.1/x" }, "refused for safety"},
		{"relative", func(f *File) { f.URL = "x" }, "refused for safety"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := good
			tt.change(&f)
			got, err := readFile(t, f, testOptions(t))
			if tt.want == "" {
				if err != nil || !bytes.Equal(got, inside) {
					t.Errorf("got %d bytes, %v", len(got), err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "layer") {
				t.Errorf("got %v, want an error with %q, and no layer", err, tt.want)
			}
			if tt.want == "not found" && !errors.Is(err, api.ErrNotFound) {
				t.Errorf("%v is not ErrNotFound", err)
			}
		})
	}
}

// TestFileResumes ends a download in the middle; another, as of another process,
// goes on there.
func TestFileResumes(t *testing.T) {
	t.Parallel()
	stored := tarOf(1, 4<<20)
	s := newServer(t)
	f := publish(s, stored)
	o := testOptions(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if n > 1 {
			return false
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(stored)))
		_, _ = w.Write(stored[:3<<20])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	}
	partial := filepath.Join(o.CacheDir, "blobs", "sha256", sumOf(stored).Hex+".partial")
	go func() {
		defer cancel()
		for start := time.Now(); time.Since(start) < 10*time.Second; time.Sleep(time.Millisecond) {
			if info, err := os.Stat(partial); err == nil && info.Size() == 3<<20 {
				return
			}
		}
	}()
	l, err := f.Layer(o)
	if err != nil {
		t.Fatal(err)
	}
	r, err := l.Open(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want Canceled", err)
	}
	r.Close()
	if got, err := readFile(t, f, o); err != nil || !bytes.Equal(got, stored) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if got, want := s.ranges["/dir/file"], fmt.Sprintf("bytes=%d-%d", 3<<20, len(stored)-1); got != want {
		t.Errorf("went on with Range %q, want %q", got, want)
	}
}

func TestSave(t *testing.T) {
	t.Parallel()
	stored := zst(tarOf(1, 1<<20))
	s := newServer(t)
	f := publish(s, stored)
	o := testOptions(t)
	path := filepath.Join(t.TempDir(), "out")
	if err := f.Save(t.Context(), path, o); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, stored) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if err := f.Save(t.Context(), path, o); !errors.Is(err, os.ErrExist) {
		t.Errorf("to a file that is there: got %v, want ErrExist", err)
	}
	local := f
	local.URL, local.Size = "file://"+path, f.Size-1
	if err := local.Save(t.Context(), path+"2", o); err == nil || !strings.Contains(err.Error(), "wrong size") {
		t.Errorf("another size: got %v", err)
	}
	local.Size, local.Digest = f.Size, sumOf(nil).String()
	if err := local.Save(t.Context(), path+"3", o); err == nil || !strings.Contains(err.Error(), "wrong digest") {
		t.Errorf("another digest: got %v", err)
	}
	// The cache is damaged behind our back: said, and the blob goes.
	blob := filepath.Join(o.CacheDir, "blobs", "sha256", sumOf(stored).Hex)
	if err := os.WriteFile(blob, make([]byte, len(stored)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Save(t.Context(), path+"4", o); err == nil || !strings.Contains(err.Error(), "wrong digest") {
		t.Errorf("damaged cache: got %v", err)
	}
	if err := f.Save(t.Context(), path+"5", o); err != nil {
		t.Errorf("after the damaged blob went: %v", err)
	}
}

func TestDocument(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	f := publish(s, []byte("the list"))
	s.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if n < 3 {
			reset(w)
		}
		return n < 3
	}
	o := testOptions(t)
	if got, err := Document(t.Context(), f.URL+"?token=1", o); err != nil || string(got) != "the list" {
		t.Errorf("got %q, %v", got, err)
	}
	s.fault = nil
	if _, err := Document(t.Context(), f.URL+"2?secret", o); !errors.Is(err, api.ErrNotFound) || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v, want ErrNotFound without the query", err)
	}
	if _, err := Document(t.Context(), "http://192.0.2.1/", o); !errors.Is(err, errRefused) {
		t.Errorf("plain HTTP to elsewhere: got %v, want refused", err)
	}
	publish(s, make([]byte, maxDocument+1))
	if _, err := Document(t.Context(), f.URL, o); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("too large: got %v, want ErrInvalid", err)
	}
	gone, err := url.Parse(f.URL)
	if err != nil {
		t.Fatal(err)
	}
	s.http.Close()
	if _, err := Document(t.Context(), gone.String(), o); err == nil || api.HintOf(err) == "" {
		t.Errorf("nobody listens: got %v, want an error with a hint", err)
	}
}

func TestPush(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	inside := tarOf(1, 1<<20)
	stored := zst(inside)
	path := filepath.Join(t.TempDir(), "web.tar.zst")
	if err := os.WriteFile(path, stored, 0o600); err != nil {
		t.Fatal(err)
	}
	push := Push{Ref: s.host + "/o/bundles:v1", Path: path, Type: "application/vnd.banger.bundle.v1"}
	want := File{URL: "oci:" + s.host + "/o/bundles", Digest: sumOf(stored).String(), Size: int64(len(stored))}
	for range 2 {
		got, err := push.Do(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Errorf("pushed (-got +want):\n%s", diff)
		}
	}
	if got, err := readFile(t, want, testOptions(t)); err != nil || !bytes.Equal(got, inside) {
		t.Errorf("pulled: got %d bytes, %v", len(got), err)
	}
	files, err := Artifact(t.Context(), push.Ref, testOptions(t), "web.tar.zst", "other")
	if err != nil || len(files) != 1 || !bytes.Equal(files["web.tar.zst"], stored) {
		t.Errorf("artifact: got %d files, %v", len(files), err)
	}
	// Its config is no image's, and whoever takes it for one is told.
	if _, err := Resolve(t.Context(), mustNormalize(t, push.Ref), testOptions(t)); err == nil || !strings.Contains(err.Error(), push.Type) {
		t.Errorf("as an image: got %v, want an error with its type", err)
	}
	for name, change := range map[string]func(*Push){
		"digest":  func(p *Push) { p.Ref = s.host + "/o/b@" + want.Digest },
		"missing": func(p *Push) { p.Path += "2" },
		"refused": func(p *Push) { p.Ref = "127.0.0.1:1/o/b" },
	} {
		p := push
		change(&p)
		if _, err := p.Do(t.Context(), nil); err == nil {
			t.Errorf("%s: pushed", name)
		}
	}
}
