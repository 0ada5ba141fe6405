package rootfs

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
)

// FuzzApply takes any bytes for a layer over a small image. What becomes a tree
// keeps its own invariants, and the tree as one layer is the same tree again. What
// it takes of memory is in proportion to the bytes.
func FuzzApply(f *testing.F) {
	for r := range rows {
		for _, layer := range r.layers {
			if stream := archive(f, layer...); len(stream) < 1<<15 {
				f.Add(stream)
			}
		}
	}
	if names, err := filepath.Glob(filepath.Join(testdataDir(), "*.tar")); err == nil {
		for _, name := range names {
			if b, err := os.ReadFile(name); err == nil && len(b) < 1<<15 {
				f.Add(b)
			}
		}
	}
	lower := archive(f, append(slices.Clone(base), symlink("lib", "d/sub"), link("hard", "d/low"), symlink("loop", "loop"))...)
	f.Fuzz(func(t *testing.T, stream []byte) {
		options := Options{MaxBytes: 1 << 20, MaxEntries: 2000, MaxMetadata: 1 << 20}
		tree := New(options)
		if err := tree.Apply("lower", bytes.NewReader(lower), memory{}); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := tree.Apply("fuzz", bytes.NewReader(stream), memory{})
		runtime.ReadMemStats(&after)
		// Records of a few bytes in a PAX header become places in a map, twice.
		if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20+200*uint64(len(stream)) {
			t.Errorf("allocated %d bytes for %d", used, len(stream))
		}
		if err != nil {
			return
		}
		checkTree(t, tree)
		again := New(Options{MaxBytes: 1 << 24})
		if err := again.Apply("again", bytes.NewReader(tarOf(t, tree)), memory{}); err != nil {
			t.Fatalf("apply the tree itself: %v\n%s", err, list(tree))
		}
		if len(again.Warnings) > 0 && again.Warnings[0].Kind != XattrTrusted {
			t.Errorf("got warning %v about the tree itself", again.Warnings[0])
		}
		if got, want := list(again), list(tree); got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	})
}

// checkTree compares what the nodes say of themselves with what is there.
func checkTree(t *testing.T, tree *Tree) {
	t.Helper()
	names, links := 0, map[*Node]int{}
	var walk func(n *Node)
	walk = func(n *Node) {
		links[n] += 2
		for name, child := range n.Children() {
			names++
			if err := checkName(name); err != nil || name == "." || name == ".." || name == "" {
				t.Errorf("got the name %q", name)
			}
			if err := child.check(); err != nil {
				t.Errorf("%q: %v", name, err)
			}
			if child.IsDir() {
				links[n]++
				walk(child)
				continue
			}
			links[child]++
		}
	}
	walk(tree.Root)
	for n, want := range links {
		if got := n.Nlink(); got != want {
			t.Errorf("got %d links of %+v, want %d", got, n, want)
		}
	}
	if most := int(tree.opts.MaxEntries); names > most {
		t.Errorf("got %d names, want at most %d", names, most)
	}
}

// tarOf returns a tree as a layer.
func tarOf(t *testing.T, tree *Tree) []byte {
	t.Helper()
	var entries []entry
	first := map[*Node]string{}
	if err := tree.Walk(func(path string, n *Node) error {
		if to, ok := first[n]; ok {
			entries = append(entries, link(path, to))
			return nil
		}
		if !n.IsDir() {
			first[n] = path
		}
		e := newEntry(0, path, tarMode(n.Mode)).owner(int(n.UID), int(n.GID)).time(n.ModTime)
		switch n.Mode.Type() {
		case 0:
			e.Typeflag, e.Size = tar.TypeReg, n.Size
			e.body, _ = n.Content.(string)
		case fs.ModeDir:
			e.Typeflag, e.Name = tar.TypeDir, path+"/"
		case fs.ModeSymlink:
			e.Typeflag, e.Linkname = tar.TypeSymlink, n.Target
		case fs.ModeNamedPipe:
			e.Typeflag = tar.TypeFifo
		case fs.ModeDevice:
			e.Typeflag = tar.TypeBlock
		case fs.ModeDevice | fs.ModeCharDevice:
			e.Typeflag = tar.TypeChar
		}
		e.Devmajor, e.Devminor = int64(n.Major), int64(n.Minor)
		for _, name := range slices.Sorted(maps.Keys(n.Xattrs)) {
			// A PAX key has no equals sign, but a name can.
			key := ""
			for _, c := range []byte(name) {
				key += fmt.Sprintf("%%%02X", c)
			}
			e = e.pax(paxLibarchive+key, base64.RawStdEncoding.EncodeToString([]byte(n.Xattrs[name])))
		}
		entries = append(entries, e)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return archive(t, entries...)
}

// BenchmarkApply measures an image of 100,000 small files, and what a name costs
// in memory besides its bytes.
func BenchmarkApply(b *testing.B) {
	const dirs, files = 5_000, 20
	var entries []entry
	for d := range dirs {
		entries = append(entries, dir(fmt.Sprintf("usr/share/%04d", d)))
		for f := range files {
			entries = append(entries, file(fmt.Sprintf("usr/share/%04d/file-%d", d, f), "content"))
		}
	}
	stream := archive(b, entries...)
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	for b.Loop() {
		tree := New(Options{})
		if err := tree.Apply("", bytes.NewReader(stream), nowhere{}); err != nil {
			b.Fatal(err)
		}
	}
	before := heap()
	tree := New(Options{})
	if err := tree.Apply("", bytes.NewReader(stream), nowhere{}); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(heap()-before)/(dirs*(files+1)), "B/name")
	runtime.KeepAlive(tree)
	runtime.KeepAlive(stream)
}

// heap returns the bytes in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// nowhere is a sink that keeps nothing.
type nowhere struct{}

func (nowhere) WriteContent(r io.Reader, _ int64) (Content, error) {
	_, err := io.Copy(io.Discard, r)
	return nil, err
}
