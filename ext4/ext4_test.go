package ext4

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// need skips the test when a tool is missing, or fails it when BANGER_REQUIRE
// names the tool.
func need(t testing.TB, what string) {
	t.Helper()
	ok := os.Getuid() == 0
	if what != "root" {
		_, err := exec.LookPath(what)
		ok = err == nil
	}
	if ok {
		return
	}
	required := strings.Split(os.Getenv("BANGER_REQUIRE"), ",")
	if slices.Contains(required, what) || slices.Contains(required, "all") {
		t.Fatalf("%s is missing and required", what)
	}
	t.Skipf("%s is missing", what)
}

// day is a time that no file of these tests has by accident.
var day = time.Unix(1_600_000_000, 123_456_789)

// image begins a file system in a temporary file.
func image(t testing.TB, o Options) (*Writer, *os.File) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image.ext4"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if o.Time.IsZero() {
		o.Time = day
	}
	w, err := NewWriter(f, o)
	if err != nil {
		t.Fatal(err)
	}
	return w, f
}

// fsck fails the test unless e2fsck is silent about the image.
func fsck(t testing.TB, f *os.File) {
	t.Helper()
	for line := range strings.Lines(fsckUsed(t, f)) {
		if !strings.HasPrefix(line, "Pass ") && !strings.HasPrefix(line, "e2fsck ") && !strings.Contains(line, " files (") {
			t.Errorf("e2fsck -fn says: %s", line)
		}
	}
}

// fsckUsed fails the test if e2fsck finds an error. In an image that a kernel
// has written to it may suggest optimizations.
func fsckUsed(t testing.TB, f *os.File) string {
	t.Helper()
	need(t, "e2fsck")
	return tool(t, "e2fsck", "-fn", f.Name()) + "\n"
}

// tool runs a tool that must not fail and returns what it prints.
func tool(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// finish closes the writer, lets e2fsck look at the image and opens it.
func finish(t testing.TB, w *Writer, f *os.File) *FS {
	t.Helper()
	if err := w.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	fsck(t, f)
	fsys, err := Open(f)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return fsys
}

// must returns v, or fails the test.
func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	w, f := image(t, Options{Label: "sixteen bytes ok", UUID: [16]byte{1, 2, 3}})
	files := everything()
	put(t, w, files)
	fsys := finish(t, w, f)
	compare(t, fsys, files)
	if got := fsys.UUID(); got != [16]byte{1, 2, 3} {
		t.Errorf("UUID = %x", got)
	}
	if got := fsys.Label(); got != "sixteen bytes ok" {
		t.Errorf("label = %q", got)
	}
}

// The same calls give the same bytes: other temporary files, other map seeds,
// a pause, a Usage in between.
func TestDeterministic(t *testing.T) {
	t.Parallel()
	files := everything()
	slices.SortFunc(files, func(a, b want) int { // everything ranges over maps
		return strings.Compare(order(a), order(b))
	})
	var first []byte
	for i := range 3 {
		w, f := image(t, Options{Size: 32 << 20})
		put(t, w, files)
		if i == 1 {
			w.Usage()
		}
		finish(t, w, f)
		b := must[[]byte](t)(os.ReadFile(f.Name()))
		if i == 0 {
			first = b
		} else if !bytes.Equal(b, first) {
			t.Errorf("image %d differs from the first", i)
		}
	}
}

// order sorts parents before children and links last.
func order(f want) string {
	if f.link != "" {
		return "\xff" + f.path
	}
	return f.path
}

func TestNotMountableBeforeClose(t *testing.T) {
	t.Parallel()
	w, f := image(t, Options{Size: 16 * mib})
	finish(t, w, f)
	w = must[*Writer](t)(NewWriter(f, Options{})) // over an older file system
	put(t, w, []want{{path: "a", Header: Header{Mode: 0o644}, data: noise(3 << 20)}})
	if _, err := Open(f); err == nil {
		t.Error("the image can be opened before Close")
	}
}

// What is in the file goes, and a file without anything in it is left alone:
// truncated to nothing, it would be written to the disk when it is closed.
func TestDiscards(t *testing.T) {
	t.Parallel()
	for before, want := range map[int]bool{0: false, 1: true, 5 * mib: true} {
		f := &truncated{memory: memory{bytes.Repeat([]byte{1}, before)}}
		if _, err := NewWriter(f, Options{}); err != nil {
			t.Fatal(err)
		}
		if f.toNothing != want || len(f.b) != 0 {
			t.Errorf("of %d bytes %d are left, truncated: %v, want %v", before, len(f.b), f.toNothing, want)
		}
	}
}

// truncated is a file that knows whether it was truncated to nothing.
type truncated struct {
	memory
	toNothing bool
}

func (f *truncated) Truncate(size int64) error {
	f.toNothing = f.toNothing || size == 0
	return f.memory.Truncate(size)
}

// Whichever call to the file fails, its error comes back, again and again, and
// there is no file system.
func TestFailingFile(t *testing.T) {
	t.Parallel()
	files := everything()
	for calls := 0; ; calls++ {
		m := &memory{}
		w, err := NewWriter(&failing{m, calls}, Options{Size: 24 * mib})
		if err == nil {
			_, _ = w.WriteContent(ones{}, 3*mib) // dropped: it is to be punched
			_, err = putAll(w, files)
		}
		if err == nil {
			err = w.Close()
		}
		if err == nil {
			if calls < 10 {
				t.Errorf("only %d calls", calls)
			}
			return
		}
		if !errors.Is(err, errFull) {
			t.Errorf("call %d fails: %v, want %v", calls, err, errFull)
		}
		if w != nil {
			if later := w.Close(); later != err {
				t.Errorf("call %d fails: later %v, want the same error", calls, later)
			}
		}
		if _, err := Open(m); err == nil {
			t.Errorf("call %d fails: there is a file system", calls)
		}
	}
}

var errFull = errors.New("disk full")

// failing is a file that fails after some changes.
type failing struct {
	File
	left int
}

func (f *failing) WriteAt(p []byte, off int64) (int, error) {
	if f.left--; f.left < 0 {
		return 0, errFull
	}
	return f.File.WriteAt(p, off)
}

func (f *failing) Truncate(size int64) error {
	if f.left--; f.left < 0 {
		return errFull
	}
	return f.File.Truncate(size)
}

func TestClosedWriter(t *testing.T) {
	t.Parallel()
	w, f := image(t, Options{Size: 16 << 20})
	finish(t, w, f)
	if err := w.Close(); err != nil {
		t.Errorf("second close = %v", err)
	}
	if _, err := w.WriteContent(strings.NewReader("x"), 1); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("write after close = %v, want %v", err, fs.ErrClosed)
	}
}

// A memory file has no holes to punch: zeros are written.
type memory struct{ b []byte }

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(m.b)) {
		return 0, io.EOF
	}
	n := copy(p, m.b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if grow := off + int64(len(p)) - int64(len(m.b)); grow > 0 {
		m.b = append(m.b, make([]byte, grow)...)
	}
	return copy(m.b[off:], p), nil
}

func (m *memory) Truncate(n int64) error {
	m.b = append(m.b[:min(n, int64(len(m.b)))], make([]byte, max(0, n-int64(len(m.b))))...)
	return nil
}
