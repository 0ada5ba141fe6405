package rootfs

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// Keys of extended attributes in PAX headers. star and GNU tar store the value
// as it is, and GNU tar a "=" in the name as %3D and a "%" as %25. libarchive stores it in base64 under a URL-encoded name, and beside
// that as star does. star and libarchive store ACLs as text.
const (
	paxXattr      = "SCHILY.xattr."
	paxLibarchive = "LIBARCHIVE.xattr."
	paxAccessACL  = "SCHILY.acl.access"
	paxDefaultACL = "SCHILY.acl.default"
)

// gnuName decodes names as GNU tar does (src/xheader.c, xattr_decode_keyword).
var gnuName = strings.NewReplacer("%3D", "=", "%25", "%")

// Names of ACLs as attributes; xattr(7).
const (
	xattrAccessACL  = "system.posix_acl_access"
	xattrDefaultACL = "system.posix_acl_default"
)

// xattrs returns the extended attributes of the current entry, a file of the
// type in mode.
func (l *layer) xattrs(mode fs.FileMode) (map[string]string, error) {
	all := l.rawXattrs()
	if len(all) == 0 {
		return nil, nil
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		value, why := cleanXattr(name, all[name], mode)
		if why != "" {
			l.warn(XattrDropped, "dropped the attribute %s: %s", quote(name), why)
		}
		if why != "" || isACL(name) && value == "" {
			delete(all, name)
			continue
		}
		if strings.HasPrefix(name, "trusted.") {
			l.warn(XattrTrusted, "kept the attribute %s, which only root in the guest sees", quote(name))
		}
		all[name] = value
	}
	if len(all) == 0 {
		return nil, nil
	}
	if err := checkXattrs(all); err != nil {
		return nil, err
	}
	return l.tree.intern(all)
}

// rawXattrs returns what the PAX header says. Header.Xattrs would not do: it
// lacks those that are empty. Where two keys speak of the same attribute, the
// one that container runtimes read counts.
func (l *layer) rawXattrs() map[string]string {
	var keys []string
	for key := range l.header.PAXRecords {
		if strings.HasPrefix(key, paxXattr) || strings.HasPrefix(key, paxLibarchive) || key == paxAccessACL || key == paxDefaultACL {
			keys = append(keys, key)
		}
	}
	if keys == nil {
		return nil
	}
	slices.Sort(keys) // so that the warnings are always the same
	all, rank := map[string]string{}, map[string]int{}
	set := func(name, value string, r int) {
		if rank[name] < r {
			all[name], rank[name] = value, r
		}
	}
	for _, key := range keys {
		value := l.header.PAXRecords[key]
		if name, ok := strings.CutPrefix(key, paxXattr); ok {
			set(gnuName.Replace(name), value, 3)
		} else if encoded, ok := strings.CutPrefix(key, paxLibarchive); ok {
			name, err := url.PathUnescape(encoded)
			if err != nil {
				name = encoded // libarchive takes a stray percent sign as it is
			}
			decoded, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
			if err != nil {
				l.warn(XattrDropped, "dropped the attribute %s: invalid base64", quote(name))
				continue
			}
			set(name, string(decoded), 2)
		} else {
			name := xattrAccessACL
			if key == paxDefaultACL {
				name = xattrDefaultACL
			}
			// GNU tar writes both forms, and the text with names that we do not know.
			if _, ok := l.header.PAXRecords[paxXattr+name]; ok {
				continue
			}
			acl, err := parseACL(value)
			if err != nil {
				l.warn(XattrDropped, "dropped %s: %v", key, err)
				continue
			}
			set(name, acl.encode(), 1)
		}
	}
	return all
}

func isACL(name string) bool { return name == xattrAccessACL || name == xattrDefaultACL }

// cleanXattr returns the value to store, or why the attribute has no place on
// the disk of a guest. An access ACL that says no more than the mode is stored
// as the mode alone, as Linux does: its value becomes empty.
func cleanXattr(name, value string, mode fs.FileMode) (_, why string) {
	space, rest, _ := strings.Cut(name, ".")
	switch {
	case isACL(name):
		return cleanACL(name, value, mode)
	case name == "security.selinux":
		return "", "a label of the host's policy"
	case strings.HasPrefix(rest, "overlay."):
		return "", "a mark of overlayfs"
	case rest == "" || strings.IndexByte(name, 0) >= 0:
		return "", "not a name"
	case space != "user" && space != "security" && space != "trusted":
		return "", "no namespace of Linux"
	case space == "user" && !mode.IsRegular() && !mode.IsDir():
		return "", "only files and directories can have it"
	}
	return value, ""
}

func cleanACL(name, value string, mode fs.FileMode) (_, why string) {
	acl, err := decodeACL(value)
	switch {
	case err != nil:
		return "", err.Error()
	case mode.Type() == fs.ModeSymlink:
		return "", "a symlink has no ACL"
	case name == xattrDefaultACL && !mode.IsDir():
		return "", "only a directory has a default ACL"
	case name == xattrAccessACL && acl.isMinimal():
		return "", ""
	}
	return acl.encode(), ""
}

// checkXattrs reports what Linux cannot have.
func checkXattrs(all map[string]string) error {
	list := 0
	for name, value := range all {
		if len(name) > maxXattrName {
			return fmt.Errorf("attribute %s: name is %d bytes, more than %d", quote(name), len(name), maxXattrName)
		}
		if len(value) > maxXattrValue {
			return fmt.Errorf("attribute %s: value is %d bytes, more than %d", quote(name), len(value), maxXattrValue)
		}
		list += len(name) + 1
	}
	if list > maxXattrList {
		return fmt.Errorf("names of attributes are %d bytes together, more than %d", list, maxXattrList)
	}
	return nil
}

// intern returns a map equal to all that the tree keeps once.
func (t *Tree) intern(all map[string]string) (map[string]string, error) {
	var key []byte
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, s := range []string{name, all[name]} {
			key = binary.AppendUvarint(key, uint64(len(s)))
			key = append(key, s...)
		}
	}
	if known, ok := t.xattrs[string(key)]; ok {
		return known, nil
	}
	const overhead = 400 // bytes that a map, and a place in another, take besides
	if err := t.use(0, 2*int64(len(key))+overhead); err != nil {
		return nil, err
	}
	kept := make(map[string]string, len(all))
	for name, value := range all {
		kept[strings.Clone(name)] = strings.Clone(value)
	}
	t.xattrs[string(key)] = kept
	return kept, nil
}
