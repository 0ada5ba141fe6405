package rootfs

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing"
	"time"
)

// reference states the rules the slow and plain way, with symlinks. It keeps no
// marks and remembers nothing between two entries but the tree itself: what a
// whiteout may take away is found by looking at every name below.
type reference struct {
	root   *ref
	layer  int
	hidden map[place]*ref // what whiteouts of this layer took away
}

// ref is an inode.
type ref struct {
	item
	names map[string]*refName // of a directory
	later string              // target of a hard link that is not there yet
}

type refName struct {
	node  *ref
	layer int
}

type place struct {
	dir  *ref
	name string
}

func newRefDir(mode fs.FileMode) *ref {
	return &ref{item: item{mode: fs.ModeDir | mode}, names: map[string]*refName{}}
}

func (r *ref) isDir() bool { return r.mode.IsDir() }

// child returns what name is in dir; what is hidden comes first if that is wanted.
func (m *reference) child(dir *ref, name string, hidden bool) *ref {
	if n := m.hidden[place{dir, name}]; hidden && n != nil {
		return n
	}
	if e := dir.names[name]; e != nil {
		return e.node
	}
	return nil
}

// dir returns the directory at a path, or nil; make makes what is missing.
func (m *reference) dir(at string, hidden, make bool) (*ref, error) {
	way, links := []*ref{m.root}, 0
	for rest := strings.Split(at, "/"); len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		here := way[len(way)-1]
		n := m.child(here, name, hidden)
		switch {
		case name == "" || name == ".":
		case name == "..":
			way = way[:max(1, len(way)-1)]
		case n != nil && n.mode.Type() == fs.ModeSymlink:
			if links++; links > 40 {
				return nil, errLoop
			}
			if path.IsAbs(n.target) {
				way = way[:1]
			}
			rest = append(strings.Split(n.target, "/"), rest...)
		case n != nil && n.isDir():
			way = append(way, n)
		case !make:
			return nil, nil
		default:
			n = newRefDir(0o755)
			here.names[name] = &refName{n, m.layer}
			way = append(way, n)
		}
	}
	return way[len(way)-1], nil
}

// file returns the file that a hard link's target is, or nil.
func (m *reference) file(target string) (*ref, error) {
	dirs := 0
	for _, hidden := range []bool{false, true} {
		dir, err := m.dir(path.Dir(target), hidden, false)
		if err != nil {
			return nil, err
		}
		if dir == nil {
			continue
		}
		n := m.child(dir, path.Base(target), hidden)
		if target == "/" || n != nil && n.isDir() {
			dirs++
		} else if n != nil {
			return n, nil
		}
	}
	if dirs > 0 {
		return nil, errIsDir
	}
	return nil, nil
}

// ownBelow reports whether this layer has a name below n.
func (m *reference) ownBelow(n *ref) bool {
	for _, e := range n.names {
		if e.layer == m.layer || m.ownBelow(e.node) {
			return true
		}
	}
	return false
}

// hide takes away what lower layers have at name and below.
func (m *reference) hide(dir *ref, name string) {
	e := dir.names[name]
	switch {
	case e == nil:
		return
	case e.layer != m.layer && !m.ownBelow(e.node):
		m.hidden[place{dir, name}] = e.node
		delete(dir.names, name)
		return
	case e.layer != m.layer:
		e.layer, e.node.item = m.layer, newRefDir(0o755).item
	}
	m.hideBelow(e.node)
}

func (m *reference) hideBelow(dir *ref) {
	for name := range dir.names {
		m.hide(dir, name)
	}
}

func (m *reference) entry(e entry) error {
	at := path.Clean("/" + e.Name)
	parent, name := path.Dir(at), path.Base(at)
	whiteout, isWhiteout := strings.CutPrefix(name, whiteoutPrefix)
	if e.Typeflag == tar.TypeChar {
		whiteout, isWhiteout = name, true
	}
	if at == "/" {
		return nil
	}
	if isWhiteout {
		dir, err := m.dir(parent, false, false)
		switch {
		case dir == nil:
			return err
		case name == opaqueMarker:
			m.hideBelow(dir)
		default:
			m.hide(dir, whiteout)
		}
		return nil
	}
	n := &ref{item: item{mode: mode(e.Mode), body: e.body}}
	switch e.Typeflag {
	case tar.TypeDir:
		n = newRefDir(mode(e.Mode))
	case tar.TypeSymlink:
		n.mode, n.target = fs.ModeSymlink|0o777, e.Linkname
	case tar.TypeLink:
		target := path.Clean("/" + e.Linkname)
		found, err := m.file(target)
		if err != nil {
			return err
		}
		if n = found; n == nil || n.later != "" {
			n = &ref{later: target}
		}
	}
	dir, err := m.dir(parent, false, true)
	if err != nil {
		return err
	}
	if old := dir.names[name]; old != nil && old.node.isDir() && n.isDir() {
		old.layer, old.node.item = m.layer, n.item
		return nil
	}
	dir.names[name] = &refName{n, m.layer}
	return nil
}

