package ext4

import "errors"

// POSIX ACLs have two formats. getxattr(2) and archives use version 2, in
// which each entry is {u16 tag, u16 perm, u32 id}
// (include/uapi/linux/posix_acl_xattr.h); the disk has version 1, in which only
// named users and groups have an id (fs/ext4/acl.h).
const (
	aclWire = 2
	aclDisk = 1
	aclNoID = 0xFFFFFFFF // ACL_UNDEFINED_ID
)

var errACL = errors.New("not a valid POSIX ACL")

// aclNamed reports whether entries with this tag have an id, and whether the
// tag exists: ACL_USER_OBJ 1, USER 2, GROUP_OBJ 4, GROUP 8, MASK 16, OTHER 32.
func aclNamed(tag uint16) (named, ok bool) {
	switch tag {
	case 2, 8:
		return true, true
	case 1, 4, 16, 32:
		return false, true
	}
	return false, false
}

func diskACL(wire string) (string, error) {
	b := []byte(wire)
	if len(b) < 4 || len(b)%8 != 4 || le.Uint32(b) != aclWire {
		return "", errACL
	}
	out := le.AppendUint32(nil, aclDisk)
	for b = b[4:]; len(b) > 0; b = b[8:] {
		named, ok := aclNamed(le.Uint16(b))
		if !ok {
			return "", errACL
		}
		out = append(out, b[:4]...)
		if named {
			out = append(out, b[4:8]...)
		}
	}
	return string(out), nil
}

func wireACL(disk string) (string, error) {
	b := []byte(disk)
	if len(b) < 4 || le.Uint32(b) != aclDisk {
		return "", errACL
	}
	out := le.AppendUint32(nil, aclWire)
	for b = b[4:]; len(b) > 0; {
		if len(b) < 4 {
			return "", errACL
		}
		named, ok := aclNamed(le.Uint16(b))
		if !ok || named && len(b) < 8 {
			return "", errACL
		}
		out = append(out, b[:4]...)
		if b = b[4:]; named {
			out = append(out, b[:4]...)
			b = b[4:]
		} else {
			out = le.AppendUint32(out, aclNoID)
		}
	}
	return string(out), nil
}
