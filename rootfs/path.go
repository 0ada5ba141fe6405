package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// Errors of path resolution, named as the kernel's.
var (
	errLoop    = fmt.Errorf("more than %d symlinks in the path", maxLinks)
	errTooLong = fmt.Errorf("path is longer than %d bytes", maxPath)
)

// split appends the components of a name in an archive to names. The name is
// cleaned as text, as all runtimes do: "a/../b" is "b" even when a is a symlink.
// clamped says that a ".." was above the root. A whiteout is as long as the name
// that it hides: a name of 255 bytes can be hidden as well.
func split(names []string, name string) (_ []string, clamped bool, err error) {
	if len(name) > maxPAX {
		return nil, false, errTooLong
	}
	size := 0
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
		case "..":
			if len(names) == 0 {
				clamped = true
				continue
			}
			size -= 1 + len(hides(names[len(names)-1]))
			names = names[:len(names)-1]
		default:
			if err := checkName(hides(part)); err != nil {
				return nil, false, err
			}
			size += 1 + len(hides(part))
			names = append(names, part)
		}
	}
	if size > maxPath {
		return nil, false, errTooLong
	}
	return names, clamped, nil
}

// checkName reports what Linux cannot have as a name. A PAX record can carry a
// NUL: archive/tar lets it pass in GNU.sparse.name.
func checkName(name string) error {
	switch {
	case len(name) > maxName:
		return fmt.Errorf("name %s is %d bytes, more than %d", quote(name), len(name), maxName)
	case strings.IndexByte(name, 0) >= 0:
		return fmt.Errorf("name %s has a NUL", quote(name))
	}
	return nil
}

func join(names []string) string { return "/" + strings.Join(names, "/") }

// quote makes a name of a layer fit for a message: short, and harmless to a terminal.
func quote(name string) string {
	const most = 300
	if len(name) > most {
		return strconv.Quote(name[:most]) + "..."
	}
	return strconv.Quote(name)
}

// view is which names a resolution sees.
type view int

const (
	current view = iota // the tree as it is now
	lower               // what this layer has hidden comes first
)

// look returns what name leads to in dir, or nil.
func (l *layer) look(dir *Node, name string, v view) *Node {
	if v == lower {
		if n := l.hidden[dir][name]; n != nil {
			return n
		}
	}
	return dir.Child(name)
}

// step is a directory on the way from the root, and the length of its path.
type step struct {
	dir  *Node
	size int
}

// resolve follows names from the root through directories and symlinks as the
// kernel does in a chroot. Where they lead to no directory the result is empty,
// or, with create, a directory is made and the way to it marked as touched.
func (l *layer) resolve(names []string, v view, create bool) (step, error) {
	path := append(l.path[:0], step{dir: l.tree.Root})
	defer func() { l.path = path[:0] }()
	links, steps := 0, 0
	for len(names) > 0 {
		// Without a bound on the steps, 40 symlinks of 2,000 components each
		// make one header of 512 bytes cost a millisecond.
		if steps++; steps > maxPath {
			return step{}, errTooLong
		}
		name := names[0]
		names = names[1:]
		here := path[len(path)-1]
		if name == ".." {
			path = path[:max(1, len(path)-1)]
			continue
		}
		next := l.look(here.dir, name, v)
		if next != nil && next.Mode.Type() == fs.ModeSymlink {
			if links++; links > maxLinks {
				return step{}, errLoop
			}
			if next.Target[0] == '/' {
				path = path[:1]
			}
			names = append(targetNames(next.Target), names...)
			continue
		}
		if next == nil || !next.IsDir() {
			if !create {
				return step{}, nil
			}
			l.touch(path)
			var err error
			if next, err = l.imply(here.dir, name, next); err != nil {
				return step{}, err
			}
		}
		here = step{next, here.size + 1 + len(name)}
		if here.size > maxPath {
			return step{}, errTooLong
		}
		path = append(path, here)
	}
	if create {
		l.touch(path)
	}
	return path[len(path)-1], nil
}

// touch marks directories as having something of this layer below them.
func (l *layer) touch(path []step) {
	for _, s := range path {
		s.dir.open().touched = l.tree.layers
	}
}

// targetNames are the components of a symlink's target, ".." included: unlike in
// an entry's name, it means the parent of wherever the path has led.
func targetNames(target string) []string {
	var names []string
	for part := range strings.SplitSeq(target, "/") {
		if part != "" && part != "." {
			names = append(names, part)
		}
	}
	return names
}

// find returns the directory that names lead to, or nil.
func (l *layer) find(names []string, v view) (*Node, error) {
	at, err := l.resolve(names, v, false)
	return at.dir, err
}

// parent returns the directory that names lead to, for an entry that goes into
// it; what is missing is made.
func (l *layer) parent(names []string) (step, error) {
	return l.resolve(names, current, true)
}

// imply makes the directory that an entry's path needs at dir/name.
func (l *layer) imply(dir *Node, name string, old *Node) (*Node, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if strings.HasPrefix(name, whiteoutPrefix) {
		return nil, errors.New("path leads through a symlink into a whiteout")
	}
	if err := l.tree.use(1, 0); err != nil {
		return nil, err
	}
	if old != nil {
		l.warn(ParentReplaced, "replaced the file %s by a directory", quote(name))
	}
	n := l.tree.newImplied()
	return n, l.put(dir, name, n)
}
