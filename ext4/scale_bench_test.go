package ext4

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// writeMany writes n small files, 500 in a directory, and leaves the writer open.
func writeMany(tb testing.TB, f File, n int) *Writer {
	w := must[*Writer](tb)(NewWriter(f, Options{}))
	h := Header{Mode: 0o644, ModTime: day}
	r := strings.NewReader("")
	parent := Root
	for i := range n {
		if i%500 == 0 {
			parent = must[Ino](tb)(w.Create(Root, fmt.Sprintf("dir-%d", i/500), &Header{Mode: fs.ModeDir | 0o755}))
		}
		r.Reset("small")
		h.Content = must[Content](tb)(w.WriteContent(r, 5))
		must[Ino](tb)(w.Create(parent, fmt.Sprintf("file-%d", i), &h))
	}
	return w
}

// BenchmarkEntries is the curve of time and memory over the number of entries: of
// the writer alone, to a file that forgets. Time is that of processors, the garbage
// collector's included, which other work on the machine changes least. Memory is
// the heap before Close, names of 6 to 11 bytes included.
func BenchmarkEntries(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			if n == 1_000_000 {
				long(b)
			}
			var used, inodes uint64
			var busy time.Duration
			for b.Loop() {
				before, start := heap(), cpuTime(b)
				w := writeMany(b, discard{}, n)
				busy += cpuTime(b) - start
				used += heap() - before - batchSize
				inodes += uint64(w.inodesUsed())
				start = cpuTime(b)
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
				busy += cpuTime(b) - start
			}
			b.ReportMetric(0, "ns/op") // counts the search for the heap's size
			b.ReportMetric(float64(busy.Microseconds())/float64(inodes), "cpu-µs/entry")
			b.ReportMetric(float64(used)/float64(inodes), "B/entry")
		})
	}
}

// cpuTime is what this process has used of the processors.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkTree writes one tree of 50,000 files, 30,000 of them in one directory,
// from a directory of the host: with the writer and with mke2fs.
func BenchmarkTree(b *testing.B) {
	long(b)
	need(b, "mke2fs")
	source, image := b.TempDir(), filepath.Join(b.TempDir(), "image")
	dirs, names := smallFiles()
	data := []byte(noise(2000))
	for d, dir := range dirs {
		if err := os.Mkdir(filepath.Join(source, dir), 0o755); err != nil {
			b.Fatal(err)
		}
		for _, name := range names[d] {
			if err := os.WriteFile(filepath.Join(source, dir, name), data, 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	compete(b, image,
		rival{"writer", func() {
			f := must[*os.File](b)(os.Create(image))
			w := must[*Writer](b)(NewWriter(f, Options{Size: 1 << 30}))
			if err := errors.Join(addHost(w, source), w.Close(), f.Close()); err != nil {
				b.Fatal(err)
			}
		}},
		rival{"mke2fs", func() { tool(b, "mke2fs", "-q", "-t", "ext4", "-d", source, image, "1G") }},
	)
}

// BenchmarkTar makes an image of an archive of the same tree: with the writer and
// with hcsshim, which writes neither journal nor indexes nor checksums.
func BenchmarkTar(b *testing.B) {
	dir := b.TempDir()
	hcsshim := filepath.Join(dir, "tar2ext4")
	if out, err := exec.Command("go", "build", "-C", "testdata/tar2ext4", "-o", hcsshim).CombinedOutput(); err != nil {
		b.Skipf("hcsshim cannot be built: %v\n%s", err, out)
	}
	archive, image := filepath.Join(dir, "archive"), filepath.Join(dir, "image")
	writeArchive(b, archive)
	compete(b, image,
		rival{"writer", func() {
			in, f := must[*os.File](b)(os.Open(archive)), must[*os.File](b)(os.Create(image))
			w := must[*Writer](b)(NewWriter(f, Options{}))
			if err := errors.Join(addTar(w, in), w.Close(), f.Close(), in.Close()); err != nil {
				b.Fatal(err)
			}
		}},
		rival{"hcsshim", func() { tool(b, hcsshim, archive, image) }},
	)
}

// writeArchive makes a tar of the small files.
func writeArchive(b *testing.B, path string) {
	f := must[*os.File](b)(os.Create(path))
	defer f.Close()
	out := bufio.NewWriterSize(f, 1<<20)
	tw := tar.NewWriter(out)
	add := func(h *tar.Header, data string) {
		if err := tw.WriteHeader(h); err != nil {
			b.Fatal(err)
		}
		must[int](b)(io.WriteString(tw, data))
	}
	dirs, names := smallFiles()
	data := noise(2000)
	for d, dir := range dirs {
		add(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: day}, "")
		for _, name := range names[d] {
			add(&tar.Header{Typeflag: tar.TypeReg, Name: dir + "/" + name, Mode: 0o644, ModTime: day, Size: int64(len(data))}, data)
		}
	}
	if err := errors.Join(tw.Close(), out.Flush()); err != nil {
		b.Fatal(err)
	}
}

// addTar writes the directories and regular files of an archive.
func addTar(w *Writer, r io.Reader) error {
	inos := map[string]Ino{".": Root}
	for tr := tar.NewReader(bufio.NewReaderSize(r, 1<<20)); ; {
		th, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		h := Header{Mode: th.FileInfo().Mode(), UID: uint32(th.Uid), GID: uint32(th.Gid), ModTime: th.ModTime}
		if h.Content, err = w.WriteContent(tr, th.Size); err != nil {
			return err
		}
		name := path.Clean(th.Name)
		ino, err := w.Create(inos[path.Dir(name)], path.Base(name), &h)
		if err != nil {
			return err
		}
		if h.Mode.IsDir() {
			inos[name] = ino
		}
	}
}

// addHost writes the directories and regular files below dir.
func addHost(w *Writer, dir string) error {
	inos := map[string]Ino{dir: Root}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		h := Header{Mode: info.Mode(), ModTime: info.ModTime()}
		if d.Type().IsRegular() {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			if h.Content, err = w.WriteContent(f, info.Size()); err != nil {
				return err
			}
		}
		ino, err := w.Create(inos[filepath.Dir(path)], filepath.Base(path), &h)
		if d.IsDir() {
			inos[path] = ino
		}
		return err
	})
}
