package ext4

// Offsets in an inode; Documentation/filesystems/ext4/inodes.rst.
const (
	inoMode       = 0x00
	inoUIDLo      = 0x02
	inoSizeLo     = 0x04
	inoAtime      = 0x08
	inoCtime      = 0x0C
	inoMtime      = 0x10
	inoGIDLo      = 0x18
	inoLinks      = 0x1A
	inoBlocksLo   = 0x1C
	inoFlags      = 0x20
	inoBlock      = 0x28
	inoBlockEnd   = 0x64
	inoGeneration = 0x64
	inoAttrLo     = 0x68
	inoSizeHi     = 0x6C
	inoBlocksHi   = 0x74
	inoAttrHi     = 0x76
	inoUIDHi      = 0x78
	inoGIDHi      = 0x7A
	inoChecksumLo = 0x7C
	inoExtraIsize = 0x80
	inoChecksumHi = 0x82
	inoCtimeExtra = 0x84
	inoMtimeExtra = 0x88
	inoAtimeExtra = 0x8C
	inoCrtime     = 0x90
	inoCrtimeX    = 0x94

	inoBase  = 0x80 // size of the inode before i_extra_isize was invented
	inoAttrs = inoBase + extraIsize
)

// i_flags.
const (
	flagIndex   = 0x1000
	flagHuge    = 0x40000
	flagExtents = 0x80000
	flagEAInode = 0x200000
	flagInline  = 0x10000000
)

// maxFastTarget is the longest symlink target that fits in i_block.
const maxFastTarget = inoBlockEnd - inoBlock - 1

// An inode is what the writer remembers of one until Close.
type inode struct {
	sec      int64
	nsec     uint32
	uid, gid uint32
	links    uint32 // names of a file; subdirectories of a directory
	attrs    uint32 // index of a set in Writer.attrs; 0: none
	ref      uint32 // Writer.contents, .dirs or .targets, by mode; major of a device
	minor    uint32
	mode     uint16
}

// writeInodes writes the inode tables and, as it comes to each inode, the
// directory, symlink, extent and attribute blocks that it owns.
func (w *Writer) writeInodes() error {
	table := newBatch(w.file)
	for first := int64(1); first <= w.inodesUsed(); first += inodesPerBlock {
		index := first - 1
		block := w.lay.inodeTable(index/inodesPerGroup) + index%inodesPerGroup/inodesPerBlock
		b, err := table.block(block)
		if err != nil {
			return err
		}
		for i := first; i < first+inodesPerBlock && i <= w.inodesUsed(); i++ {
			raw := b[(i-first)*inodeSize:][:inodeSize]
			if err := w.putInode(raw, Ino(i), &w.inodes[i]); err != nil {
				return err
			}
		}
	}
	return table.flush()
}

// putInode fills in one inode. Reserved ones that are not in use stay zero.
func (w *Writer) putInode(raw []byte, ino Ino, in *inode) error {
	if in.mode == 0 {
		return nil
	}
	iseed := inodeSeed(w.seed, ino, 0)
	iblock := raw[inoBlock:inoBlockEnd]
	var size, blocks int64
	var flags uint32
	var err error
	links := in.links
	switch in.mode & modeType {
	case modeRegular:
		// Empty files too are marked as mapped by extents: else the kernel maps
		// their first block the old way, for ever.
		flags = flagExtents
		c := &w.contents[in.ref]
		list := w.extentsOf(c)
		size = c.size
		blocks, err = w.putExtents(iblock, iseed, list)
		blocks += extentBlocks(list)
	case modeDir:
		d := &w.dirs[in.ref]
		flags = flagExtents
		if d.indexed() {
			flags |= flagIndex
		}
		size = d.blocks * blockSize
		blocks, err = w.writeDir(iblock, iseed, d)
		if links += 2; links > MaxLinks {
			links = 1 // dir_nlink: more than can be counted
		}
	case modeSymlink:
		target := w.targets[in.ref]
		size = int64(len(target))
		if len(target) <= maxFastTarget {
			copy(iblock, target)
			break
		}
		flags = flagExtents
		nr, b, e := w.newBlock()
		if e != nil {
			return e
		}
		copy(b, target)
		blocks, err = w.putExtents(iblock, iseed, []extent{{start: uint32(nr), n: 1}})
		blocks++
	case modeChar, modeBlock:
		putDevice(iblock, in.ref, in.minor)
	}
	if err != nil {
		return err
	}
	attrBlock, err := w.putAttrs(raw, in.attrs)
	if err != nil {
		return err
	}
	if attrBlock != 0 {
		blocks++
	}
	if ino == journalIno {
		copy(w.journalRoot[:], iblock)
	}

	le.PutUint16(raw[inoMode:], in.mode)
	le.PutUint16(raw[inoUIDLo:], uint16(in.uid))
	le.PutUint16(raw[inoUIDHi:], uint16(in.uid>>16))
	le.PutUint16(raw[inoGIDLo:], uint16(in.gid))
	le.PutUint16(raw[inoGIDHi:], uint16(in.gid>>16))
	le.PutUint32(raw[inoSizeLo:], uint32(size))
	le.PutUint32(raw[inoSizeHi:], uint32(size>>32))
	le.PutUint16(raw[inoLinks:], uint16(links))
	sectors := blocks * (blockSize / 512)
	le.PutUint32(raw[inoBlocksLo:], uint32(sectors))
	le.PutUint16(raw[inoBlocksHi:], uint16(sectors>>32))
	le.PutUint32(raw[inoFlags:], flags)
	le.PutUint32(raw[inoAttrLo:], attrBlock)
	le.PutUint16(raw[inoExtraIsize:], extraIsize)
	extra := timeExtra(in.sec, in.nsec)
	for _, off := range [][2]int{
		{inoAtime, inoAtimeExtra},
		{inoCtime, inoCtimeExtra},
		{inoMtime, inoMtimeExtra},
		{inoCrtime, inoCrtimeX},
	} {
		le.PutUint32(raw[off[0]:], uint32(in.sec))
		le.PutUint32(raw[off[1]:], extra)
	}
	c, _ := inodeCsum(iseed, raw)
	le.PutUint16(raw[inoChecksumLo:], uint16(c))
	le.PutUint16(raw[inoChecksumHi:], uint16(c>>16))
	return nil
}

// timeExtra is what the low 32 bits of the seconds, which are signed, leave
// out: two more bits and the nanoseconds.
func timeExtra(sec int64, nsec uint32) uint32 {
	return nsec<<2 | uint32((sec-int64(int32(sec)))>>32)&3
}

// timeOf is the inverse of timeExtra.
func timeOf(lo, extra uint32) (sec, nsec int64) {
	return int64(int32(lo)) + int64(extra&3)<<32, int64(extra >> 2)
}
