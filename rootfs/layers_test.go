package rootfs

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// entry is one entry of a test's layer.
type entry struct {
	tar.Header
	body string
	raw  []byte // stands in the archive as it is, instead of all that
	note string // what the document says of it; "": a line as in a listing
}

func newEntry(typeflag byte, name string, mode int64) entry {
	return entry{Header: tar.Header{Typeflag: typeflag, Name: name, Mode: mode, ModTime: time.Unix(0, 0)}}
}

func dir(name string) entry { return newEntry(tar.TypeDir, name+"/", 0o755) }

func file(name, body string) entry {
	e := newEntry(tar.TypeReg, name, 0o644)
	e.body, e.Size = body, int64(len(body))
	return e
}

func symlink(name, target string) entry {
	e := newEntry(tar.TypeSymlink, name, 0o777)
	e.Linkname = target
	return e
}

// link is a hard link whose header says nothing of the inode.
func link(name, target string) entry {
	e := newEntry(tar.TypeLink, name, 0)
	e.Linkname = target
	return e
}

func device(typeflag byte, name string, major, minor int64) entry {
	e := newEntry(typeflag, name, 0o660)
	e.Devmajor, e.Devminor = major, minor
	return e
}

// hide is a whiteout or an opaque marker, by its full name.
func hide(name string) entry { return newEntry(tar.TypeReg, name, 0o600) }

func (e entry) mode(mode int64) entry          { e.Mode = mode; return e }
func (e entry) owner(uid, gid int) entry       { e.Uid, e.Gid = uid, gid; return e }
func (e entry) time(t time.Time) entry         { e.ModTime = t; return e }
func (e entry) kind(typeflag byte) entry       { e.Typeflag = typeflag; return e }
func (e entry) as(format tar.Format) entry     { e.Format = format; return e }
func (e entry) xattr(name, value string) entry { return e.pax(paxXattr+name, value) }

func (e entry) pax(key, value string) entry {
	e.PAXRecords = maps.Clone(e.PAXRecords)
	if e.PAXRecords == nil {
		e.PAXRecords = map[string]string{}
	}
	e.PAXRecords[key] = value
	return e
}

