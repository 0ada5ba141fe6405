package oci

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"banger/internal/api"
)

// bomb returns a zstd frame of the letter A, 128 KiB for each 4 bytes: blocks of
// a repeated byte (RFC 8878, 3.1.1.2).
func bomb(blocks int) []byte {
	b := []byte("\x28\xb5\x2f\xfd\x00\x38") // no sizes, a window of 128 KiB
	b = append(b, bytes.Repeat([]byte("\x02\x00\x10A"), blocks-1)...)
	return append(b, "\x03\x00\x10A"...)
}

// layerOf returns a layer in a file, as Resolve would with the options.
func layerOf(t *testing.T, stored []byte, o Options) Layer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "layer")
	if err := os.WriteFile(path, stored, 0o644); err != nil {
		t.Fatal(err)
	}
	o = o.withDefaults()
	return Layer{Digest: sumOf(stored).String(), Size: int64(len(stored)), blob: fileBlob(path), ahead: newAhead(o.ReadAhead), limit: o.limit()}
}

func TestLimit(t *testing.T) {
	t.Parallel()
	const gib = 1 << 30
	for _, tc := range []struct {
		name      string
		options   Options
		n, stored int64
		want      string
	}{
		{"ordinary", Options{}, 20 * gib, 8 * gib, ""},
		{"zeros by gzip", Options{}, 4 * gib, 4 * gib / 1032, ""},
		{"zeros by zstd", Options{}, 4 * gib, 4 * gib / 30_000, ""},
		{"disk", Options{}, 60 * gib, 300 << 20, ""},
		{"more than all", Options{}, 64*gib + 1, 64 * gib, "invalid: more than the limit of 64GiB uncompressed (MaxLayerBytes)"},
		{"all", Options{}, 64 * gib, 64 * gib, ""},
		{"bomb", Options{}, 4*gib + 200<<20 + 1, 1 << 20, "invalid: more than 4.195GiB uncompressed of 1MiB stored: beyond 4GiB, the limit is 200 to 1 (MaxRatio)"},
		{"bomb at its limit", Options{}, 4*gib + 200<<20, 1 << 20, ""},
		{"nothing stored", Options{}, 4*gib + 1, 0, "invalid: more than 4GiB uncompressed of 0B stored: beyond 4GiB, the limit is 200 to 1 (MaxRatio)"},
		{"allowed", Options{MaxRatio: 1 << 62}, 60 * gib, 1 << 20, ""},
		{"stored is a lie", Options{MaxLayerBytes: 1 << 62}, 1 << 61, 1 << 60, ""},
	} {
		got := ""
		if err := tc.options.withDefaults().limit().check(tc.n, tc.stored); err != nil {
			got = "invalid: " + err.Error()
			if !errors.Is(err, api.ErrInvalid) {
				t.Errorf("%s: got %v, want ErrInvalid", tc.name, err)
			}
		}
		if got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
}

// TestBombs has layers that a limit must end long before their own end.
func TestBombs(t *testing.T) {
	const from = 16 << 20
	sized := func(b []byte, size int64) func(t *testing.T) Layer {
		return func(t *testing.T) Layer {
			l := layerOf(t, b, Options{ratioFrom: from})
			if size != 0 {
				l.Size = size
			}
			return l
		}
	}
	zeros := gz(make([]byte, 128<<20))
	for _, tc := range []struct {
		name  string
		layer func(t *testing.T) Layer
		want  string
	}{
		{"zstd", sized(bomb(20_000), 0), "the limit is 200 to 1 (MaxRatio)"},
		{"gzip", sized(zeros, 0), "the limit is 200 to 1 (MaxRatio)"},
		{"gzip members", sized(bytes.Repeat(gz(make([]byte, 1<<20)), 1000), 0), "the limit is 200 to 1 (MaxRatio)"},
		// The promise of a large size does not loosen the limit for long.
		{"size lies", sized(bomb(20_000), 1<<40), "size"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := tc.layer(t)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r, err := l.Open(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			n, err := io.Copy(io.Discard, r)
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), l.Digest) {
				t.Errorf("got %v, want an error with %q and the digest", err, tc.want)
			}
			if most := from + 200*l.Size; n > most && l.Size < 1<<40 {
				t.Errorf("got %d bytes, want at most %d", n, most)
			}
			if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > 32<<20 {
				t.Errorf("allocated %d MiB for %d MiB", grown>>20, n>>20)
			}
		})
	}
}

// TestBombByDefault measures what 1 MiB can cost.
func TestBombByDefault(t *testing.T) {
	if os.Getenv("BANGER_LONG") == "" {
		t.Skip("BANGER_LONG is not set")
	}
	l := layerOf(t, bomb(250_000), Options{})
	start := time.Now()
	r, err := l.Open(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	n, err := io.Copy(io.Discard, r)
	var limit *LimitError
	if !errors.As(err, &limit) || limit.Option != "MaxRatio" || n > limit.Max {
		t.Errorf("got %d bytes and %v, want the limit of MaxRatio", n, err)
	}
	t.Logf("%d bytes stored gave %d MiB in %v", l.Size, n>>20, time.Since(start))
}