// apply applies a layer.
func (m *reference) apply(layer []entry) error {
	m.layer++
	m.hidden = map[place]*ref{}
	for _, e := range layer {
		if err := m.entry(e); err != nil {
			return err
		}
	}
	bound := map[*ref]*ref{}
	var failed error
	m.walk(m.root, func(e *refName) {
		n := e.node
		for steps := 0; n != nil && n.later != "" && failed == nil; steps++ {
			if n, failed = m.file(n.later); steps > len(layer) {
				failed = errLinksUp
			}
		}
		if n == nil && failed == nil {
			failed = errNoFile
		}
		bound[e.node] = n
	})
	if failed != nil {
		return failed
	}
	m.walk(m.root, func(e *refName) { e.node = bound[e.node] })
	return nil
}

func (m *reference) walk(dir *ref, visit func(e *refName)) {
	for _, e := range dir.names {
		visit(e)
		m.walk(e.node, visit)
	}
}

// String is the listing of the tree.
func (m *reference) String() string {
	links := map[*ref]int{}
	m.walk(m.root, func(e *refName) { links[e.node]++ })
	var items []item
	var list func(dir *ref, at string)
	list = func(dir *ref, at string) {
		for name, e := range dir.names {
			it := e.node.item
			it.path, it.inode, it.nlink, it.mtime = at+name, e.node, links[e.node], time.Unix(0, 0)
			items = append(items, it)
			list(e.node, at+name+"/")
		}
	}
	list(m.root, "")
	return listing(items)
}

// fuzzLayers makes layers of any bytes: names are few, so that they collide.
func fuzzLayers(b []byte) layers {
	next := func(n int) int {
		if len(b) == 0 {
			return 0
		}
		c := b[0]
		b = b[1:]
		return int(c) % n
	}
	name := func() string {
		parts := make([]string, 1+next(3))
		for i := range parts {
			parts[i] = []string{"a", "b", "c", "a", "b", "c", "d", ".."}[next(8)]
		}
		return strings.Join(parts, "/")
	}
	image := layers{nil}
	for i := 0; len(b) > 0 && i < 60; i++ {
		last := len(image) - 1
		var e entry
		switch p := name(); next(11) {
		case 0, 1:
			e = dir(p).mode(int64(0o700 + next(64)))
		case 2, 3:
			e = file(p, fmt.Sprint(i))
		case 4, 5:
			e = symlink(p, []string{"", "/"}[next(2)]+name())
		case 6:
			e = link(p, name())
		case 7, 8:
			e = hide(path.Join(path.Dir(p), whiteoutPrefix+strings.TrimLeft(path.Base(p), ".")+"a"[:next(2)]))
			if strings.HasSuffix(e.Name, whiteoutPrefix) {
				e.Name += "b"
			}
		case 9:
			e = hide(p + "/" + opaqueMarker)
		case 10:
			if last < 2 {
				image = append(image, nil)
				continue
			}
			e = device(tar.TypeChar, p, 0, 0)
		}
		image[last] = append(image[last], e)
	}
	return image
}

// FuzzMerge compares two or three layers of any bytes with the reference.
func FuzzMerge(f *testing.F) {
	f.Add([]byte("\x01\x00\x01\x00\x00\x00\x02\x02\x00\x0a\x00\x01\x09"))
	f.Fuzz(func(t *testing.T, b []byte) {
		image := fuzzLayers(b)
		tree := New(Options{})
		want := &reference{root: newRefDir(0o755)}
		for i, layer := range image {
			err := tree.Apply(fmt.Sprint(i+1), bytes.NewReader(archive(t, layer...)), memory{})
			wantErr := want.apply(layer)
			if (err != nil) != (wantErr != nil) {
				t.Fatalf("layer %d: got error %v, want %v\n%s", i+1, err, wantErr, describe(image))
			}
			if err != nil {
				return
			}
			if got := list(tree); got != want.String() {
				t.Fatalf("layer %d: got\n%swant\n%s%s", i+1, got, want, describe(image))
			}
			checkTree(t, tree)
		}
	})
}
