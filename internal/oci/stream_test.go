package oci

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"banger/internal/api"
)

// TestMain also fails when a goroutine of this package outlives the tests.
func TestMain(m *testing.M) {
	if pullInChild() {
		return
	}
	status := m.Run()
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		var stacks bytes.Buffer
		pprof.Lookup("goroutine").WriteTo(&stacks, 2)
		leaked := 0
		for g := range strings.SplitSeq(stacks.String(), "\n\n") {
			if strings.Contains(g, "created by banger/internal/oci.") || strings.Contains(g, "errgroup.(*Group).Go") {
				leaked++
			}
		}
		if leaked == 0 {
			break
		}
		if time.Since(start) > 2*time.Second {
			os.Stderr.WriteString("leaked goroutines:\n" + stacks.String())
			status = 1
			break
		}
	}
	os.Exit(status)
}

// oneLayer resolves an image of one layer from a layout.
func oneLayer(t *testing.T, stored, tar []byte, o Options) (Layer, string) {
	t.Helper()
	c := content{}
	dir := c.layout(t, index(c.image([][]byte{stored}, [][]byte{tar}, nil)))
	img, err := Resolve(t.Context(), mustNormalize(t, "oci:"+dir), o)
	if err != nil {
		t.Fatal(err)
	}
	return img.Layers[0], filepath.Join(dir, "blobs", "sha256", sumOf(stored).Hex)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestLayerFormats(t *testing.T) {
	t.Parallel()
	tar := tarOf(1, 3<<20)
	half := len(tar) / 2
	skippable := []byte("\x50\x2a\x4d\x18\x03\x00\x00\x00abc")
	for _, tc := range []struct {
		name   string
		stored []byte
		tar    []byte
	}{
		{"plain", tar, tar},
		{"gzip", gz(tar), tar},
		{"gzip_members", join(gz(tar[:half]), gz(nil), gz(tar[half:])), tar},
		{"zstd", zst(tar), tar},
		{"zstd_frames", join(skippable, zst(tar[:half]), skippable, zst(tar[half:]), skippable), tar},
		{"empty", []byte{}, []byte{}},
		{"empty_gzip", gz(nil), []byte{}},
		{"after_the_archive", gz(join(tar, noise(9, 1000))), join(tar, noise(9, 1000))},
		{"one_chunk", noise(1, chunkSize), noise(1, chunkSize)},
		{"short", []byte("x"), []byte("x")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l, _ := oneLayer(t, tc.stored, tc.tar, Options{ReadAhead: 1})
			got, err := readLayer(t, l, nil)
			if err != nil || !bytes.Equal(got, tc.tar) {
				t.Errorf("got %d bytes, %v, want %d", len(got), err, len(tc.tar))
			}
		})
	}
}

