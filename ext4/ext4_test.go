package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
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

// A want is a file as it is written and as it should be read back.
type want struct {
	path string
	Header
	data string
	link string // the path of an earlier file: this is another name for it
}

// put writes files in order and returns their inodes. Parents come first; the
// root is ".".
func put(t testing.TB, w *Writer, files []want) map[string]Ino {
	t.Helper()
	inos, err := putAll(w, files)
	if err != nil {
		t.Fatal(err)
	}
	return inos
}

func putAll(w *Writer, files []want) (map[string]Ino, error) {
	inos := map[string]Ino{".": Root}
	for _, f := range files {
		h, err := f.Header, error(nil)
		parent, ok := inos[path.Dir(f.path)]
		switch {
		case !ok:
			err = fmt.Errorf("%s has no parent", f.path)
		case f.path == ".":
			err = w.SetRoot(&h)
		case f.link != "":
			inos[f.path] = inos[f.link]
			err = w.Link(parent, path.Base(f.path), inos[f.link])
		default:
			if h.Content, err = w.WriteContent(strings.NewReader(f.data), int64(len(f.data))); err == nil {
				inos[f.path], err = w.Create(parent, path.Base(f.path), &h)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return inos, nil
}

// compare reports how what fsys has differs from what is wanted.
func compare(t testing.TB, fsys fs.ReadLinkFS, files []want) {
	t.Helper()
	byPath := map[string]*want{}
	names := map[*want]uint32{}
	for i := range files {
		f := &files[i]
		if f.link != "" {
			f = byPath[f.link]
		}
		byPath[files[i].path] = f
		names[f]++
	}
	subdirs := map[string]uint32{".": 1} // lost+found
	for _, f := range files {
		if f.Mode.IsDir() && f.path != "." && f.path != lostFound {
			subdirs[path.Dir(f.path)]++
		}
	}
	for name, f := range byPath {
		info, err := fsys.Lstat(name)
		if err != nil {
			t.Error(err)
			continue
		}
		got := info.Sys().(*Stat)
		if d := differ(got, f); d != "" {
			t.Errorf("%.99s: %s", name, d)
		}
		links := names[f]
		if f.Mode.IsDir() {
			links = 2 + subdirs[name]
		}
		if got.Links != links {
			t.Errorf("%.99s: links = %d, want %d", name, got.Links, links)
		}
		if f.Mode.IsRegular() {
			data, err := fs.ReadFile(fsys, name)
			if err != nil || string(data) != f.data {
				t.Errorf("%.99s: content is %d bytes (%v), want these %d", name, len(data), err, len(f.data))
			}
		}
	}
	err := fs.WalkDir(fsys, ".", func(name string, _ fs.DirEntry, err error) error {
		if byPath[name] == nil && name != "." && name != lostFound {
			t.Errorf("%.99s is there and should not be", name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func differ(got *Stat, f *want) string {
	switch {
	case got.Mode != f.Mode:
		return fmt.Sprintf("mode = %v, want %v", got.Mode, f.Mode)
	case got.UID != f.UID || got.GID != f.GID:
		return fmt.Sprintf("owner = %d:%d, want %d:%d", got.UID, got.GID, f.UID, f.GID)
	case got.Major != f.Major || got.Minor != f.Minor:
		return fmt.Sprintf("device = %d:%d, want %d:%d", got.Major, got.Minor, f.Major, f.Minor)
	case got.Target != f.Target:
		return fmt.Sprintf("target = %q, want %q", got.Target, f.Target)
	case !maps.Equal(got.Xattrs, f.Xattrs):
		return fmt.Sprintf("attributes = %q, want %q", got.Xattrs, f.Xattrs)
	case f.ModTime.IsZero() && !got.ModTime.Equal(day), !f.ModTime.IsZero() && !got.ModTime.Equal(f.ModTime):
		return fmt.Sprintf("time = %v, want %v", got.ModTime, f.ModTime)
	case f.Mode.IsRegular() && got.Size != int64(len(f.data)):
		return fmt.Sprintf("size = %d, want %d", got.Size, len(f.data))
	}
	return ""
}

// noise is n bytes that are not zero and do not repeat soon.
func noise(n int) string {
	b := make([]byte, n)
	x := uint32(n) | 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x>>24) | 1
	}
	return string(b)
}

// acl is an ACL in wire format.
func acl(entries ...[3]uint32) string {
	b := le.AppendUint32(nil, 2)
	for _, e := range entries {
		b = le.AppendUint16(b, uint16(e[0]))
		b = le.AppendUint16(b, uint16(e[1]))
		b = le.AppendUint32(b, e[2])
	}
	return string(b)
}

var (
	accessACL  = acl([3]uint32{1, 7, aclNoID}, [3]uint32{2, 6, 1000}, [3]uint32{4, 5, aclNoID}, [3]uint32{8, 4, 100_000}, [3]uint32{16, 7, aclNoID}, [3]uint32{32, 0, aclNoID})
	capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" // cap_net_bind_service
)

// everything is a tree with one of everything, the edges included.
func everything() []want {
	dirMode, linkMode := fs.ModeDir|0o755, fs.ModeSymlink|0o777
	files := []want{
		{path: ".", Header: Header{Mode: fs.ModeDir | 0o750, UID: 1, GID: 2, ModTime: time.Unix(5, 6), Xattrs: map[string]string{"user.root": "yes"}}},
		{path: lostFound, Header: Header{Mode: fs.ModeDir | 0o711, GID: 7}},
		{path: "lost+found/found", Header: Header{Mode: 0o600}, data: "again"},
		{path: "etc", Header: Header{Mode: dirMode}},
		{path: "etc/passwd", Header: Header{Mode: 0o644}, data: "root:x:0:0\n"},
		{path: "etc/empty", Header: Header{Mode: 0o644}},
		{path: "sticky", Header: Header{Mode: fs.ModeDir | fs.ModeSticky | fs.ModeSetgid | 0o777}},
		{path: "sticky/sudo", Header: Header{Mode: fs.ModeSetuid | 0o755, Xattrs: map[string]string{"security.capability": capability}}, data: "#!"},
		{path: "none", Header: Header{Mode: 0}},
		{path: "owner32", Header: Header{Mode: 0o600, UID: 4_000_000_000, GID: 65_536}},
		{path: "fifo", Header: Header{Mode: fs.ModeNamedPipe | 0o622}},
		{path: "socket", Header: Header{Mode: fs.ModeSocket | 0o700}},
		{path: "null", Header: Header{Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 3}},
		{path: "char00", Header: Header{Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666}},
		{path: "sda", Header: Header{Mode: fs.ModeDevice | 0o660, Major: 8, Minor: 0, GID: 6}},
		{path: "minor256", Header: Header{Mode: fs.ModeDevice | 0o660, Major: 8, Minor: 256}},
		{path: "major256", Header: Header{Mode: fs.ModeDevice | 0o660, Major: 256}},
		{path: "device_max", Header: Header{Mode: fs.ModeDevice | 0o660, Major: maxMajor, Minor: maxMinor}},
		{path: "symlink_1", Header: Header{Mode: linkMode, Target: "."}},
		{path: "symlink_59", Header: Header{Mode: linkMode, Target: noise(59)}},
		{path: "symlink_60", Header: Header{Mode: linkMode, Target: noise(60)}},
		{path: "symlink_4095", Header: Header{Mode: linkMode, Target: noise(4095), UID: 70_000}},
		{path: "symlink_fast_attr", Header: Header{Mode: linkMode, Target: "x", Xattrs: map[string]string{"trusted.x": noise(200)}}},
		{path: "symlink_slow_attr", Header: Header{Mode: linkMode, Target: noise(100), Xattrs: map[string]string{"trusted.x": noise(200)}}},
		{path: "hard_link", link: "etc/passwd"},
		{path: "sticky/hard_link", link: "etc/passwd"},
		{path: "hard_symlink", link: "symlink_59"},
		{path: "acl", Header: Header{Mode: 0o770, Xattrs: map[string]string{"system.posix_acl_access": accessACL}}},
		{path: "acl_dir", Header: Header{Mode: fs.ModeDir | 0o770, Xattrs: map[string]string{
			"system.posix_acl_access": accessACL, "system.posix_acl_default": accessACL, "user.x": "",
		}}},
		{path: "attrs", Header: Header{Mode: 0o644, Xattrs: map[string]string{
			"user.a": noise(30), "user.long_name": noise(300), "trusted.b": noise(3), "security.c": noise(500),
			"user.b": "", "user.\xff\xfe": noise(77), "security.selinux": "system_u:object_r:bin_t:s0\x00",
		}}},
		{path: "attrs_full", Header: Header{Mode: 0o644, Xattrs: map[string]string{
			"user.a": noise(72 - 4), "user.b": noise(attrInBlock - attrEnd - attrHead - 4),
		}}},
		{path: "attrs_inode_full", Header: Header{Mode: 0o644, Xattrs: map[string]string{"user.a": noise(attrInode - attrEnd - attrHead - 4)}}},
		{path: "name_255_" + noiseName(246), Header: Header{Mode: 0o644}, data: "long"},
		{path: "bytes\xff\xfe \n\t\\*?\"ünï", Header: Header{Mode: 0o644}},
	}
	for _, s := range []struct {
		name string
		time time.Time
	}{
		{"oldest", time.Unix(minSeconds, 0)},
		{"1969", time.Unix(-1, 999_999_999)},
		{"1970", time.Unix(0, 0)},
		{"2038", time.Unix(1<<31, 1)},
		{"2100", time.Unix(4102444800, 5)},
		{"2106", time.Unix(1<<32, 2)},
		{"2242", time.Unix(1<<33, 3)},
		{"newest", time.Unix(maxSeconds, 999_999_999)},
	} {
		files = append(files, want{path: "time_" + s.name, Header: Header{Mode: 0o644, ModTime: s.time}})
	}
	for _, n := range []int{1, 4095, 4096, 4097, 1<<20 - 1, 1 << 20, 1<<20 + 1} {
		files = append(files, want{path: fmt.Sprintf("size_%d", n), Header: Header{Mode: 0o644}, data: noise(n)})
	}
	zeros := strings.Repeat("\x00", 8192)
	for name, data := range map[string]string{
		"hole_first": zeros + "x", "hole_last": noise(4096) + zeros, "hole_only": zeros + "\x00", "hole_mid": noise(4096) + zeros + noise(5000),
		"zero_byte": "\x00", "holes": strings.Repeat(zeros+noise(4096), 6),
	} {
		files = append(files, want{path: name, Header: Header{Mode: 0o644}, data: data})
	}
	deep := "deep"
	for i := range 40 {
		files = append(files, want{path: deep, Header: Header{Mode: dirMode}})
		deep = path.Join(deep, fmt.Sprintf("level%d", i))
	}
	return files
}

func noiseName(n int) string {
	return strings.Repeat("n", n)
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
