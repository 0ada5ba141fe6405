package ext4

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"
)

// Open opens a file of any type, following symlinks. Only regular files have
// content.
func (f *FS) Open(name string) (fs.File, error) {
	n, info, err := f.info("open", name, true)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return &openDir{fs: f, info: info, path: name}, nil
	}
	o := &openFile{info: info, path: name}
	if info.Mode().IsRegular() {
		if o.body, err = f.body(n); err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
	}
	return o, nil
}

// Stat describes a file, following symlinks.
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	_, info, err := f.info("stat", name, true)
	if err != nil {
		return nil, err
	}
	return info, nil
}

// Lstat describes a file, which may be a symlink.
func (f *FS) Lstat(name string) (fs.FileInfo, error) {
	_, info, err := f.info("lstat", name, false)
	if err != nil {
		return nil, err
	}
	return info, nil
}

// ReadLink returns the target of a symlink.
func (f *FS) ReadLink(name string) (string, error) {
	_, info, err := f.info("readlink", name, false)
	if err != nil {
		return "", err
	}
	if info.Mode().Type() != fs.ModeSymlink {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	return info.stat.Target, nil
}

// ReadDir returns the entries of a directory, sorted by name.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	d, ok := file.(*openDir)
	if !ok {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errNotDir}
	}
	return d.ReadDir(-1)
}

func (f *FS) info(op, name string, follow bool) (n *node, info *fileInfo, err error) {
	// Names are bytes here, in any encoding: the rest of ValidPath holds.
	if !fs.ValidPath(strings.ToValidUTF8(name, "_")) {
		return nil, nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	if n, err = f.lookup(name, follow); err == nil {
		info = &fileInfo{name: path.Base(name)}
		info.stat, err = f.stat(n)
	}
	if err != nil {
		return nil, nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return n, info, nil
}

type fileInfo struct {
	name string
	stat *Stat
}

func (i *fileInfo) Name() string       { return i.name }
func (i *fileInfo) Size() int64        { return i.stat.Size }
func (i *fileInfo) Mode() fs.FileMode  { return i.stat.Mode }
func (i *fileInfo) ModTime() time.Time { return i.stat.ModTime }
func (i *fileInfo) IsDir() bool        { return i.stat.Mode.IsDir() }
func (i *fileInfo) Sys() any           { return i.stat }

// dirEntry reads the inode only when it is asked for.
type dirEntry struct {
	fs *FS
	entry
}

func (d *dirEntry) Name() string      { return d.name }
func (d *dirEntry) IsDir() bool       { return d.mode == modeDir }
func (d *dirEntry) Type() fs.FileMode { return goMode(d.mode).Type() }

func (d *dirEntry) Info() (fs.FileInfo, error) {
	n, err := d.fs.node(d.ino)
	if err != nil {
		return nil, err
	}
	stat, err := d.fs.stat(n)
	if err != nil {
		return nil, err
	}
	return &fileInfo{d.name, stat}, nil
}

// An openFile is an open file that is no directory.
type openFile struct {
	info   *fileInfo
	path   string
	body   body // empty if it is not a regular file
	off    int64
	closed bool
}

func (o *openFile) fail(op string, err error) error {
	return &fs.PathError{Op: op, Path: o.path, Err: err}
}

func (o *openFile) Stat() (fs.FileInfo, error) { return o.info, nil }

func (o *openFile) Read(p []byte) (int, error) {
	if len(p) == 0 && !o.closed {
		return 0, nil
	}
	n, err := o.ReadAt(p, o.off)
	o.off += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

func (o *openFile) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case o.closed:
		return 0, o.fail("read", fs.ErrClosed)
	case off < 0:
		return 0, o.fail("read", errors.New("negative offset"))
	}
	n, err := o.body.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		err = o.fail("read", err)
	}
	return n, err
}

func (o *openFile) Seek(offset int64, whence int) (int64, error) {
	switch {
	case o.closed:
		return 0, o.fail("seek", fs.ErrClosed)
	case whence == io.SeekCurrent:
		offset += o.off
	case whence == io.SeekEnd:
		offset += o.body.size
	case whence != io.SeekStart:
		return 0, o.fail("seek", fs.ErrInvalid)
	}
	if offset < 0 {
		return 0, o.fail("seek", fs.ErrInvalid)
	}
	o.off = offset
	return offset, nil
}

func (o *openFile) Close() error {
	if o.closed {
		return o.fail("close", fs.ErrClosed)
	}
	o.closed = true
	return nil
}

// An openDir is an open directory.
type openDir struct {
	fs     *FS
	info   *fileInfo
	path   string
	next   int // entries already returned
	closed bool
}

func (d *openDir) fail(op string, err error) error {
	return &fs.PathError{Op: op, Path: d.path, Err: err}
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *openDir) Read([]byte) (int, error)   { return 0, d.fail("read", errIsDir) }

func (d *openDir) Close() error {
	if d.closed {
		return d.fail("close", fs.ErrClosed)
	}
	d.closed = true
	return nil
}

// ReadDir implements [fs.ReadDirFile].
func (d *openDir) ReadDir(count int) ([]fs.DirEntry, error) {
	if d.closed {
		return nil, d.fail("readdir", fs.ErrClosed)
	}
	all, err := d.fs.listing(d.info.stat.Ino)
	if err != nil {
		return nil, d.fail("readdir", err)
	}
	list := all.entries[min(d.next, len(all.entries)):]
	if count > 0 {
		if len(list) == 0 {
			return nil, io.EOF
		}
		list = list[:min(count, len(list))]
	}
	d.next += len(list)
	entries := make([]fs.DirEntry, len(list))
	for i, e := range list {
		if e.mode == 0 {
			n, err := d.fs.node(e.ino)
			if err != nil {
				return nil, d.fail("readdir", err)
			}
			e.mode = n.mode & modeType
		}
		entries[i] = &dirEntry{d.fs, e}
	}
	return entries, nil
}
