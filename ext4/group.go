package ext4

// Offsets in a group descriptor; Documentation/filesystems/ext4/group_descr.rst.
const (
	gdBlockBitmapLo     = 0x00
	gdInodeBitmapLo     = 0x04
	gdInodeTableLo      = 0x08
	gdFreeBlocksLo      = 0x0C
	gdFreeInodesLo      = 0x0E
	gdUsedDirsLo        = 0x10
	gdFlags             = 0x12
	gdBlockBitmapCsumLo = 0x18
	gdInodeBitmapCsumLo = 0x1A
	gdItableUnusedLo    = 0x1C
	gdChecksum          = 0x1E
	gdInodeTableHi      = 0x28
	gdBlockBitmapCsumHi = 0x38
	gdInodeBitmapCsumHi = 0x3A
)

// bg_flags. INODE_ZEROED is always set: a hole in the file reads as zeros, and
// without it the kernel writes every inode table at the first mount.
const (
	groupInodeUninit = 1
	groupBlockUninit = 2
	groupInodeZeroed = 4
)

// writeGroups writes the bitmaps that are needed and returns all descriptors
// and the number of free blocks.
func (w *Writer) writeGroups() (descs []byte, freeBlocks int64, err error) {
	lay := &w.lay
	descs = make([]byte, lay.descBlocks*blockSize)
	for g := int64(0); g < lay.groups; g++ {
		d := descs[g*descSize:][:descSize]
		free := lay.groupBlocks(g) - w.blocks.used(g)
		freeBlocks += free
		// A group has less than 65536 of everything: the high halves stay 0, as
		// do those of the block numbers.
		le.PutUint32(d[gdBlockBitmapLo:], uint32(lay.blockBitmap(g)))
		le.PutUint32(d[gdInodeBitmapLo:], uint32(lay.inodeBitmap(g)))
		le.PutUint32(d[gdInodeTableLo:], uint32(lay.inodeTable(g)))
		le.PutUint16(d[gdFreeBlocksLo:], uint16(free))
		flags := uint16(groupInodeZeroed)
		if bitmap := w.blocks.group[g]; bitmap == nil {
			flags |= groupBlockUninit
		} else if err := w.putBitmap(lay.blockBitmap(g), bitmap); err != nil {
			return nil, 0, err
		} else {
			c := csum(w.seed, bitmap)
			le.PutUint16(d[gdBlockBitmapCsumLo:], uint16(c))
			le.PutUint16(d[gdBlockBitmapCsumHi:], uint16(c>>16))
		}

		inodes := min(max(w.inodesUsed()-g*inodesPerGroup, 0), inodesPerGroup)
		le.PutUint16(d[gdFreeInodesLo:], uint16(inodesPerGroup-inodes))
		le.PutUint16(d[gdItableUnusedLo:], uint16(inodesPerGroup-inodes))
		if inodes == 0 {
			flags |= groupInodeUninit
		} else {
			le.PutUint16(d[gdUsedDirsLo:], w.dirsInGroup(g))
			var bitmap [blockSize]byte
			setBits(bitmap[:], 0, inodes)
			setBits(bitmap[:], inodesPerGroup, 8*blockSize)
			if err := w.putBitmap(lay.inodeBitmap(g), bitmap[:]); err != nil {
				return nil, 0, err
			}
			c := csum(w.seed, bitmap[:inodesPerGroup/8])
			le.PutUint16(d[gdInodeBitmapCsumLo:], uint16(c))
			le.PutUint16(d[gdInodeBitmapCsumHi:], uint16(c>>16))
		}
		le.PutUint16(d[gdFlags:], flags)
		le.PutUint16(d[gdChecksum:], descCsum(w.seed, g, d))
	}
	return descs, freeBlocks, nil
}

func (w *Writer) putBitmap(block int64, bitmap []byte) error {
	b, err := w.out.block(block)
	copy(b, bitmap)
	return err
}

func (w *Writer) dirsInGroup(g int64) (n uint16) {
	first := g * inodesPerGroup // index of the group's first inode is its number - 1
	for i := first + 1; i <= min(first+inodesPerGroup, w.inodesUsed()); i++ {
		if w.inodes[i].mode&modeType == modeDir {
			n++
		}
	}
	return n
}

// writeSupers writes the descriptors and superblocks, the backups first and the
// primary superblock, which makes the file a file system, last of all.
func (w *Writer) writeSupers(descs []byte, freeBlocks int64) error {
	super := w.superblock(freeBlocks)
	put := func(first int64, blocks []byte) error {
		for ; len(blocks) > 0; first++ {
			b, err := w.out.block(first)
			if err != nil {
				return err
			}
			blocks = blocks[copy(b, blocks):]
		}
		return nil
	}
	for _, g := range supers(w.lay.groups) {
		sealSuper(super, g)
		if err := put(g*blocksPerGroup, super); err != nil {
			return err
		}
		if err := put(g*blocksPerGroup+1, descs); err != nil {
			return err
		}
	}
	if err := put(1, descs); err != nil {
		return err
	}
	if err := w.out.flush(); err != nil {
		return err
	}
	sealSuper(super, 0)
	_, err := w.file.WriteAt(super, superOffset)
	return err
}
