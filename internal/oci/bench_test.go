package oci

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// sources returns 64 MiB of Go's own sources, which compress as programs and
// documents do.
func sources(b *testing.B) []byte {
	b.Helper()
	const size = 64 << 20
	var buf bytes.Buffer
	root, err := exec.CommandContext(b.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatal(err)
	}
	err = filepath.WalkDir(filepath.Join(strings.TrimSpace(string(root)), "src"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		data, err := os.ReadFile(path)
		buf.Write(data)
		if buf.Len() > size {
			return fs.SkipAll
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return buf.Bytes()[:min(size, buf.Len())]
}

// BenchmarkLayer is to be compared with inflating alone: verifying runs beside it.
func BenchmarkLayer(b *testing.B) {
	tar := sources(b)
	for _, f := range []struct {
		name  string
		store func([]byte) []byte
	}{{"gzip", gz}, {"zstd", zst}, {"plain", func(p []byte) []byte { return p }}} {
		stored := f.store(tar)
		b.Run(f.name+"/verified", func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "layer")
			if err := os.WriteFile(path, stored, 0o644); err != nil {
				b.Fatal(err)
			}
			l := Layer{
				Digest: sumOf(stored).String(), DiffID: sumOf(tar).String(), Size: int64(len(stored)),
				blob: fileBlob(path), ahead: newAhead(8 << 20), limit: limit{bytes: 1 << 40},
			}
			b.SetBytes(int64(len(tar)))
			for b.Loop() {
				r, err := l.Open(b.Context(), nil)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
				r.Close()
			}
		})
		b.Run(f.name+"/inflate", func(b *testing.B) {
			b.SetBytes(int64(len(tar)))
			for b.Loop() {
				r, err := inflate(bytes.NewReader(stored))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
				r.Close()
			}
		})
	}
}
