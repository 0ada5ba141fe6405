package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"time"
)

// promise is a hard link whose target was not there yet when it was read.
type promise struct {
	names  []string // its path
	dir    *Node    // where its path has led
	stub   *Node    // stands in dir until the layer has ended, unless it is replaced
	target []string
	header *Node
	node   *Node // what the target is, once that is known
}

// link applies a hard link. It binds to the inode that the target names now: in
// the tree as it is, or else among what this layer has hidden, for a layer may
// rename a file by a whiteout and a link. header has the attributes of the entry.
func (l *layer) link(linkname string, header *Node) error {
	target, clamped, err := split(nil, linkname)
	if err != nil {
		return fmt.Errorf("hard link to %s: %w", quote(linkname), err)
	}
	if clamped {
		l.warn(PathClamped, "took the link target %s for %s", quote(linkname), quote(join(target)))
	}
	n, err := l.target(target)
	if err != nil {
		return fmt.Errorf("hard link to %s: %w", quote(linkname), err)
	}
	if n != nil && n.Mode.Type() != fs.ModeIrregular {
		if err := l.merge(n, header); err != nil {
			return err
		}
		_, err := l.place(l.names, n)
		return err
	}
	if err := l.tree.use(0, int64(len(join(l.names))+len(join(target)))); err != nil {
		return err
	}
	p := promise{
		stub: &Node{Mode: fs.ModeIrregular}, header: header,
		names: cloneNames(l.names), target: cloneNames(target),
	}
	l.stubs[p.stub] = len(l.promises)
	p.dir, err = l.place(l.names, p.stub)
	l.promises = append(l.promises, p)
	return err
}

// target returns the file that a hard link's target names, or nil.
func (l *layer) target(names []string) (*Node, error) {
	if len(names) == 2 && names[0] == linkDir {
		return l.linked[names[1]], nil
	}
	if len(names) == 0 {
		return nil, errIsDir
	}
	var isDir bool
	for _, v := range []view{current, lower} {
		last := len(names) - 1
		dir, err := l.find(names[:last], v)
		if err != nil {
			return nil, err
		}
		if dir == nil {
			continue
		}
		n := l.look(dir, names[last], v)
		if n != nil && !n.IsDir() {
			return n, nil
		}
		isDir = isDir || n != nil
	}
	if isDir {
		return nil, errIsDir
	}
	return nil, nil
}

var (
	errIsDir   = errors.New("the target is a directory")
	errNoFile  = errors.New("the target is not in the image")
	errLinksUp = errors.New("the target is a link that leads back to it")
)

// keepPromises binds the links whose targets came later in the layer. A target
// may be such a link itself, but no path leads through one, even if it becomes
// a symlink: what a link means must not depend on which is bound first.
func (l *layer) keepPromises() error {
	for i := range l.promises {
		if err := l.keepPromise(i); err != nil {
			return err
		}
	}
	for _, p := range l.promises {
		if p.stub.links == 0 {
			continue // replaced
		}
		if err := l.put(p.dir, p.names[len(p.names)-1], p.node); err != nil {
			return err
		}
	}
	return nil
}

// keepPromise finds the file of a link, and of all that it leads to.
func (l *layer) keepPromise(i int) error {
	var chain []int
	var n *Node
	for more := l.promises[i].stub.links > 0; more; i, more = l.stubs[n] {
		p := l.promises[i]
		if p.node != nil {
			n = p.node
			break
		}
		fail := func(err error) error {
			return fmt.Errorf("entry %s: hard link to %s: %w", quote(join(p.names)), quote(join(p.target)), err)
		}
		var err error
		chain = append(chain, i)
		switch n, err = l.target(p.target); {
		case err != nil:
			return fail(err)
		case n == nil:
			return fail(errNoFile)
		case len(chain) > len(l.promises):
			return fail(errLinksUp)
		}
	}
	for len(chain) > 0 {
		p := &l.promises[chain[len(chain)-1]]
		chain = chain[:len(chain)-1]
		p.node = n
		if err := l.merge(n, p.header); err != nil {
			return fmt.Errorf("entry %s: %w", quote(join(p.names)), err)
		}
	}
	return nil
}

// merge applies the attributes in a hard link's header to the inode, as chown,
// chmod and setxattr through the new name would.
func (l *layer) merge(n, header *Node) error {
	// Some writers do not fill in the header of a link.
	if header.UID == 0 && header.GID == 0 && header.Mode == 0 && header.ModTime.Equal(time.Unix(0, 0)) && len(header.Xattrs) == 0 {
		return nil
	}
	n.UID, n.GID = header.UID, header.GID
	if n.Mode.Type() == fs.ModeSymlink {
		return nil
	}
	n.Mode = n.Mode.Type() | header.Mode
	n.ModTime = header.ModTime
	for name, value := range header.Xattrs {
		if old, ok := n.Xattrs[name]; !ok || old != value {
			return l.mergeXattrs(n, header.Xattrs)
		}
	}
	return nil
}

func (l *layer) mergeXattrs(n *Node, more map[string]string) error {
	all := map[string]string{}
	maps.Copy(all, n.Xattrs)
	maps.Copy(all, more)
	if err := checkXattrs(all); err != nil {
		return err
	}
	var err error
	n.Xattrs, err = l.tree.intern(all)
	return err
}

// keepLinked keeps what aufs has in its directory of pseudo-links, where hard
// links of the layer find it. It skips all other metadata of aufs.
func (l *layer) keepLinked() error {
	if len(l.names) != 2 || l.names[0] != linkDir || !isRegular(l.header.Typeflag) {
		return nil
	}
	n, err := l.node()
	if err != nil {
		return err
	}
	name := strings.Clone(l.names[1])
	if err := l.tree.use(0, int64(len(name))); err != nil {
		return err
	}
	l.linked[name] = n
	return l.write(n)
}
