package inflate

import (
	"bytes"
	stdgzip "compress/gzip"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/gzip"
)

// BenchmarkRead compares with two other decompressors on what there is to find on
// this machine, or on the gzip file that BANGER_BENCH_GZIP names.
func BenchmarkRead(b *testing.B) {
	files := map[string][]byte{}
	if name := os.Getenv("BANGER_BENCH_GZIP"); name != "" {
		gz, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		files[filepath.Base(name)] = gz
	} else {
		program, err := os.Executable()
		if err != nil {
			b.Fatal(err)
		}
		binary, err := os.ReadFile(program)
		if err != nil {
			b.Fatal(err)
		}
		files["program"] = compress(b, stdgzip.DefaultCompression, binary)
		sources, _ := filepath.Glob("../*/*.go")
		var text []byte
		for len(text) < 8<<20 && len(sources) > 0 {
			for _, name := range sources {
				source, err := os.ReadFile(name)
				if err != nil {
					b.Fatal(err)
				}
				text = append(text, source...)
			}
		}
		files["text"] = compress(b, stdgzip.DefaultCompression, text)
	}
	readers := []struct {
		name string
		open func(io.Reader) (io.Reader, error)
	}{
		{"inflate", func(r io.Reader) (io.Reader, error) { return NewReader(r), nil }},
		{"klauspost", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
		{"std", func(r io.Reader) (io.Reader, error) { return stdgzip.NewReader(r) }},
	}
	for file, gz := range files {
		for _, r := range readers {
			b.Run(file+"/"+r.name, func(b *testing.B) {
				buf := make([]byte, 256<<10)
				b.ReportAllocs()
				for b.Loop() {
					z, err := r.open(bytes.NewReader(gz))
					if err != nil {
						b.Fatal(err)
					}
					// Without WriteTo, which only one of them has.
					n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{z}, buf)
					if err != nil {
						b.Fatal(err)
					}
					b.SetBytes(n)
				}
			})
		}
	}
}
