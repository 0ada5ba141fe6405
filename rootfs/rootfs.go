// Package rootfs applies the layers of an OCI image, base first, to one tree in
// memory, by the rules of https://github.com/opencontainers/image-spec/blob/main/layer.md
// and, where that text is silent, by what the container runtimes do.
//
// Call [New], then [Tree.Apply] for each layer, then read [Tree.Root] or
// [Tree.Walk]. [Tree.Add] puts further files on top.
//
// The content of files goes to a [Sink] while a layer is read; the tree keeps
// only the handle that the sink returns. What a later entry replaces is simply
// never referenced. Nothing here touches a file system, so a path in a layer
// cannot escape: ".." stops at the root of the tree, an absolute path or symlink
// starts there, and the text of a symlink is data.
//
// A hard link is a second name for the same [*Node]. What a careful user wants
// to know about a conversion is in [Tree.Warnings]; the package never logs.
package rootfs

import (
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"
)

// Content is what a [Sink] returns for a file's bytes; only its owner looks inside.
type Content = any

// Sink stores the content of regular files.
type Sink interface {
	// WriteContent reads r to its end, which is size bytes away; size is more
	// than 0. A hole in a sparse file reads as zeros.
	WriteContent(r io.Reader, size int64) (Content, error)
}

// Options are the properties of a tree. The zero value works.
type Options struct {
	// Time is the modification time of the root and of directories that no
	// layer describes. Zero: 1970-01-01.
	Time time.Time

	MaxBytes    int64 // of all layers uncompressed, and of all files with their holes; 0: 64 GiB
	MaxEntries  int64 // headers of all layers, and directories that they imply; 0: 5,000,000
	MaxMetadata int64 // bytes of names, symlink targets and extended attributes; 0: 1 GiB

	// An entry takes up to 500 bytes of memory besides its metadata.
}

// Tree is the file system that layers add up to. After an error from
// [Tree.Apply] it is in no defined state. It is not safe for concurrent use.
type Tree struct {
	Root     *Node
	Warnings []Warning // in the order of the layers, and at most some of each kind for each layer

	opts    Options
	layers  uint32 // how many have begun, which is the number of the one being applied
	used    usage
	xattrs  map[string]map[string]string // every distinct set of attributes, once
	implied Node                         // attributes of a directory that no entry describes
}

// Node is an inode: a file of any type and everything but its names. Several
// names may lead to the same node; a directory has exactly one.
type Node struct {
	Mode    fs.FileMode // type, permissions, setuid, setgid and sticky; a symlink has 0777
	UID     uint32
	GID     uint32
	links   uint32 // names, of anything but a directory
	Major   uint32 // of a device
	Minor   uint32
	ModTime time.Time         // in UTC, within what ext4 can hold
	Xattrs  map[string]string // full name to value, ACLs as in xattr(7); shared between nodes, so read-only
	Target  string            // of a symlink
	Size    int64             // of a regular file
	Content Content           // of a regular file; nil when Size is 0
	dir     *directory        // of a directory; nil while nothing was ever in it
}

// directory is what a node needs only when it is a directory. Layers are known
// by their number, which makes it cheap to forget a layer's marks.
type directory struct {
	names   map[string]dirent
	subdirs uint32
	touched uint32 // the layer that last put a name somewhere below
	sealed  uint32 // the layer in which no lower name is left below
}

// dirent is one name in a directory.
type dirent struct {
	node  *Node
	layer uint32 // the layer that has an entry for this name, or implied it
}

// New returns a tree that has only its root, which is always 0755 root:root.
func New(o Options) *Tree {
	if o.Time.IsZero() {
		o.Time = time.Unix(0, 0)
	}
	o.Time, _ = clampTime(o.Time)
	o.setDefaults()
	t := &Tree{
		opts:    o,
		xattrs:  map[string]map[string]string{},
		implied: Node{Mode: fs.ModeDir | 0o755, ModTime: o.Time},
	}
	t.Root = t.newImplied()
	return t
}

// IsDir reports whether n is a directory.
func (n *Node) IsDir() bool { return n.Mode.IsDir() }

// Nlink returns the number of links as stat(2) counts them: the names of a
// file, or of a directory its name, its "." and the ".." of its subdirectories.
func (n *Node) Nlink() int {
	switch {
	case !n.IsDir():
		return int(n.links)
	case n.dir == nil:
		return 2
	}
	return 2 + int(n.dir.subdirs)
}

// Children yields the names in a directory and their nodes, sorted bytewise.
func (n *Node) Children() iter.Seq2[string, *Node] {
	return func(yield func(string, *Node) bool) {
		if n.dir == nil {
			return
		}
		for _, name := range slices.Sorted(maps.Keys(n.dir.names)) {
			if !yield(name, n.dir.names[name].node) {
				return
			}
		}
	}
}

// Child returns the node called name in a directory, or nil.
func (n *Node) Child(name string) *Node {
	if n.dir == nil {
		return nil
	}
	return n.dir.names[name].node
}

// Walk calls fn for the root, as ".", and then for every name below it, parents
// first and names sorted bytewise. It stops at the first error and returns it.
func (t *Tree) Walk(fn func(path string, n *Node) error) error {
	if err := fn(".", t.Root); err != nil {
		return err
	}
	return t.Root.walk("", fn)
}

func (n *Node) walk(prefix string, fn func(string, *Node) error) error {
	for name, child := range n.Children() {
		path := prefix + name
		if err := fn(path, child); err != nil {
			return err
		}
		if err := child.walk(path+"/", fn); err != nil {
			return err
		}
	}
	return nil
}

// Add puts n at path, as an entry of a layer of its own would: the parents are
// resolved through symlinks, those that are missing become directories, and
// what stands at path is replaced, except that a directory over a directory
// keeps the names in it. A zero ModTime becomes [Options.Time]. The same node
// added twice is a hard link.
func (t *Tree) Add(path string, n *Node) error {
	if err := t.add(path, n); err != nil {
		return fmt.Errorf("add %s: %w", quote(path), err)
	}
	return nil
}

func (t *Tree) add(path string, n *Node) error {
	names, _, err := split(nil, path)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return fmt.Errorf("the root is there already")
	}
	for _, name := range names {
		if strings.HasPrefix(name, whiteoutPrefix) {
			return fmt.Errorf("the name %s is a whiteout's", quote(name))
		}
	}
	if n.IsDir() && n.dir != nil {
		return fmt.Errorf("this directory has a name already")
	}
	if err := n.check(); err != nil {
		return err
	}
	if n.ModTime.IsZero() {
		n.ModTime = t.opts.Time
	}
	n.ModTime, _ = clampTime(n.ModTime)
	if err := t.use(1, int64(len(n.Target))); err != nil {
		return err
	}
	l := t.newLayer("")
	l.names = names
	_, err = l.place(names, n)
	return err
}
