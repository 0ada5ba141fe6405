package rootfs

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"
)

// node returns a node with the attributes of the current entry, and no content.
// That of a hard link has no type.
func (l *layer) node() (*Node, error) {
	hdr := l.header
	n := &Node{Mode: mode(hdr.Mode)}
	for _, id := range []struct {
		name  string
		value int64
		field *uint32
	}{{"uid", int64(hdr.Uid), &n.UID}, {"gid", int64(hdr.Gid), &n.GID}} {
		if id.value < 0 || id.value > maxID {
			return nil, fmt.Errorf("%s %d is not within 0 and %d", id.name, id.value, maxID)
		}
		*id.field = uint32(id.value)
	}
	var clamped bool
	if n.ModTime, clamped = clampTime(hdr.ModTime); clamped {
		l.warn(ModTimeClamped, "took the time %d (seconds since 1970) for %d", hdr.ModTime.Unix(), n.ModTime.Unix())
	}
	switch hdr.Typeflag {
	case tar.TypeDir:
		n.Mode |= fs.ModeDir
	case tar.TypeSymlink:
		n.Mode = fs.ModeSymlink | fs.ModePerm
		n.Target = strings.Clone(hdr.Linkname) // which may be a part of a PAX header
	case tar.TypeFifo:
		n.Mode |= fs.ModeNamedPipe
	case tar.TypeChar, tar.TypeBlock:
		n.Mode |= fs.ModeDevice
		if hdr.Typeflag == tar.TypeChar {
			n.Mode |= fs.ModeCharDevice
		}
		if hdr.Devmajor < 0 || hdr.Devmajor > maxMajor || hdr.Devminor < 0 || hdr.Devminor > maxMinor {
			return nil, fmt.Errorf("device %d:%d is not within 0:0 and %d:%d", hdr.Devmajor, hdr.Devminor, maxMajor, maxMinor)
		}
		n.Major, n.Minor = uint32(hdr.Devmajor), uint32(hdr.Devminor)
	}
	if err := l.tree.use(0, int64(len(n.Target))); err != nil {
		return nil, err
	}
	var err error
	if n.Xattrs, err = l.xattrs(n.Mode); err != nil {
		return nil, err
	}
	return n, n.check()
}

// mode returns the permissions in a header. Its type bits do not count: the
// typeflag has the last word, and FileInfo().Mode() would mix them.
func mode(bits int64) fs.FileMode {
	m := fs.FileMode(bits) & fs.ModePerm
	for _, special := range []struct {
		bit  int64
		mode fs.FileMode
	}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}} {
		if bits&special.bit != 0 {
			m |= special.mode
		}
	}
	return m
}

// clampTime brings t into what an inode of ext4 can hold: 34 bits of seconds
// that start at -2^31; Documentation/filesystems/ext4/inodes.rst, "Inode Timestamps".
// The last quarter of that, from April 2310 on, e2fsck "corrects" to times before
// 1970, so it is left out.
func clampTime(t time.Time) (_ time.Time, clamped bool) {
	const first, last = -1 << 31, 3<<32 - 1<<31 - 1
	switch sec := t.Unix(); {
	case sec < first:
		return time.Unix(first, 0).UTC(), true
	case sec > last:
		return time.Unix(last, 0).UTC(), true
	}
	return t.UTC(), false
}

// cloneNames copies a path out of the header that it is a part of.
func cloneNames(names []string) []string {
	names = slices.Clone(names)
	for i, name := range names {
		names[i] = strings.Clone(name)
	}
	return names
}
