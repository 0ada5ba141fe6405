package ext4

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// maxCached is how many directory entries an FS remembers.
const maxCached = 1 << 20

// An entry is a name in a directory.
type entry struct {
	name string
	ino  Ino
	mode uint16 // the type; 0 if the directory does not tell
}

// A listing is a directory: its names but "." and "..", sorted, and what the
// latter says.
type listing struct {
	entries []entry
	parent  Ino
	several []Ino // that have several names in it, sorted
}

func (f *FS) listing(ino Ino) (*listing, error) {
	f.mu.Lock()
	list := f.dirs[ino]
	f.mu.Unlock()
	if list != nil {
		return list, nil
	}
	n, err := f.node(ino)
	if err != nil {
		return nil, err
	}
	if n.mode&modeType != modeDir {
		return nil, errNotDir
	}
	body, err := f.body(n)
	if err != nil {
		return nil, err
	}
	list = &listing{}
	if body.inline != nil {
		if err := f.parseInlineDir(list, body.inline); err != nil {
			return nil, fmt.Errorf("directory %d: %w", ino, err)
		}
	}
	var blocks int64
	for _, s := range body.spans {
		blocks += s.n
	}
	if blocks > f.blocks { // the same ones again and again
		return nil, fmt.Errorf("directory %d: mapping: %w", ino, errDamaged)
	}
	for _, s := range body.spans {
		for i := range min(s.n, n.size/f.blockSize-s.logical) {
			b, err := f.readBlock(s.start + i)
			if err == nil {
				err = f.parseDirBlock(list, n, s.logical+i, b)
			}
			if err != nil {
				return nil, fmt.Errorf("directory %d: block %d: %w", ino, s.logical+i, err)
			}
		}
	}
	slices.SortFunc(list.entries, func(a, b entry) int { return cmp.Compare(a.name, b.name) })
	list.several = repeated(list.entries)

	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cached += 1 + len(list.entries); f.cached > maxCached {
		clear(f.dirs)
		f.cached = 0
	}
	f.dirs[ino] = list
	return list, nil
}

// repeated returns the inodes that have more than one name in a directory.
func repeated(entries []entry) (several []Ino) {
	inos := make([]Ino, len(entries))
	for i, e := range entries {
		inos[i] = e.ino
	}
	slices.Sort(inos)
	for i := 1; i < len(inos); i++ {
		if inos[i] == inos[i-1] {
			several = append(several, inos[i])
		}
	}
	return slices.Compact(several)
}

// sealed reports whether a directory block has the right checksum. A block of
// the index has it behind its entries: a root that was the only leaf once still
// ends in the remains of a leaf's.
func sealed(n *node, logical int64, b []byte) bool {
	at := 0 // offset of limit and count
	switch indexed := n.flags&flagIndex != 0; {
	case indexed && logical == 0:
		at = dxRootCount
	case indexed && le.Uint32(b) == 0 && direntSize(b) == len(b):
		at = dxNodeCount
	}
	if at > 0 {
		limit, count := int(le.Uint16(b[at:])), int(le.Uint16(b[at+2:]))
		return count <= limit && at+(limit+1)*dxEntry <= len(b) &&
			le.Uint32(b[at+limit*dxEntry+4:]) == dxCsum(n.seed, b, at, limit, count)
	}
	tail := b[len(b)-direntTail:]
	return le.Uint16(tail[4:]) == direntTail && tail[7] == tailType &&
		le.Uint32(tail[8:]) == csum(n.seed, b[:len(b)-direntTail])
}

// direntSize is the length of an entry. 64 KiB do not fit in its 16 bits.
func direntSize(p []byte) int {
	if n := int(le.Uint16(p[4:])); n != 0 && n != 0xFFFF {
		return n
	}
	return 1 << 16
}

// parseDirBlock adds the entries of one block. Blocks of an index look like
// blocks without entries.
func (f *FS) parseDirBlock(list *listing, n *node, logical int64, b []byte) error {
	if f.checksummed && !sealed(n, logical, b) {
		return fmt.Errorf("checksum: %w", errDamaged)
	}
	return f.parseDirents(list, b)
}

// parseDirents adds entries that fill b.
func (f *FS) parseDirents(list *listing, b []byte) error {
	for len(b) > 0 {
		if len(b) < direntHead+4 {
			return errDamaged
		}
		ino, size, nameLen := le.Uint32(b), direntSize(b), int(b[6])
		if size%4 != 0 || size > len(b) || direntHead+nameLen > size {
			return errDamaged
		}
		name := string(b[direntHead:][:nameLen])
		if name == ".." {
			list.parent = Ino(ino)
		} else if ino != 0 && name != "." {
			if ino > f.inodes || name == "" || strings.ContainsAny(name, "/\x00") {
				return errDamaged
			}
			e := entry{name: name, ino: Ino(ino)}
			if f.typedDirents {
				e.mode = direntTypes[b[7]%8]
			}
			list.entries = append(list.entries, e)
		}
		b = b[size:]
	}
	return nil
}

var (
	errNotDir = errors.New("not a directory")
	errIsDir  = errors.New("is a directory")
	errLoop   = errors.New("too many symbolic links")
)

// maxSymlinks is how many a path may lead through, as in Linux.
const maxSymlinks = 40

// lookup returns the inode that a path leads to, with the last symlink followed
// or not.
func (f *FS) lookup(name string, follow bool) (*node, error) {
	dirs := []Ino{Root} // from the root to where we are
	rest := strings.Split(name, "/")
	n, err := f.node(Root)
	if err != nil {
		return nil, err
	}
	links := 0
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		if n.mode&modeType != modeDir {
			return nil, errNotDir
		}
		switch part {
		case "", ".":
			continue
		case "..":
			dirs = dirs[:max(1, len(dirs)-1)]
			if n, err = f.node(dirs[len(dirs)-1]); err != nil {
				return nil, err
			}
			continue
		}
		if n, err = f.child(n.ino, part); err != nil {
			return nil, err
		}
		switch typ := n.mode & modeType; {
		case typ == modeDir:
			dirs = append(dirs, n.ino)
		case typ == modeSymlink && (follow || len(rest) > 0):
			if links++; links > maxSymlinks {
				return nil, errLoop
			}
			target, err := f.target(n)
			if err != nil {
				return nil, err
			}
			if strings.HasPrefix(target, "/") {
				dirs = dirs[:1]
			}
			if n, err = f.node(dirs[len(dirs)-1]); err != nil {
				return nil, err
			}
			rest = append(strings.Split(target, "/"), rest...)
		}
	}
	return n, nil
}

// child returns what a directory has under a name. A directory has one name, in
// the directory that it says is its parent, and the root has none: else a damaged
// tree could be walked for ever, or for as good as ever.
func (f *FS) child(dir Ino, name string) (*node, error) {
	list, err := f.listing(dir)
	if err != nil {
		return nil, err
	}
	i, ok := slices.BinarySearchFunc(list.entries, name, func(e entry, s string) int { return cmp.Compare(e.name, s) })
	if !ok {
		return nil, fs.ErrNotExist
	}
	n, err := f.node(list.entries[i].ino)
	if err != nil || n.mode&modeType != modeDir {
		return n, err
	}
	if _, ok := slices.BinarySearch(list.several, n.ino); ok || n.ino == Root {
		return nil, fmt.Errorf("directory %d has several names: %w", n.ino, errDamaged)
	}
	list, err = f.listing(n.ino)
	if err == nil && list.parent != dir {
		err = fmt.Errorf("directory %d: parent is %d: %w", n.ino, list.parent, errDamaged)
	}
	return n, err
}
