package rootfs

import "strings"

// newImplied returns a directory that no entry describes.
func (t *Tree) newImplied() *Node {
	n := t.implied
	return &n
}

// describe replaces all attributes of n, which keeps its names and what is in it.
func (n *Node) describe(by *Node) {
	links, dir := n.links, n.dir
	*n = *by
	n.links, n.dir = links, dir
}

// open returns what n needs as a directory.
func (n *Node) open() *directory {
	if n.dir == nil {
		n.dir = &directory{}
	}
	return n.dir
}

// place puts n at a path, whose parents are resolved and made as needed, and
// returns the directory it is in.
func (l *layer) place(names []string, n *Node) (*Node, error) {
	last := len(names) - 1
	at, err := l.parent(names[:last])
	if err != nil {
		return nil, err
	}
	if l.header != nil && at.dir == l.tree.Root && !n.IsDir() && isLandmark(names[last]) {
		return at.dir, nil
	}
	if at.size+1+len(names[last]) > maxPath {
		return nil, errTooLong
	}
	return at.dir, l.put(at.dir, names[last], n)
}

// put makes name in dir lead to n, for this layer. A directory over a directory
// gives it all its attributes; anything else replaces what is there, with all
// that is below it.
func (l *layer) put(dir *Node, name string, n *Node) error {
	d := dir.open()
	old, exists := d.names[name]
	switch {
	case exists && old.node.IsDir() && n.IsDir():
		old.node.describe(n)
		n = old.node
	default:
		if exists {
			d.release(old.node)
		} else {
			if err := l.tree.use(0, int64(len(name))); err != nil {
				return err
			}
			// A part of the header's name would keep the whole of it alive.
			name = strings.Clone(name)
		}
		if n.IsDir() {
			d.subdirs++
		} else {
			n.links++
		}
	}
	if d.names == nil {
		d.names = map[string]dirent{}
	}
	d.names[name] = dirent{n, l.tree.layers}
	return nil
}

// release takes n and all below it out of the link counts, for it is leaving d.
func (d *directory) release(n *Node) {
	if !n.IsDir() {
		n.links--
		return
	}
	d.subdirs--
	if n.dir == nil {
		return
	}
	for _, e := range n.dir.names {
		n.dir.release(e.node)
	}
}
