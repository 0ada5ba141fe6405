package rootfs

import (
	"errors"
	"strings"
)

// Names of image-spec layer.md, "Whiteouts", and of aufs, which they come from.
const (
	whiteoutPrefix = ".wh."
	metadataPrefix = ".wh..wh." // of aufs; all but opaqueMarker is its own business
	opaqueMarker   = ".wh..wh..opq"
	linkDir        = ".wh..wh.plnk" // at the root: files with hard links, under their inode numbers
)

// The rule is that the whiteouts of a layer hide what lower layers have and
// nothing else, wherever in the layer they stand. The intuitive ways both fail:
// to remove what is there when a whiteout is read removes entries of its own
// layer, and to apply all whiteouts first resolves their parents in the wrong
// tree: a layer that replaces the symlink lib -> usr/lib by an opaque directory
// would empty usr/lib. So every name knows its layer, and a whiteout takes away,
// at its place, exactly the names of lower ones. What it takes away is
// remembered until the end of the layer, for hard links.

// hide removes what lower layers have at name in dir. What this layer put there
// stays; a lower directory that only leads to it becomes an implied one.
func (l *layer) hide(dir *Node, name string) {
	e, exists := dir.open().names[name]
	if !exists {
		return
	}
	if e.layer != l.tree.layers {
		if !e.node.IsDir() || e.node.open().touched != l.tree.layers {
			l.remember(dir, name, e.node)
			dir.dir.release(e.node)
			delete(dir.dir.names, name)
			return
		}
		e.node.describe(&l.tree.implied)
		dir.dir.names[name] = dirent{e.node, l.tree.layers}
	}
	if e.node.IsDir() {
		l.seal(e.node)
	}
}

// seal hides all names of lower layers in dir, at any depth. It does so once
// for each layer: afterwards there are none.
func (l *layer) seal(dir *Node) {
	d := dir.open()
	if d.sealed == l.tree.layers {
		return
	}
	d.sealed = l.tree.layers
	for name := range d.names {
		l.hide(dir, name)
	}
}

func (l *layer) remember(dir *Node, name string, n *Node) {
	if l.hidden[dir] == nil {
		l.hidden[dir] = map[string]*Node{}
	}
	l.hidden[dir][name] = n
}

// whiteout hides the lower layers' name in the directory that parents lead to.
func (l *layer) whiteout(parents []string, name string) error {
	dir, err := l.find(parents, current)
	if dir != nil {
		l.hide(dir, name)
	}
	return err
}

// opaque hides all names of lower layers in the directory that names lead to.
func (l *layer) opaque(names []string) error {
	dir, err := l.find(names, current)
	if dir != nil {
		l.seal(dir)
	}
	return err
}

// hides returns the name that a whiteout is for; any other name is its own.
func hides(name string) string { return strings.TrimPrefix(name, whiteoutPrefix) }

// reserved deals with an entry that has a reserved name in its path, and reports
// whether it had.
func (l *layer) reserved() (bool, error) {
	for i, name := range l.names {
		if !strings.HasPrefix(name, whiteoutPrefix) {
			continue
		}
		switch hidden := hides(name); {
		case strings.HasPrefix(name, metadataPrefix):
			if i == len(l.names)-1 && name == opaqueMarker {
				return true, l.opaque(l.names[:i])
			}
			return true, l.keepLinked()
		case i < len(l.names)-1:
			l.warn(EntrySkipped, "skipped an entry inside the whiteout %s", quote(name))
			return true, nil
		case hidden == "" || hidden == "." || hidden == "..":
			// Other tools wipe the parent directory or the root here.
			return true, errors.New("a whiteout that names no file")
		default:
			return true, l.whiteout(l.names[:i], hidden)
		}
	}
	return false, nil
}
