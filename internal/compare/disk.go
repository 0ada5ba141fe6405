package compare

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"banger/ext4"
)

// changed is when an inode changed last, and which one it is.
type changed struct {
	ino        ext4.Ino
	generation uint32
	seconds    int64
	nanosecond int
}

// A tree is one side of a comparison: files by path, without the root, which is
// apart. Names of one file have one *file. Paths begin with a slash.
type tree struct {
	root  *file
	files map[string]*file
}

// lostFound is where e2fsck puts what it finds; every file system has it.
const lostFound = "/lost+found"

// readDisk reads everything but contents.
func readDisk(ctx context.Context, disk *ext4.FS) (tree, error) {
	t := tree{files: map[string]*file{}}
	inodes := map[ext4.Ino]*file{}
	err := fs.WalkDir(disk, ".", func(p string, d fs.DirEntry, err error) error {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("/%s: %w", p, err)
		}
		s := info.Sys().(*ext4.Stat) //nolint:forcetypeassert // what it promises
		if p == "." {
			t.root = fromStat(s)
			return nil
		}
		f := inodes[s.Ino]
		if f == nil {
			f = fromStat(s)
			inodes[s.Ino] = f
		}
		t.add("/"+p, f)
		return nil
	})
	if err != nil {
		return t, fmt.Errorf("read disk: %w", err)
	}
	return t, nil
}

func fromStat(s *ext4.Stat) *file {
	f := &file{
		mode: s.Mode, uid: s.UID, gid: s.GID, mtime: s.ModTime, target: s.Target, links: s.Links,
		changed: changed{s.Ino, s.Generation, s.ChangeTime.Unix(), s.ChangeTime.Nanosecond()},
	}
	if s.Mode&fs.ModeDevice != 0 {
		f.major, f.minor = s.Major, s.Minor
	}
	if s.Mode.IsRegular() {
		f.size = s.Size
	}
	if len(s.Xattrs) > 0 {
		f.xattrs = make(map[string]string, len(s.Xattrs))
	}
	for name, value := range s.Xattrs {
		text := value
		if name == accessACL || name == defaultACL {
			var err error
			if text, err = readACL(value); err != nil {
				text = fmt.Sprintf("%v: %x", err, value)
			}
		}
		f.xattrs[name] = text
	}
	return f
}

// tree returns the paths of a merge.
func (m *merge) tree() tree {
	t := tree{root: m.root.file, files: map[string]*file{}}
	m.root.walk("", func(p string, n *name) { t.add(p, n.file) })
	return t
}

func (t tree) add(path string, f *file) {
	t.files[path] = f
	f.names++
}

func (n *name) walk(at string, fn func(string, *name)) {
	for base, child := range n.children {
		p := at + "/" + base
		fn(p, child)
		child.walk(p, fn)
	}
}

// withoutLostFound takes the file system's own directory out of a disk's tree,
// where the other side has none. Anything in it, or wrong with it, stays.
func (t tree) withoutLostFound(want tree) {
	own := t.files[lostFound]
	if want.files[lostFound] != nil || own == nil || own.mode != fs.ModeDir|0o700 || own.uid != 0 || own.gid != 0 || len(own.xattrs) > 0 {
		return
	}
	for p := range t.files {
		if strings.HasPrefix(p, lostFound+"/") {
			return
		}
	}
	delete(t.files, lostFound)
}

// subdirs counts the directories in each directory.
func (t tree) subdirs() map[string]uint32 {
	count := map[string]uint32{}
	for p, f := range t.files {
		if f.mode.IsDir() {
			count[path.Dir(p)]++
		}
	}
	return count
}
