package compare

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// POSIX ACLs as attributes; xattr(7).
const (
	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"
)

var errACL = errors.New("not a valid ACL")

// readable makes text of an ACL, and "" of one that is not valid; other
// attributes stay what they are.
func readable(name, value string) string {
	if name != accessACL && name != defaultACL {
		return value
	}
	text, err := readACL(value)
	if err != nil {
		return ""
	}
	return text
}

// readACL makes text of the format that getxattr(2) gives: a version, then tag,
// permissions and ID of each entry (include/uapi/linux/posix_acl_xattr.h).
func readACL(value string) (string, error) {
	b := []byte(value)
	if len(b)%8 != 4 || binary.LittleEndian.Uint32(b) != 2 {
		return "", errACL
	}
	var lines []string
	for b = b[4:]; len(b) > 0; b = b[8:] {
		tag, perm, id := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])
		word := map[uint16]string{1: "user", 2: "user", 4: "group", 8: "group", 16: "mask", 32: "other"}[tag]
		if word == "" || perm > 7 {
			return "", errACL
		}
		who := ""
		if tag == 2 || tag == 8 {
			if id == 1<<32-1 {
				return "", errACL
			}
			who = strconv.FormatUint(uint64(id), 10)
		}
		lines = append(lines, line(word, who, perm))
	}
	return normal(lines)
}

// readACLText makes text of what star, GNU tar and libarchive write, with
// numbers for names.
func readACLText(text string) (string, error) {
	var lines []string
	for _, l := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' }) {
		l, _, _ = strings.Cut(l, "#")
		if l = strings.TrimSpace(l); l == "" {
			continue
		}
		f := strings.Split(strings.TrimPrefix(l, "default:"), ":")
		if len(f) == 2 && f[0] != "" { // "mask:rwx"
			f = []string{f[0], "", f[1]}
		}
		if len(f) != 3 && len(f) != 4 {
			return "", errACL
		}
		word := map[string]string{"u": "user", "user": "user", "g": "group", "group": "group", "m": "mask", "mask": "mask", "o": "other", "other": "other"}[f[0]]
		who := f[1]
		if word == "" || who != "" && (word == "mask" || word == "other") {
			return "", errACL
		}
		if who != "" {
			id, err := strconv.ParseUint(f[len(f)-1], 10, 32)
			if len(f) == 3 {
				id, err = strconv.ParseUint(who, 10, 32)
			}
			if err != nil || id == 1<<32-1 {
				return "", errACL
			}
			who = strconv.FormatUint(id, 10)
		}
		var perm uint16
		for _, c := range strings.TrimSpace(f[2]) {
			bit, ok := map[rune]uint16{'r': 4, 'w': 2, 'x': 1, '-': 0}[c]
			if !ok {
				return "", errACL
			}
			perm |= bit
		}
		lines = append(lines, line(word, who, perm))
	}
	return normal(lines)
}

func line(word, who string, perm uint16) string {
	bits := []byte("---")
	for i, c := range "rwx" {
		if perm&(4>>i) != 0 {
			bits[i] = byte(c)
		}
	}
	return fmt.Sprintf("%s:%s:%s", word, who, bits)
}

// normal puts the entries of an ACL in an order of its own and checks that it is
// one: owner, group and other once each, and a mask if somebody is named.
func normal(lines []string) (string, error) {
	slices.Sort(lines)
	count, named := map[string]int{}, false
	for _, l := range lines {
		who := l[:strings.LastIndexByte(l, ':')]
		count[who]++
		named = named || !strings.HasSuffix(who, ":")
		if count[who] > 1 {
			return "", errACL
		}
	}
	if count["user:"] == 0 || count["group:"] == 0 || count["other:"] == 0 || named && count["mask:"] == 0 {
		return "", errACL
	}
	return strings.Join(lines, ","), nil
}
