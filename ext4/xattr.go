package ext4

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Extended attributes; Documentation/filesystems/ext4/attributes.rst.
const (
	attrMagic     = 0xEA020000
	attrHead      = 16 // bytes of an entry before its name
	attrBlockHead = 32 // bytes of the header of a block
	attrRefcount  = 0x04
	attrBlocks    = 0x08
	attrHash      = 0x0C
	attrChecksum  = 0x10
	attrMaxRefs   = 1024                     // inodes that share a block
	attrInode     = inodeSize - inoAttrs - 4 // bytes for entries in the inode, behind the magic
	attrEnd       = 4                        // zero bytes behind the last entry
	attrInBlock   = blockSize - attrBlockHead
)

// attrPrefixes are what the name index of an entry stands for. The ACLs have
// no name beyond it.
var attrPrefixes = []struct {
	index  byte
	prefix string
}{
	{2, "system.posix_acl_access"},
	{3, "system.posix_acl_default"},
	{1, "user."},
	{4, "trusted."},
	{6, "security."},
}

func isACL(index byte) bool { return index == 2 || index == 3 }

// An xattr is an attribute in the form that is on the disk.
type xattr struct {
	index byte
	name  string // without the prefix
	value string
}

func (x *xattr) size() int { return attrHead + pad4(len(x.name)) + pad4(len(x.value)) }

func pad4(n int) int { return (n + 3) &^ 3 }

// An attrSet is the attributes of one inode or of many.
type attrSet struct {
	list   []xattr
	inline int    // of them are in the inode, at the head of list
	refs   int    // inodes that have the set
	block  uint32 // the block that they share now
	left   int    // inodes that may still share it
}

func (s *attrSet) blocks() int64 {
	if s.inline == len(s.list) {
		return 0
	}
	return ceilDiv(int64(s.refs), attrMaxRefs)
}

// newAttrSet translates, sorts and places attributes: in the inode as many as
// it holds, and the others in a block.
func newAttrSet(attrs map[string]string) (*attrSet, error) {
	all := make([]xattr, 0, len(attrs))
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		x, err := diskAttr(name, attrs[name])
		if err != nil {
			return nil, fmt.Errorf("attribute %q: %w", name, err)
		}
		all = append(all, x)
	}
	// The order that the kernel keeps in blocks, and which it searches by.
	slices.SortFunc(all, func(a, b xattr) int {
		return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(len(a.name), len(b.name)), cmp.Compare(a.name, b.name))
	})
	s := &attrSet{}
	var outside []xattr
	inode, block := attrInode-attrEnd, attrInBlock-attrEnd
	for _, x := range all {
		if n := x.size(); n <= inode {
			s.list = append(s.list, x)
			inode -= n
		} else {
			outside = append(outside, x)
			block -= n
		}
	}
	if block < 0 {
		return nil, fmt.Errorf("attributes are %d bytes too large: one block holds %d", -block, attrInBlock-attrEnd)
	}
	s.inline = len(s.list)
	s.list = append(s.list, outside...)
	return s, nil
}

// key tells sets apart.
func (s *attrSet) key() string {
	var b strings.Builder
	for _, x := range s.list {
		fmt.Fprintf(&b, "%d %d %d %s%s", x.index, len(x.name), len(x.value), x.name, x.value)
	}
	return b.String()
}

func diskAttr(full, value string) (xattr, error) {
	for _, p := range attrPrefixes {
		name, ok := strings.CutPrefix(full, p.prefix)
		switch {
		case !ok:
		case isACL(p.index) && name == "":
			acl, err := diskACL(value)
			return xattr{p.index, "", acl}, err
		case !isACL(p.index) && name != "" && len(name) <= MaxName && !strings.Contains(name, "\x00"):
			return xattr{p.index, name, value}, nil
		}
	}
	return xattr{}, errors.New("name cannot be stored")
}

// fullAttr is the inverse of diskAttr.
func fullAttr(x xattr) (name, value string, err error) {
	for _, p := range attrPrefixes {
		if p.index != x.index {
			continue
		}
		if isACL(x.index) {
			value, err = wireACL(x.value)
			return p.prefix + x.name, value, err
		}
		return p.prefix + x.name, x.value, nil
	}
	return "", "", fmt.Errorf("attribute with name index %d: %w", x.index, errors.ErrUnsupported)
}

// internAttrs returns the index of the set of these attributes, 0 for none.
func (w *Writer) internAttrs(attrs map[string]string) (uint32, error) {
	if len(attrs) == 0 {
		return 0, nil
	}
	s, err := newAttrSet(attrs)
	if err != nil {
		return 0, err
	}
	key := s.key()
	i, ok := w.attrIndex[key]
	if !ok {
		i = uint32(len(w.attrs))
		w.attrs = append(w.attrs, *s)
		w.attrIndex[key] = i
	}
	return i, nil
}

// putAttrs writes set i into an inode and, if it does not fit there, into a
// block, whose number it returns, or to which it adds an inode.
func (w *Writer) putAttrs(raw []byte, i uint32) (block uint32, err error) {
	if i == 0 {
		return 0, nil
	}
	s := &w.attrs[i]
	if s.inline > 0 {
		le.PutUint32(raw[inoAttrs:], attrMagic)
		putAttrEntries(raw[inoAttrs+4:], 0, s.list[:s.inline])
	}
	if s.inline == len(s.list) {
		return 0, nil
	}
	if s.left == 0 {
		nr, b, err := w.newBlock()
		if err != nil {
			return 0, err
		}
		s.block, s.left = uint32(nr), min(s.refs, attrMaxRefs)
		s.refs -= s.left
		hash := putAttrEntries(b, attrBlockHead, s.list[s.inline:])
		le.PutUint32(b, attrMagic)
		le.PutUint32(b[attrRefcount:], uint32(s.left))
		le.PutUint32(b[attrBlocks:], 1)
		le.PutUint32(b[attrHash:], hash)
		le.PutUint32(b[attrChecksum:], attrCsum(w.seed, nr, b))
	}
	s.left--
	return s.block, nil
}

// putAttrEntries writes entries from at on and their values, from the end of b
// downwards. In a block each entry has a hash, and all together have the one
// that is returned; in an inode there are none.
func putAttrEntries(b []byte, at int, list []xattr) (hash uint32) {
	inBlock := at > 0
	end := len(b)
	for _, x := range list {
		p := b[at:]
		p[0] = byte(len(x.name)) // e_name_len
		p[1] = x.index           // e_name_index
		if len(x.value) > 0 {
			end -= pad4(len(x.value))
			le.PutUint16(p[2:], uint16(end)) // e_value_offs
		}
		copy(b[end:], x.value)
		le.PutUint32(p[8:], uint32(len(x.value))) // e_value_size
		copy(p[attrHead:], x.name)
		if inBlock {
			h := entryHash(x.name, b[end:end+pad4(len(x.value))])
			le.PutUint32(p[12:], h) // e_hash
			hash = hash<<16 ^ hash>>16 ^ h
		}
		at += attrHead + pad4(len(x.name))
	}
	return hash
}

// entryHash is e_hash: of a name, whose bytes the kernel now takes as unsigned,
// and a padded value; fs/ext4/xattr.c, ext4_xattr_hash_entry.
func entryHash(name string, value []byte) (h uint32) {
	for i := range len(name) {
		h = h<<5 ^ h>>27 ^ uint32(name[i])
	}
	for ; len(value) > 0; value = value[4:] {
		h = h<<16 ^ h>>16 ^ le.Uint32(value)
	}
	return h
}
