package main

import (
	"archive/tar"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banger/internal/oci"
)

// What is measured must be an image, with the files that were asked for.
func TestLayout(t *testing.T) {
	t.Parallel()
	text := corpus(strings.Repeat("some text\n", 10_000))
	for name, c := range map[string]compression{"gzip": gzipped, "gzip_fast": gzippedFast, "zstd": zstandard} {
		dir := filepath.Join(t.TempDir(), name)
		if err := writeLayout(dir, []layer{text.smallFiles(200), text.largeFiles(3 << 20)}, c); err != nil {
			t.Fatal(err)
		}
		l, err := openLayout(dir)
		if err != nil {
			t.Fatal(err)
		}
		ref, err := oci.Normalize("oci:" + dir + ":bench")
		if err != nil {
			t.Fatal(err)
		}
		img, err := oci.Resolve(t.Context(), ref, oci.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if img.Digest != l.manifest.String() || img.Size != l.stored || len(img.Layers) != 2 {
			t.Errorf("%s: resolved %s, %d bytes, %d layers; want %s, %d, 2", name, img.Digest, img.Size, len(img.Layers), l.manifest, l.stored)
		}
		for i, want := range []int{200, 1} {
			r, err := img.Layers[i].Open(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if files := countFiles(t, r); files != want {
				t.Errorf("%s: layer %d has %d files, want %d", name, i, files, want)
			}
			r.Close()
		}
	}
}

func countFiles(t *testing.T, r io.Reader) (n int) {
	t.Helper()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			n++
		}
	}
	if _, err := io.Copy(io.Discard, r); err != nil { // its sums are right
		t.Fatal(err)
	}
	return n
}

func TestDifference(t *testing.T) {
	t.Parallel()
	write := func(name string, files map[string]string) string {
		name = filepath.Join(t.TempDir(), name)
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		w := tar.NewWriter(f)
		for _, file := range []string{"same", "other", "gone"} {
			if text, ok := files[file]; ok {
				if err := writeFile(w, file, []byte(text)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return name
	}
	lower := write("lower", map[string]string{"same": "a", "other": "b", "gone": "c"})
	upper := write("upper", map[string]string{"same": "a", "other": "B"})
	r, w := io.Pipe()
	go func() {
		tw := tar.NewWriter(w)
		err := difference(lower, upper)(tw)
		if err == nil {
			err = tw.Close()
		}
		w.CloseWithError(err)
	}()
	var got []string
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		got = append(got, h.Name)
	}
	if want := "other .wh.gone"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPublish(t *testing.T) {
	t.Parallel()
	doc := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(doc, []byte("before\n"+begin+"old\n"+end+"after\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := publish(doc, "new"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(doc)
	if want := "before\n" + begin + "\nnew\n" + end + "after\n"; string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if err := os.WriteFile(doc, []byte("nothing"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := publish(doc, "new"); err == nil {
		t.Error("a document without a place for it was written")
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	for want, runs := range map[time.Duration][]measure{
		2: {{wall: 3}, {wall: 1}, {wall: 2}},
		5: {{wall: 9}, {wall: 1}, {wall: 4}, {wall: 6}},
		7: {{wall: 7}},
	} {
		if got := median(runs, wall); got != want {
			t.Errorf("median of %v is %v, want %v", runs, got, want)
		}
	}
}
