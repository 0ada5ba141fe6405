package compare

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"banger/internal/api"
)

// A file is an inode: everything but its names.
type file struct {
	mode         fs.FileMode // type and permissions
	uid, gid     uint32
	mtime        time.Time
	major, minor uint32
	target       string
	size         int64             // -1: unknown
	xattrs       map[string]string // ACLs as text
	names        uint32            // how many there are in its tree
	links        uint32            // of a disk: how many the inode says
	changed      changed           // of a disk

	// Where the content is: entry n of a layer, or known by its SHA-256.
	layer, entry int
	sha256       string

	link *promise // stands for a link until its target is known
}

// stub is the type of a file that stands for a link whose target comes later.
const stub = fs.ModeIrregular

// A name is where a file is. Names of a directory are unique to it.
type name struct {
	*file
	base     string
	parent   *name // nil of the root
	children map[string]*name
	layer    int // that put it there, or needed it as a directory
}

// A merge is the tree that layers add up to.
type merge struct {
	root    *name
	implied file // a directory that no layer describes
	layer   int  // the current one
	entry   int

	before   *name // the tree before the first whiteout of the layer; nil: there was none
	promises []*promise
	plinks   map[string]*file // of aufs, in this layer

	added    bool // the current layer is what came on top
	replaced map[*name]bool
}

func newMerge(created time.Time) *merge {
	if created.IsZero() {
		created = time.Unix(0, 0)
	}
	m := &merge{implied: file{mode: fs.ModeDir | 0o755, mtime: created}, replaced: map[*name]bool{}}
	root := m.implied
	m.root = &name{file: &root, children: map[string]*name{}}
	return m
}

// eachEntry calls fn with every entry of a layer and its number, and reads the
// stream to its end, where it is verified.
func eachEntry(ctx context.Context, l Layer, p api.Progress, fn func(n int, h *tar.Header, content io.Reader) error) (err error) {
	stream, err := l.Open(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stream.Close()) }()
	// Hidden behind a buffer, a stream cannot be seeked over.
	in := bufio.NewReaderSize(stream, 1<<20)
	for r, n := tar.NewReader(in), 0; ; n++ {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = fn(n, h, r)
		}
		if err != nil {
			return fmt.Errorf("layer %s: entry %d: %w", l.Digest, n, err)
		}
	}
	_, err = io.Copy(io.Discard, in)
	return err
}

// apply puts a layer on top.
func (m *merge) apply(ctx context.Context, l Layer, p api.Progress) error {
	m.begin()
	err := eachEntry(ctx, l, p, func(n int, h *tar.Header, _ io.Reader) error {
		m.entry = n
		return m.add(h)
	})
	for _, p := range m.promises {
		if err == nil {
			err = m.keep(p)
		}
	}
	return err
}

func (m *merge) begin() {
	m.layer++
	m.before, m.promises, m.plinks = nil, nil, map[string]*file{}
}

// add applies an entry.
func (m *merge) add(h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	parts := split(h.Name)
	if done, err := m.special(parts, h); done || err != nil {
		return err
	}
	last := len(parts) - 1
	switch h.Typeflag {
	case tar.TypeLink:
		return m.link(parts, split(h.Linkname), m.describe(h))
	case tar.TypeChar:
		if h.Devmajor == 0 && h.Devminor == 0 { // a whiteout of overlayfs
			return m.whiteout(parts[:last], parts[last])
		}
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse, tar.TypeDir, tar.TypeSymlink, tar.TypeBlock, tar.TypeFifo:
	default:
		return nil
	}
	_, err := m.place(parts, m.describe(h))
	return err
}

// split cleans a path as text.
func split(p string) []string {
	p = path.Clean("/" + p)[1:]
	if p == "" {
		return nil
	}
	return strings.Split(p, "/")
}

// special applies an entry for the root, or with a name that means something;
// done says whether it was one.
func (m *merge) special(parts []string, h *tar.Header) (done bool, err error) {
	if len(parts) == 0 {
		if h.Typeflag == tar.TypeDir {
			m.root.xattrs = m.describe(h).xattrs
		}
		return true, nil
	}
	for i, part := range parts {
		hidden, ok := strings.CutPrefix(part, ".wh.")
		last := i == len(parts)-1
		switch {
		case !ok:
		case part == ".wh..wh..opq" && last:
			return true, m.opaque(parts[:i])
		case strings.HasPrefix(hidden, ".wh."): // of aufs
			regular := h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeCont || h.Typeflag == tar.TypeGNUSparse
			if len(parts) == 2 && parts[0] == ".wh..wh.plnk" && regular {
				m.plinks[parts[1]] = m.describe(h)
			}
			return true, nil
		case !last:
			return true, nil
		case hidden == "" || hidden == "." || hidden == "..":
			return true, fmt.Errorf("whiteout %q of nothing", part)
		default:
			return true, m.whiteout(parts[:i], hidden)
		}
	}
	return false, nil
}

