package ext4

import "fmt"

// Inline data: a small file, directory or symlink is in its inode, the first 60
// bytes where the mapping would be and the others in the value of an attribute;
// Documentation/filesystems/ext4/inlinedata.rst. The attribute has the index of
// "system." and must be in the inode too. Only the reader knows of it.
const (
	inlineIndex = 7
	inlineName  = "data"
	inlineHead  = inoBlockEnd - inoBlock
)

// inline returns the content of an inode that has it in itself.
func (f *FS) inline(n *node) ([]byte, error) {
	data := append([]byte{}, n.raw[inoBlock:inoBlockEnd]...)
	err := n.eachInner(func(x xattr) error {
		if x.index == inlineIndex && x.name == inlineName {
			data = append(data, x.value...)
		}
		return nil
	})
	if err == nil && n.size > int64(len(data)) {
		err = errDamaged
	}
	if err != nil {
		return nil, fmt.Errorf("inode %d: inline data: %w", n.ino, err)
	}
	return data[:n.size], nil
}

// parseInlineDir adds the entries of a directory in an inode. It begins with the
// inode of its parent, in place of "." and "..", and its two parts are as blocks,
// without checksums of their own.
func (f *FS) parseInlineDir(list *listing, b []byte) error {
	if len(b) < inlineHead {
		return errDamaged
	}
	list.parent = Ino(le.Uint32(b))
	if err := f.parseDirents(list, b[4:inlineHead]); err != nil {
		return err
	}
	return f.parseDirents(list, b[inlineHead:])
}