func TestLayerIsWrong(t *testing.T) {
	t.Parallel()
	tar := tarOf(1, 2<<20)
	good := gz(tar)
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	for _, tc := range []struct {
		name   string
		stored []byte // what the image promises
		tar    []byte
		file   []byte // what is there, if that is something else
		what   string // of the MismatchError
		text   string // or what the error says
	}{
		{name: "digest", stored: good, tar: tar, file: flipped, what: "digest"},
		{name: "digest_plain", stored: tar, tar: tar, file: tarOf(2, 2<<20), what: "digest"},
		{name: "digest_and_format", stored: good, tar: tar, file: join([]byte("\x1f\x8b"), noise(3, len(good)-2)), what: "digest"},
		{name: "size_more", stored: good, tar: tar, file: join(good, []byte("garbage")), what: "size"},
		{name: "size_less", stored: good, tar: tar, file: good[:len(good)-9], what: "size"},
		{name: "size_none", stored: good, tar: tar, file: []byte{}, what: "size"},
		{name: "diffid", stored: good, tar: tarOf(2, 2<<20), what: "diffID"},
		{name: "gzip_garbage", stored: join(good, []byte("garbage")), tar: tar, text: "inflate layer"},
		{name: "gzip_truncated", stored: good[:len(good)-9], tar: tar, text: "unexpected EOF"},
		{name: "gzip_checksum", stored: flipped, tar: tar, text: "inflate layer"},
		{name: "zstd_truncated", stored: zst(tar)[:1<<20], tar: tar, text: "inflate layer"},
		{name: "zstd_window", stored: []byte("\x28\xb5\x2f\xfd\x00\xff\x00\x00\x00\x00\x00"), tar: tar, text: "window"},
		{name: "xz", stored: []byte("\xfd7zXZ\x00\x00\x00\x00"), tar: tar, text: "xz compression"},
		{name: "bzip2", stored: []byte("BZh91AY&SY"), tar: tar, text: "bzip2 compression"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l, path := oneLayer(t, tc.stored, tc.tar, Options{})
			if tc.file != nil {
				if err := os.WriteFile(path, tc.file, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			_, err := readLayer(t, l, nil)
			var mismatch *MismatchError
			if err == nil || !strings.Contains(err.Error(), tc.text) || !strings.Contains(err.Error(), sumOf(tc.stored).Hex) {
				t.Fatalf("got %v, want an error with the layer's digest and %q", err, tc.text)
			}
			if errors.As(err, &mismatch) != (tc.what != "") || mismatch != nil && mismatch.What != tc.what {
				t.Errorf("got %v, want a mismatch of %q", err, tc.what)
			}
		})
	}
}

func TestLayerLimit(t *testing.T) {
	t.Parallel()
	zeros := make([]byte, 3<<20)
	for _, stored := range [][]byte{gz(zeros), zst(zeros), zeros} {
		l, _ := oneLayer(t, stored, zeros, Options{MaxLayerBytes: int64(len(zeros)) - 1})
		if got, err := readLayer(t, l, nil); !errors.Is(err, api.ErrInvalid) || len(got) >= len(zeros) {
			t.Errorf("over the limit: got %d bytes, %v, want ErrInvalid", len(got), err)
		}
		l, _ = oneLayer(t, stored, zeros, Options{MaxLayerBytes: int64(len(zeros))})
		if _, err := readLayer(t, l, nil); err != nil {
			t.Errorf("at the limit: %v", err)
		}
	}
}

func TestLayerCloseEarly(t *testing.T) {
	t.Parallel()
	tar := tarOf(1, 6<<20)
	l, _ := oneLayer(t, gz(tar), tar, Options{ReadAhead: 1 << 20})
	r, err := l.Open(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, r, 1000); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if n, err := r.Read(make([]byte, 1<<20)); n > 0 || !errors.Is(err, fs.ErrClosed) {
		t.Errorf("read after close: got %d bytes, %v, want ErrClosed", n, err)
	}
}

func TestLayerCanceled(t *testing.T) {
	t.Parallel()
	tar := tarOf(1, 6<<20)
	l, _ := oneLayer(t, gz(tar), tar, Options{ReadAhead: 1 << 20})
	ctx, cancel := context.WithCancel(t.Context())
	r, err := l.Open(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cancel()
	if n, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) {
		t.Errorf("got %d bytes, %v, want Canceled", n, err)
	}
}

// Inflating must run ahead, but no further than it was told to.
func TestLayerReadAhead(t *testing.T) {
	zeros := make([]byte, 256<<20)
	l, _ := oneLayer(t, zst(zeros), zeros, Options{ReadAhead: 4 << 20})
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r, err := l.Open(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	in := r.in.pipe
	for start := time.Now(); len(in.full) < 15; time.Sleep(time.Millisecond) {
		if time.Since(start) > 10*time.Second {
			t.Fatalf("only %d chunks are there", len(in.full))
		}
	}
	n, err := io.Copy(io.Discard, r)
	if err != nil || n != 256<<20 {
		t.Fatalf("got %d bytes, %v", n, err)
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > 32<<20 {
		t.Errorf("reading 256 MiB allocated %d MiB", grown>>20)
	}
}

// All open layers together inflate no further ahead than they were told to, none
// of them stops those before it, and whatever becomes of them the buffers come
// back.
func TestLayersShareReadAhead(t *testing.T) {
	t.Parallel()
	const shared = 4 << 20 / chunkSize
	c := content{}
	var stored, tars [][]byte
	for i := range 3 {
		tars = append(tars, noise(uint64(i), 32*chunkSize))
		stored = append(stored, gz(tars[i]))
	}
	dir := c.layout(t, index(c.image(stored, tars, nil)))
	img, err := Resolve(t.Context(), mustNormalize(t, "oci:"+dir), Options{ReadAhead: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	pool := img.Layers[0].ahead
	var open []*Stream
	for _, l := range img.Layers {
		r, err := l.Open(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		open = append(open, r)
	}
	inflated := func() (n int) {
		for _, r := range open {
			n += len(r.in.pipe.full)
		}
		return n
	}
	for start := time.Now(); inflated() < 3*ownChunks+shared; time.Sleep(time.Millisecond) {
		if time.Since(start) > 10*time.Second {
			t.Fatalf("only %d chunks are there", inflated())
		}
	}
	if len(pool) != 0 {
		t.Errorf("%d chunks are left to share, want 0", len(pool))
	}
	for i, r := range open[:2] {
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, tars[i]) {
			t.Errorf("layer %d: got %d bytes, %v, want %d", i, len(got), err, len(tars[i]))
		}
	}
	if _, err := io.CopyN(io.Discard, open[2], 3<<20); err != nil {
		t.Fatal(err)
	}
	for i, r := range open {
		r.Close()
		for _, p := range r.pipes[:2] {
			if own := p.unmade + len(p.free); own != ownChunks {
				t.Errorf("layer %d: %d of its own chunks came back, want %d", i, own, ownChunks)
			}
		}
	}
	if len(pool) != shared {
		t.Errorf("%d chunks came back, want %d", len(pool), shared)
	}
}

func TestTar(t *testing.T) {
	t.Parallel()
	tar := tarOf(1, 1<<20)
	for name, stored := range map[string][]byte{"root.tar": tar, "root.tar.gz": gz(tar), "root.tar.zst": zst(tar)} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, stored, 0o644); err != nil {
			t.Fatal(err)
		}
		img, err := Resolve(t.Context(), mustNormalize(t, "tar:"+path), Options{Platform: "linux/arm64"})
		if err != nil {
			t.Fatal(err)
		}
		want := sumOf(stored).String()
		if img.Digest != want || img.Platform != "linux/arm64" || img.Size != int64(len(stored)) || !img.Created.IsZero() || len(img.Layers) != 1 {
			t.Errorf("%s: got %+v, want digest %s", name, img, want)
		}
		if err := img.Prefetch(t.Context(), nil); err != nil {
			t.Error(err)
		}
		got, err := readLayer(t, img.Layers[0], nil)
		if err != nil || !bytes.Equal(got, tar) {
			t.Errorf("%s: got %d bytes, %v", name, len(got), err)
		}

		// The file is another when it is read.
		if err := os.WriteFile(path, join(stored[:len(stored)-1], []byte{^stored[len(stored)-1]}), 0o644); err != nil {
			t.Fatal(err)
		}
		var mismatch *MismatchError
		if _, err := readLayer(t, img.Layers[0], nil); !errors.As(err, &mismatch) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: changed meanwhile: got %v, want MismatchError with the path", name, err)
		}
	}
}

func TestTarMissing(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty.tar")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		filepath.Join(t.TempDir(), "none.tar"): api.ErrNotFound,
		t.TempDir():                            api.ErrInvalid,
		empty:                                  api.ErrInvalid,
	} {
		if _, err := Resolve(t.Context(), mustNormalize(t, "tar:"+path), Options{}); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", path, err, want)
		}
	}
}

// A layer that occurs twice is one blob.
func TestLayerTwice(t *testing.T) {
	t.Parallel()
	c := content{}
	d := c.simple(tarOf(1, 10), tarOf(1, 10))
	img, err := Resolve(t.Context(), mustNormalize(t, "oci:"+c.layout(t, index(d))), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range img.Layers {
		if _, err := readLayer(t, l, nil); err != nil {
			t.Error(err)
		}
	}
}
