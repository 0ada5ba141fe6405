package ext4

import (
	"errors"
	"fmt"
)

// xattrs returns the attributes of an inode, nil if there are none.
func (f *FS) xattrs(n *node) (map[string]string, error) {
	attrs := map[string]string{}
	add := func(x xattr) error {
		if x.index == inlineIndex && x.name == inlineName {
			return nil // content
		}
		name, value, err := fullAttr(x)
		if err == nil {
			attrs[name] = value
		}
		return err
	}
	if err := n.eachInner(add); err != nil {
		return nil, err
	}
	block := int64(le.Uint32(n.raw[inoAttrLo:])) | int64(le.Uint16(n.raw[inoAttrHi:]))<<32
	if block != 0 {
		b, err := f.readBlock(block)
		if err != nil {
			return nil, err
		}
		if le.Uint32(b) != attrMagic || le.Uint32(b[attrBlocks:]) != 1 {
			return nil, errDamaged
		}
		if f.checksummed && le.Uint32(b[attrChecksum:]) != attrCsum(f.seed, block, b) {
			return nil, fmt.Errorf("checksum: %w", errDamaged)
		}
		if err := eachAttr(b, attrBlockHead, add); err != nil {
			return nil, err
		}
	}
	if len(attrs) == 0 {
		return nil, nil
	}
	return attrs, nil
}

// eachInner calls fn with the attributes that are in the inode.
func (n *node) eachInner(fn func(xattr) error) error {
	extra, err := n.extra()
	if err != nil || extra == nil {
		return err
	}
	in := n.raw[inoBase+len(extra):]
	if len(in) < 4 || le.Uint32(in) != attrMagic {
		return nil
	}
	return eachAttr(in[4:], 0, fn)
}

// eachAttr calls fn with the entries of b that begin at offset at.
func eachAttr(b []byte, at int, fn func(xattr) error) error {
	for ; at+4 <= len(b) && le.Uint32(b[at:]) != 0; at += attrHead + pad4(int(b[at])) {
		p := b[at:]
		if len(p) < attrHead || len(p) < attrHead+int(p[0]) {
			return errDamaged
		}
		if le.Uint32(p[4:]) != 0 { // e_value_inum
			return fmt.Errorf("value in an inode of its own: %w", errors.ErrUnsupported)
		}
		off, size := uint64(le.Uint16(p[2:])), uint64(le.Uint32(p[8:]))
		if size > 0 && off+size > uint64(len(b)) {
			return errDamaged
		}
		x := xattr{index: p[1], name: string(p[attrHead:][:p[0]])}
		if size > 0 {
			x.value = string(b[off:][:size])
		}
		if err := fn(x); err != nil {
			return err
		}
	}
	return nil
}
