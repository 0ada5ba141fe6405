package clone

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"banger/internal/api"
)

func TestSparseCopy(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for name, c := range map[string]struct {
		size int64
		data [][2]int64 // offset, length
	}{
		"empty":                 {0, nil},
		"only a hole":           {8 * mib, nil},
		"hole at either end":    {8 * mib, [][2]int64{{2 * mib, mib}}},
		"data at either end":    {8 * mib, [][2]int64{{0, mib}, {7 * mib, mib}}},
		"not a multiple of 4 K": {3*mib + 17, [][2]int64{{3*mib + 1, 16}}},
		"longer than one chunk": {copyChunk + 2*mib, [][2]int64{{0, copyChunk + mib}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			in, out := file(t, dir, "in"), file(t, dir, "out")
			if err := in.Truncate(c.size); err != nil {
				t.Fatal(err)
			}
			var data int64
			for _, d := range c.data {
				b := make([]byte, d[1])
				rng := rand.NewChaCha8([32]byte{1})
				rng.Read(b)
				if _, err := in.WriteAt(b, d[0]); err != nil {
					t.Fatal(err)
				}
				data += d[1]
			}
			var last api.Event
			copied, err := sparseCopy(t.Context(), out, in, c.size, func(e api.Event) { last = e })
			if err != nil {
				t.Fatal(err)
			}
			if err := out.Truncate(c.size); err != nil {
				t.Fatal(err)
			}
			want, got := content(t, in), content(t, out)
			if !bytes.Equal(got, want) {
				t.Errorf("content differs: %d bytes, want %d", len(got), len(want))
			}
			if copied < data || copied > data+2*4096 {
				t.Errorf("copied %d bytes, want the %d of data", copied, data)
			}
			if last.Done != copied || last.Total != copied {
				t.Errorf("counted %d of %d bytes, want all %d", last.Done, last.Total, copied)
			}
			if b, want := blocks(t, out), blocks(t, in); b > want+16 {
				t.Errorf("copy has %d blocks of 512 bytes, the original %d", b, want)
			}
		})
	}
}

func TestCloneLeavesTheImageAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	if err := os.WriteFile(src, []byte("image"), 0o400); err != nil {
		t.Fatal(err)
	}
	if err := File(t.Context(), dst, src, Options{Size: 4096, Sync: true}, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dst, []byte("written by the guest"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(src); err != nil || string(b) != "image" {
		t.Errorf("image: got %q, %v", b, err)
	}
	if err := File(t.Context(), dst, src, Options{Size: 4096}, nil); !errors.Is(err, os.ErrExist) {
		t.Errorf("clone over a file: got %v, want that it exists", err)
	}
}

func TestSparseCopyIsCancelled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in, out := file(t, dir, "in"), file(t, dir, "out")
	if _, err := in.WriteString("data"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sparseCopy(ctx, out, in, 4, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
}

func file(t *testing.T, dir, name string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func content(t *testing.T, f *os.File) []byte {
	t.Helper()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func blocks(t *testing.T, f *os.File) int64 {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Blocks
}
