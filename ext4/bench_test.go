package ext4

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// smallFiles names 50,000 files: 30,000 in one directory, the others by 50.
func smallFiles() (dirs []string, names [][]string) {
	for d := range 401 {
		n := 50
		if d == 0 {
			n = 30_000
		}
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprintf("file-%d.txt", i)
		}
		dirs = append(dirs, fmt.Sprintf("dir-%d", d))
		names = append(names, list)
	}
	return dirs, names
}

func writeSmall(tb testing.TB, f File, dirs []string, names [][]string, data string) *Writer {
	w := must[*Writer](tb)(NewWriter(f, Options{}))
	h := Header{Mode: 0o644, ModTime: day}
	r := strings.NewReader("")
	for d, dir := range dirs {
		parent := must[Ino](tb)(w.Create(Root, dir, &Header{Mode: fs.ModeDir | 0o755}))
		for _, name := range names[d] {
			r.Reset(data)
			h.Content = must[Content](tb)(w.WriteContent(r, int64(len(data))))
			must[Ino](tb)(w.Create(parent, name, &h))
		}
	}
	return w
}

func BenchmarkSmallFiles(b *testing.B) {
	dirs, names := smallFiles()
	data := noise(2000)
	path := filepath.Join(b.TempDir(), "image")
	b.ReportAllocs()
	for b.Loop() {
		f := must[*os.File](b)(os.Create(path))
		if err := writeSmall(b, f, dirs, names, data).Close(); err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
	b.ReportMetric(50_000*float64(b.N)/b.Elapsed().Seconds(), "files/s")
}

// A rival is one way to do what a benchmark measures.
type rival struct {
	name string
	run  func()
}

// compete lets the rivals make a file in turn, so that whatever else the machine
// does slows all of them, and reports the median time of each and how many times
// as long as the first the others take. Each begins without the file: ext4 writes
// one that was truncated to the disk as soon as it is closed.
func compete(b *testing.B, made string, rivals ...rival) {
	times := make([][]float64, len(rivals))
	for b.Loop() {
		for i, r := range rivals {
			_ = os.Remove(made)
			start := time.Now()
			r.run()
			times[i] = append(times[i], float64(time.Since(start).Microseconds())/1000)
		}
	}
	median := func(i int) float64 {
		slices.Sort(times[i])
		return times[i][len(times[i])/2]
	}
	b.ReportMetric(0, "ns/op") // of all together: says nothing
	for i, r := range rivals {
		b.ReportMetric(median(i), r.name+"-ms")
		if i > 0 {
			b.ReportMetric(median(i)/median(0), r.name+"/"+rivals[0].name)
		}
	}
}

// BenchmarkLargeFile brings one file without zeros into a new file.
func BenchmarkLargeFile(b *testing.B) {
	need(b, "cp")
	const size = 512 * mib
	dir := b.TempDir()
	source := must[*os.File](b)(os.Create(filepath.Join(dir, "source")))
	defer source.Close()
	if _, err := io.CopyN(source, ones{}, size); err != nil {
		b.Fatal(err)
	}
	image := filepath.Join(dir, "image")
	// into runs fn with a new file.
	into := func(fn func(f *os.File)) func() {
		return func() {
			f := must[*os.File](b)(os.Create(image))
			must[int64](b)(source.Seek(0, io.SeekStart))
			fn(f)
			if err := f.Close(); err != nil {
				b.Fatal(err)
			}
		}
	}
	buf := make([]byte, batchSize)
	compete(b, image,
		rival{"writer", into(func(f *os.File) {
			w := must[*Writer](b)(NewWriter(f, Options{}))
			must[Content](b)(w.WriteContent(source, size))
		})},
		rival{"cp", func() { tool(b, "cp", "--reflink=never", source.Name(), image) }},
		rival{"loop", into(func(f *os.File) { // the bytes through a buffer as large
			must[int64](b)(io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{source}, buf))
		})},
	)
}

// BenchmarkHoles measures the search for zeros.
func BenchmarkHoles(b *testing.B) {
	const size = 512 * mib
	b.SetBytes(size)
	for b.Loop() {
		w := must[*Writer](b)(NewWriter(discard{}, Options{}))
		must[Content](b)(w.WriteContent(&sparse{}, size))
	}
}

// The writer remembers less than 300 bytes of an entry.
func TestMemory(t *testing.T) {
	dirs, names := smallFiles()
	before := heap()
	w := writeSmall(t, discard{}, dirs, names, "small")
	checkHeap(t, w, before)
	runtime.KeepAlive(names)
}

// heap is the bytes in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// checkHeap fails the test if w has made the heap grow by more than 300 bytes an
// entry since before, its buffer aside.
func checkHeap(t testing.TB, w *Writer, before uint64) {
	t.Helper()
	perEntry := float64(heap()-before-batchSize) / float64(w.inodesUsed())
	t.Logf("%.0f bytes an entry", perEntry)
	if perEntry > 300 {
		t.Errorf("%.0f bytes an entry, want 300 at most", perEntry)
	}
	runtime.KeepAlive(w)
}

// discard is a file that forgets.
type discard struct{}

func (discard) ReadAt(p []byte, _ int64) (int, error)  { return 0, io.EOF }
func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (discard) Truncate(int64) error                   { return nil }