// follow returns the directory that a path leads to from root, through symlinks;
// nil if to none. With create, one is made.
func (m *merge) follow(root *name, parts []string, create bool) (*name, error) {
	at := root
	for links := 0; len(parts) > 0; {
		part := parts[0]
		parts = parts[1:]
		if part == "" || part == "." {
			continue
		}
		if part == ".." {
			if at.parent != nil {
				at = at.parent
			}
			continue
		}
		next := at.children[part]
		switch {
		case next != nil && next.mode.Type() == fs.ModeSymlink:
			if links++; links > 40 {
				return nil, errors.New("more than 40 symlinks")
			}
			if strings.HasPrefix(next.target, "/") {
				at = root
			}
			parts = append(strings.Split(next.target, "/"), parts...)
		case next != nil && next.mode.IsDir():
			at = next
		case create:
			implied := m.implied
			at = m.put(at, part, &implied)
		default:
			return nil, nil
		}
	}
	return at, nil
}

// place puts a file at a path; nil if it has no place in an image.
func (m *merge) place(parts []string, f *file) (*name, error) {
	last := len(parts) - 1
	dir, err := m.follow(m.root, parts[:last], true)
	if err != nil {
		return nil, err
	}
	if dir == m.root && !f.mode.IsDir() && !m.added {
		switch parts[last] { // of eStargz
		case ".prefetch.landmark", ".no.prefetch.landmark", "stargz.index.json":
			return nil, nil
		}
	}
	return m.put(dir, parts[last], f), nil
}

// put puts a file in a directory. A directory over a directory keeps what is in
// it.
func (m *merge) put(dir *name, base string, f *file) *name {
	base = strings.Clone(base) // else it keeps the whole header
	old := dir.children[base]
	n := &name{file: f, base: base, parent: dir, layer: m.layer}
	if f.mode.IsDir() {
		n.children = map[string]*name{}
	}
	if old != nil && old.mode.IsDir() && f.mode.IsDir() {
		old.file, old.layer = f, m.layer
		return old
	}
	if old != nil && m.added {
		m.replaced[n] = true
	}
	dir.children[base] = n
	return n
}

// whiteout hides what lower layers have under a name.
func (m *merge) whiteout(parents []string, base string) error {
	dir, err := m.follow(m.root, parents, false)
	if err != nil || dir == nil || dir.children[base] == nil {
		return err
	}
	m.remember()
	if !m.hide(dir.children[base]) {
		delete(dir.children, base)
	}
	return nil
}

// opaque hides what lower layers have in a directory.
func (m *merge) opaque(parts []string) error {
	dir, err := m.follow(m.root, parts, false)
	if err != nil || dir == nil {
		return err
	}
	m.remember()
	for base, n := range dir.children {
		if !m.hide(n) {
			delete(dir.children, base)
		}
	}
	return nil
}

// hide hides what lower layers have at n and below it, and says whether
// something of this layer stays. A lower directory on the way to that stays as
// one that no layer describes.
func (m *merge) hide(n *name) (stays bool) {
	for base, child := range n.children {
		if !m.hide(child) {
			delete(n.children, base)
		}
	}
	if n.layer != m.layer && len(n.children) > 0 {
		implied := m.implied
		n.file, n.layer = &implied, m.layer
	}
	return n.layer == m.layer
}

// remember keeps the tree as it is, before something is hidden.
func (m *merge) remember() {
	if m.before == nil {
		m.before = m.root.clone(nil)
	}
}

func (n *name) clone(parent *name) *name {
	c := *n
	c.parent, c.children = parent, make(map[string]*name, len(n.children))
	for base, child := range n.children {
		c.children[base] = child.clone(&c)
	}
	return &c
}

// addFiles puts files on top, as one more layer.
func (m *merge) addFiles(files []api.AddedFile) error {
	m.begin()
	m.added = true
	for _, a := range files {
		f := &file{mode: fs.ModeSymlink | 0o777, mtime: m.implied.mtime, target: a.Link, size: int64(len(a.Link))}
		if a.Link == "" {
			perm, err := strconv.ParseUint(a.Mode, 8, 32)
			if err != nil {
				return fmt.Errorf("added file %s: mode %q", a.Path, a.Mode)
			}
			f = &file{mode: permissions(int64(perm)), mtime: m.implied.mtime, size: -1, sha256: a.SHA256}
		}
		if _, err := m.place(split(a.Path), f); err != nil {
			return fmt.Errorf("added file %s: %w", a.Path, err)
		}
	}
	return nil
}
