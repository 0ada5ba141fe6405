package ext4

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// WriteTar writes the whole tree to w as a tar archive in the PAX format: types,
// modes, numeric owners, times in nanoseconds, devices, hard links (the first
// name in order has the content) and extended attributes, in records with the
// prefix SCHILY.xattr as GNU tar, libarchive and container tools have them. The
// entry of the root is "./", names come sorted and without "./" below it, and the
// same image gives the same bytes. Sockets have no form in tar and are left out;
// an empty lost+found, which every file system has of its own, is too. Holes
// become zeros.
func (f *FS) WriteTar(w io.Writer) error {
	return f.WriteTarFunc(w, func(string) bool { return true })
}

// WriteTarFunc is [FS.WriteTar] of the paths that keep wants, asked once for each
// but the root, in order. Below a directory that it does not want, nothing is
// written.
func (f *FS) WriteTarFunc(w io.Writer, keep func(path string) bool) error {
	t := tarWriter{fs: f, tw: tar.NewWriter(w), names: map[Ino]string{}, buf: make([]byte, 256<<10), keep: keep}
	err := t.add(Root, ".")
	if err == nil {
		err = t.tw.Close()
	}
	if err != nil {
		return fmt.Errorf("write tar: %w", err)
	}
	return nil
}

// A tarWriter walks by inodes: a path from the root for every file would take
// time by the depth of the tree, and follow symlinks.
type tarWriter struct {
	fs    *FS
	tw    *tar.Writer
	names map[Ino]string // of directories, and of files that have further names
	buf   []byte
	keep  func(string) bool
}

// paxXattr begins the PAX records of attributes.
const paxXattr = "SCHILY.xattr."

func (t *tarWriter) add(ino Ino, name string) error {
	n, err := t.fs.node(ino)
	if err == nil {
		err = t.write(n, name)
	}
	var inner *fs.PathError // is of a file further down
	if err != nil && !errors.As(err, &inner) {
		return &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return err
}

func (t *tarWriter) write(n *node, name string) error {
	s, err := t.fs.stat(n)
	if err != nil {
		return err
	}
	h, err := tarHeader(s, name)
	if h == nil || err != nil {
		return err
	}
	if s.Mode.IsDir() {
		return t.writeDir(n, h, name)
	}
	if first, ok := t.names[n.ino]; ok {
		// It repeats all but the content: some readers apply it once more.
		h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
		return t.tw.WriteHeader(h)
	}
	if s.Links > 1 {
		t.names[n.ino] = name
	}
	if err := t.tw.WriteHeader(h); err != nil || h.Size == 0 {
		return err
	}
	b, err := t.fs.body(n)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{t.tw}, struct{ io.Reader }{io.NewSectionReader(&b, 0, b.size)}, t.buf)
	return err
}

// writeDir writes a directory and what is in it. It has one name: a damaged tree
// with more might have no end.
func (t *tarWriter) writeDir(n *node, h *tar.Header, name string) error {
	if first, ok := t.names[n.ino]; ok {
		return fmt.Errorf("directory %d is %s too: %w", n.ino, first, errDamaged)
	}
	t.names[n.ino] = name
	list, err := t.fs.listing(n.ino)
	if err != nil {
		return err
	}
	if name == lostFound && len(list.entries) == 0 {
		return nil
	}
	if err := t.tw.WriteHeader(h); err != nil {
		return err
	}
	for _, e := range list.entries {
		p := path.Join(name, e.name)
		if !t.keep(p) {
			continue
		}
		if err := t.add(e.ino, p); err != nil {
			return err
		}
	}
	return nil
}

// paxKey is the record of an attribute. A "=" would end it; where there is one,
// the name is written as GNU tar does it (src/xheader.c, xattr_encode_keyword),
// and where GNU tar would take it for so written. Other readers take it as it is:
// GNU tar does this to every "%".
func paxKey(attr string) string {
	if strings.Contains(attr, "=") || strings.Contains(attr, "%3D") || strings.Contains(attr, "%25") {
		attr = strings.NewReplacer("%", "%25", "=", "%3D").Replace(attr)
	}
	return paxXattr + attr
}

// tarHeader describes a file; nil if tar has nothing of its kind.
func tarHeader(s *Stat, name string) (*tar.Header, error) {
	h := &tar.Header{
		Name: name, Mode: int64(s.Mode.Perm()), Uid: int(s.UID), Gid: int(s.GID),
		ModTime: s.ModTime, Format: tar.FormatPAX,
	}
	for bit, c := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if s.Mode&bit != 0 {
			h.Mode |= c
		}
	}
	switch s.Mode.Type() {
	case 0:
		h.Typeflag, h.Size = tar.TypeReg, s.Size
	case fs.ModeDir:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case fs.ModeSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, s.Target
	case fs.ModeNamedPipe:
		h.Typeflag = tar.TypeFifo
	case fs.ModeDevice:
		h.Typeflag = tar.TypeBlock
	case fs.ModeDevice | fs.ModeCharDevice:
		h.Typeflag = tar.TypeChar
	case fs.ModeSocket:
		return nil, nil
	default:
		return nil, fmt.Errorf("type %v: %w", s.Mode.Type(), errDamaged)
	}
	h.Devmajor, h.Devminor = int64(s.Major), int64(s.Minor)
	for attr, value := range s.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[paxKey(attr)] = value
	}
	return h, nil
}
