// Package du measures files as they are on the disk: a hole takes nothing, and a
// file of several names is there once. [Meter] says how much there is, [Tally]
// how much of it goes when some of it is removed.
package du

import (
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"
)

// Usage is the number and the size, in bytes, of regular files. Directories and
// links count as nothing.
type Usage struct {
	Files     int
	Apparent  int64
	Allocated int64 // blocks; shared ones (reflink) count for each file that has them
}

// Meter measures files, each of them once, however many names it has. The zero
// value is ready.
type Meter struct {
	seen map[inode]bool
}

type inode struct{ dev, ino uint64 }

// Add measures what is below path and was not measured before. A path that is
// not there is empty.
func (m *Meter) Add(path string) (Usage, error) {
	if m.seen == nil {
		m.seen = map[inode]bool{}
	}
	var u Usage
	err := walk(path, func(id inode, st *syscall.Stat_t) {
		if !m.seen[id] {
			m.seen[id] = true
			u.Files++
			u.Apparent += st.Size
			u.Allocated += st.Blocks * 512 // stat(2): st_blocks
		}
	})
	return u, err
}

// Tally measures what removing files frees: not files that keep a name elsewhere.
// The zero value is ready.
type Tally struct {
	names map[inode]uint64 // met so far
}

// Add returns the bytes on the disk that removing path frees, when all that was
// added before goes too. A path that is not there is empty.
func (t *Tally) Add(path string) (freed int64, err error) {
	if t.names == nil {
		t.names = map[inode]uint64{}
	}
	err = walk(path, func(id inode, st *syscall.Stat_t) {
		if t.names[id]++; t.names[id] == uint64(st.Nlink) { //nolint:unconvert // Nlink is smaller on other architectures
			freed += st.Blocks * 512
		}
	})
	return freed, err
}

// Reset forgets what was added: it has been removed, and is not met again.
func (t *Tally) Reset() { t.names = nil }

// walk calls each for all regular files below path. Others may remove what it
// walks over.
func walk(path string, each func(inode, *syscall.Stat_t)) error {
	return filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.Type().IsRegular() {
			return nil
		}
		var info fs.FileInfo
		if err == nil {
			info, err = d.Info()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		each(inode{uint64(st.Dev), st.Ino}, st) //nolint:unconvert // Dev is smaller on other architectures
		return nil
	})
}
