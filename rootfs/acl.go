package rootfs

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// aclTag says whom an entry of an ACL is for; the values are those of
// include/uapi/linux/posix_acl.h, and also the order in which entries must stand.
type aclTag uint16

const (
	aclUserObj  aclTag = 0x01
	aclUser     aclTag = 0x02
	aclGroupObj aclTag = 0x04
	aclGroup    aclTag = 0x08
	aclMask     aclTag = 0x10
	aclOther    aclTag = 0x20
)

// aclNoID is the ID of an entry that is for no named user or group.
const aclNoID = 1<<32 - 1

type aclEntry struct {
	tag  aclTag
	perm uint16 // rwx, as in a mode
	id   uint32
}

// acl is a valid POSIX ACL, in the order of its tags and IDs.
type acl []aclEntry

// newACL sorts and checks entries as the kernel does, fs/posix_acl.c.
func newACL(entries []aclEntry) (acl, error) {
	slices.SortFunc(entries, func(a, b aclEntry) int {
		return cmp.Or(cmp.Compare(a.tag, b.tag), cmp.Compare(a.id, b.id))
	})
	var count [aclOther + 1]int
	for i, e := range entries {
		if i > 0 && e.tag == entries[i-1].tag && e.id == entries[i-1].id {
			return nil, errors.New("invalid ACL: an entry stands twice")
		}
		named := e.tag == aclUser || e.tag == aclGroup
		if e.perm > 7 || named == (e.id == aclNoID) {
			return nil, errors.New("invalid ACL: bad permissions or ID")
		}
		switch e.tag {
		case aclUserObj, aclUser, aclGroupObj, aclGroup, aclMask, aclOther:
			count[e.tag]++
		default:
			return nil, fmt.Errorf("invalid ACL: unknown tag %d", e.tag)
		}
	}
	if count[aclUserObj] != 1 || count[aclGroupObj] != 1 || count[aclOther] != 1 {
		return nil, errors.New("invalid ACL: owner, group or other is missing")
	}
	if count[aclUser]+count[aclGroup] > 0 && count[aclMask] == 0 {
		return nil, errors.New("invalid ACL: the mask is missing")
	}
	return entries, nil
}

// isMinimal reports whether a says no more than a mode can.
func (a acl) isMinimal() bool { return len(a) == 3 }

// encode returns a as the value of an attribute: a version of 4 bytes, then
// tag, permissions and ID of each entry in 8, little-endian; struct
// posix_acl_xattr_header and _entry in include/uapi/linux/posix_acl_xattr.h.
func (a acl) encode() string {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range a {
		b = binary.LittleEndian.AppendUint16(b, uint16(e.tag))
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return string(b)
}

const aclVersion = 2 // POSIX_ACL_XATTR_VERSION

// decodeACL is the inverse of encode. Linux ignores the ID of an entry that
// needs none, and so do we.
func decodeACL(value string) (acl, error) {
	b := []byte(value)
	if len(b)%8 != 4 || binary.LittleEndian.Uint32(b) != aclVersion {
		return nil, errors.New("invalid ACL: unknown format")
	}
	var entries []aclEntry
	for b = b[4:]; len(b) > 0; b = b[8:] {
		e := aclEntry{
			tag:  aclTag(binary.LittleEndian.Uint16(b)),
			perm: binary.LittleEndian.Uint16(b[2:]),
			id:   binary.LittleEndian.Uint32(b[4:]),
		}
		if e.tag != aclUser && e.tag != aclGroup {
			e.id = aclNoID
		}
		entries = append(entries, e)
	}
	return newACL(entries)
}

// parseACL reads the text form of star, GNU tar and libarchive: entries such as
// "user:joe:rw-:1000" or "user:1000:rw-", separated by commas or newlines, where
// a number sign starts a comment. A name without a number is an error: only the
// image's own /etc/passwd could tell what it means.
func parseACL(text string) (acl, error) {
	var entries []aclEntry
	for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == '\n' }) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		e, err := parseACLEntry(strings.Split(strings.TrimPrefix(line, "default:"), ":"))
		if err != nil {
			return nil, fmt.Errorf("ACL entry %s: %w", quote(line), err)
		}
		entries = append(entries, e)
	}
	return newACL(entries)
}

func parseACLEntry(fields []string) (aclEntry, error) {
	e := aclEntry{id: aclNoID}
	if len(fields) == 2 && fields[0] != "" {
		fields = []string{fields[0], "", fields[1]} // "mask:rwx", as Solaris writes it
	}
	if len(fields) < 3 || len(fields) > 4 {
		return e, errors.New("not of the form tag:name:permissions")
	}
	who := fields[1]
	named := who != ""
	switch fields[0] {
	case "user", "u":
		e.tag = aclUserObj
		if named {
			e.tag = aclUser
		}
	case "group", "g":
		e.tag = aclGroupObj
		if named {
			e.tag = aclGroup
		}
	case "mask", "m":
		e.tag = aclMask
	case "other", "o":
		e.tag = aclOther
	default:
		return e, errors.New("unknown tag")
	}
	if named {
		if len(fields) == 4 {
			who = fields[3]
		}
		id, err := strconv.ParseUint(who, 10, 32)
		if err != nil {
			return e, errors.New("no number for the name")
		}
		e.id = uint32(id)
	}
	for _, c := range strings.TrimSpace(fields[2]) {
		switch c {
		case 'r':
			e.perm |= 4
		case 'w':
			e.perm |= 2
		case 'x':
			e.perm |= 1
		case '-':
		default:
			return e, errors.New("unknown permission")
		}
	}
	return e, nil
}