// archive returns a layer as a tar stream.
func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	if len(entries) == 1 && entries[0].note == nothing[0].note {
		return nil
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if e.raw != nil {
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			b.Write(e.raw)
			continue
		}
		if e.Format == 0 {
			e.Format = tar.FormatPAX
		}
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatalf("write header of %q: %v", e.Name, err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatalf("write %q: %v", e.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// memory is a sink whose contents are strings.
type memory struct{}

func (memory) WriteContent(r io.Reader, size int64) (Content, error) {
	b, err := io.ReadAll(r)
	if err == nil && int64(len(b)) != size {
		err = fmt.Errorf("got %d bytes, want %d", len(b), size)
	}
	return string(b), err
}

// apply returns the tree of layers, which are called "1", "2" and so on.
func apply(t testing.TB, layers ...[]entry) (*Tree, error) {
	t.Helper()
	tree := New(Options{})
	for i, entries := range layers {
		if err := tree.Apply(fmt.Sprint(i+1), bytes.NewReader(archive(t, entries...)), memory{}); err != nil {
			return tree, err
		}
	}
	return tree, nil
}

// item is one line of a listing, of a tree or of a directory on disk.
type item struct {
	path         string
	mode         fs.FileMode
	uid, gid     uint32
	major, minor uint32
	mtime        time.Time
	target, body string
	xattrs       map[string]string
	inode        any // equal for the names of one file
	nlink        int
}

// listing is the form in which tests state a tree: a line for each name, sorted.
func listing(items []item) string {
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.path, b.path) })
	first := map[any]string{}
	var b strings.Builder
	for _, it := range items {
		if path, ok := first[it.inode]; ok && !it.mode.IsDir() {
			fmt.Fprintf(&b, "%s = %s\n", show(it.path), show(path))
			continue
		}
		first[it.inode] = it.path
		if line := it.String(); line != "./ 755" {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// String leaves out what is zero, and the time of a directory, which an unpacked
// image cannot keep for those that no entry describes.
func (it item) String() string {
	perm := fmt.Sprintf("%03o", tarMode(it.mode))
	var line string
	switch it.mode.Type() {
	case fs.ModeDir:
		line = strings.TrimSuffix(show(it.path), "/") + "/ " + perm
	case fs.ModeSymlink:
		line = show(it.path) + " -> " + show(it.target)
		if it.mode.Perm() != 0o777 {
			line += " " + perm
		}
	case fs.ModeNamedPipe:
		line = show(it.path) + " fifo " + perm
	case fs.ModeDevice:
		line = fmt.Sprintf("%s block %d:%d %s", show(it.path), it.major, it.minor, perm)
	case fs.ModeDevice | fs.ModeCharDevice:
		line = fmt.Sprintf("%s char %d:%d %s", show(it.path), it.major, it.minor, perm)
	default:
		line = fmt.Sprintf("%s %s %q", show(it.path), perm, it.body)
		if len(it.body) > 100_000 {
			line = fmt.Sprintf("%s %s %d bytes %x", show(it.path), perm, len(it.body), sha256.Sum256([]byte(it.body)))
		}
	}
	if it.uid != 0 || it.gid != 0 {
		line += fmt.Sprintf(" @%d:%d", it.uid, it.gid)
	}
	if !it.mode.IsDir() && !it.mtime.Equal(time.Unix(0, 0)) {
		line += " t=" + seconds(it.mtime)
	}
	if !it.mode.IsDir() && it.nlink != 1 {
		line += fmt.Sprintf(" links=%d", it.nlink)
	}
	for _, name := range slices.Sorted(maps.Keys(it.xattrs)) {
		line += fmt.Sprintf(" {%s=%q}", name, it.xattrs[name])
	}
	return line
}

// seconds returns a time as a PAX header has it.
func seconds(t time.Time) string {
	if sec, nsec := t.Unix(), t.Nanosecond(); sec < 0 && nsec > 0 {
		return fmt.Sprintf("-%d.%09d", -sec-1, 1e9-nsec)
	}
	return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond())
}

// show returns a name as a listing has it: in quotes where it would be misread.
func show(name string) string {
	if quoted := strconv.Quote(name); quoted != `"`+name+`"` || strings.TrimSpace(name) != name || name == "" {
		return quoted
	}
	return name
}

// tarMode is the inverse of mode.
func tarMode(m fs.FileMode) int64 {
	bits := int64(m.Perm())
	if m&fs.ModeSetuid != 0 {
		bits |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		bits |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		bits |= 0o1000
	}
	return bits
}

func list(tree *Tree) string {
	var items []item
	_ = tree.Walk(func(path string, n *Node) error {
		body, _ := n.Content.(string)
		items = append(items, item{
			path: path, mode: n.Mode, uid: n.UID, gid: n.GID, major: n.Major, minor: n.Minor,
			mtime: n.ModTime, target: n.Target, body: body, xattrs: n.Xattrs, inode: n, nlink: n.Nlink(),
		})
		return nil
	})
	return listing(items)
}

// lines takes the indentation out of a listing in a test.
func lines(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

func warningKinds(tree *Tree) string {
	var all []string
	for _, w := range tree.Warnings {
		all = append(all, string(w.Kind))
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), " ")
}

func quoted(s string) string { return fmt.Sprintf("%q", s) }

// parents is the listing of a path of directories.
func parents(path string) string {
	var b strings.Builder
	for i, c := range path + "/" {
		if c == '/' {
			b.WriteString(path[:i] + "/ 755\n")
		}
	}
	return b.String()
}

// chain returns the directory l00 and n symlinks l01 and so on, each to the one before.
func chain(n int) []entry {
	entries := []entry{dir("l00")}
	for i := range n {
		entries = append(entries, symlink(fmt.Sprintf("l%02d", i+1), fmt.Sprintf("l%02d", i)))
	}
	return entries
}

// chainListing is what chain(n) becomes with a file x written through its end.
func chainListing(n int) string {
	s := "l00/ 755\nl00/x 644 \"x\"\n"
	for i := range n {
		s += fmt.Sprintf("l%02d -> l%02d\n", i+1, i)
	}
	return s
}

func globalHeader() entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"path": "wrong", "comment": "a commit"}}}
}
