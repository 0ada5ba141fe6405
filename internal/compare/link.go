package compare

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"time"
)

// A promise is a hard link that comes before its target.
type promise struct {
	at      *name
	target  []string
	header  *file
	visited bool
}

// link gives a file one more name.
func (m *merge) link(parts, target []string, header *file) error {
	f, err := m.find(target)
	if err != nil {
		return err
	}
	if f != nil && f.link == nil {
		f.inherit(header)
		_, err = m.place(parts, f)
		return err
	}
	p := &promise{target: target, header: header}
	if p.at, err = m.place(parts, &file{mode: stub, link: p}); p.at != nil {
		m.promises = append(m.promises, p)
	}
	return err
}

// find returns the file that a hard link means: what the path names now, else
// what it named before this layer hid it, else nil.
func (m *merge) find(target []string) (*file, error) {
	if len(target) == 2 && target[0] == ".wh..wh.plnk" {
		return m.plinks[target[1]], nil
	}
	if len(target) == 0 {
		return nil, errors.New("hard link to the root")
	}
	last := len(target) - 1
	for _, root := range []*name{m.root, m.before} {
		if root == nil {
			continue
		}
		dir, err := m.follow(root, target[:last], false)
		if err != nil {
			return nil, err
		}
		if dir != nil && dir.children[target[last]] != nil && !dir.children[target[last]].mode.IsDir() {
			return dir.children[target[last]].file, nil
		}
	}
	return nil, nil
}

// keep gives a link its target, at the end of the layer. Links that have been
// replaced meanwhile do not matter.
func (m *merge) keep(p *promise) error {
	for n := p.at; n != m.root; n = n.parent {
		if n.parent.children[n.base] != n {
			return nil
		}
	}
	if p.at.link != p {
		return nil // kept already
	}
	f, err := m.find(p.target)
	if err == nil && f != nil && f.link != nil {
		if f.link.visited {
			return fmt.Errorf("hard link to %q: a circle", path.Join(p.target...))
		}
		p.visited = true
		next := f.link
		if err = m.keep(next); err == nil {
			f = next.at.file
		}
	}
	if err == nil && f == nil {
		err = errors.New("not there")
	}
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", path.Join(p.target...), err)
	}
	f.inherit(p.header)
	p.at.file = f
	return nil
}

// inherit applies the header of a hard link: it is the latest word on the file.
// A header with nothing in it says nothing.
func (f *file) inherit(h *file) {
	if h.mode.Perm() == 0 && h.mode&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) == 0 && h.uid == 0 && h.gid == 0 &&
		h.mtime.Equal(time.Unix(0, 0)) && len(h.xattrs) == 0 {
		return
	}
	f.uid, f.gid = h.uid, h.gid
	if f.mode.Type() == fs.ModeSymlink {
		return
	}
	f.mode, f.mtime = f.mode.Type()|h.mode&^fs.ModeType, h.mtime
	f.xattrs = maps.Clone(f.xattrs)
	if f.xattrs == nil {
		f.xattrs = map[string]string{}
	}
	maps.Copy(f.xattrs, h.xattrs)
}
