package compare

import (
	"archive/tar"
	"encoding/base64"
	"io/fs"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
)

// describe returns the file that an entry describes. A hard link's has no type.
func (m *merge) describe(h *tar.Header) *file {
	f := &file{
		mode: permissions(h.Mode), uid: uint32(h.Uid), gid: uint32(h.Gid), mtime: storable(h.ModTime),
		layer: m.layer, entry: m.entry,
	}
	switch h.Typeflag {
	case tar.TypeDir:
		f.mode |= fs.ModeDir
	case tar.TypeSymlink:
		f.mode, f.target = fs.ModeSymlink|0o777, strings.Clone(h.Linkname)
	case tar.TypeFifo:
		f.mode |= fs.ModeNamedPipe
	case tar.TypeBlock:
		f.mode |= fs.ModeDevice
	case tar.TypeChar:
		f.mode |= fs.ModeDevice | fs.ModeCharDevice
	default:
		f.size = h.Size
	}
	if f.mode&fs.ModeDevice != 0 {
		f.major, f.minor = uint32(h.Devmajor), uint32(h.Devminor)
	}
	f.xattrs = attributes(h.PAXRecords, f.mode)
	return f
}

// permissions are the low twelve bits of a mode.
func permissions(bits int64) fs.FileMode {
	m := fs.FileMode(bits & 0o777)
	if bits&0o4000 != 0 {
		m |= fs.ModeSetuid
	}
	if bits&0o2000 != 0 {
		m |= fs.ModeSetgid
	}
	if bits&0o1000 != 0 {
		m |= fs.ModeSticky
	}
	return m
}

// storable is the nearest time that a disk can hold: 1901-12-13 to 2310-04-04
// (34 bits of seconds from -2^31 on, of which e2fsck takes the last quarter for
// something else).
func storable(t time.Time) time.Time {
	oldest, newest := time.Unix(-0x80000000, 0), time.Unix(0x27fffffff, 0)
	switch {
	case t.Before(oldest):
		return oldest
	case t.Unix() > newest.Unix():
		return newest
	}
	return t
}

// attributes returns the extended attributes in a header's PAX records that have
// a place on a disk. Where several forms speak of one, star's counts most, then
// libarchive's, and the text of an ACL least.
func attributes(records map[string]string, mode fs.FileMode) map[string]string {
	if len(records) == 0 {
		return nil
	}
	all := map[string]string{}
	for _, acl := range []struct{ key, name string }{
		{"SCHILY.acl.access", accessACL},
		{"SCHILY.acl.default", defaultACL},
	} {
		if text, ok := records[acl.key]; ok {
			if entries, err := readACLText(text); err == nil {
				all[acl.name] = entries
			}
		}
	}
	// Backwards: the first of two keys for one name counts.
	for _, key := range slices.Backward(slices.Sorted(maps.Keys(records))) {
		if encoded, ok := strings.CutPrefix(key, "LIBARCHIVE.xattr."); ok {
			name, err := url.PathUnescape(encoded)
			if err != nil {
				name = encoded
			}
			if decoded, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(records[key], "=")); err == nil {
				all[strings.Clone(name)] = readable(name, string(decoded))
			}
		}
	}
	for key, value := range records {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			// As GNU tar writes what would end the key.
			name = strings.ReplaceAll(strings.ReplaceAll(name, "%3D", "="), "%25", "%")
			all[strings.Clone(name)] = strings.Clone(readable(name, value))
		}
	}
	for name, value := range all {
		if !belongs(name, value, mode) {
			delete(all, name)
		}
	}
	return all
}

// belongs says whether an attribute has a place on the disk of a guest.
func belongs(name, value string, mode fs.FileMode) bool {
	switch name {
	case accessACL:
		// One that says what the mode says is the mode.
		return mode.Type() != fs.ModeSymlink && value != "" && strings.Count(value, ",") > 2
	case defaultACL:
		return mode.IsDir() && value != ""
	case "security.selinux":
		return false
	}
	space, rest, _ := strings.Cut(name, ".")
	if rest == "" || strings.HasPrefix(rest, "overlay.") || strings.Contains(name, "\x00") {
		return false
	}
	switch space {
	case "user":
		return mode.IsRegular() || mode.IsDir()
	case "security", "trusted":
		return true
	}
	return false
}
