package ext4

// Offsets in the superblock, which is 1024 bytes at byte 1024;
// Documentation/filesystems/ext4/super.rst.
const (
	superOffset = 1024
	superSize   = 1024

	sbInodes         = 0x00
	sbBlocksLo       = 0x04
	sbFreeBlocksLo   = 0x0C
	sbFreeInodes     = 0x10
	sbFirstBlock     = 0x14
	sbLogBlockSize   = 0x18
	sbLogClusterSize = 0x1C
	sbBlocksPerGroup = 0x20
	sbClustersGroup  = 0x24
	sbInodesPerGroup = 0x28
	sbWriteTime      = 0x30
	sbMaxMountCount  = 0x36
	sbMagic          = 0x38
	sbState          = 0x3A
	sbErrors         = 0x3C
	sbLastCheck      = 0x40
	sbRevLevel       = 0x4C
	sbFirstIno       = 0x54
	sbInodeSize      = 0x58
	sbGroupNr        = 0x5A
	sbCompat         = 0x5C
	sbIncompat       = 0x60
	sbROCompat       = 0x64
	sbUUID           = 0x68
	sbLabel          = 0x78
	sbJournalInum    = 0xE0
	sbHashSeed       = 0xEC
	sbHashVersion    = 0xFC
	sbJournalBackup  = 0xFD
	sbDescSize       = 0xFE
	sbMountOpts      = 0x100
	sbFirstMetaBG    = 0x104
	sbMkfsTime       = 0x108
	sbJournalBlocks  = 0x10C
	sbBlocksHi       = 0x150
	sbFreeBlocksHi   = 0x158
	sbMinExtraIsize  = 0x15C
	sbWantExtraIsize = 0x15E
	sbFlags          = 0x160
	sbLogFlex        = 0x174
	sbChecksumType   = 0x175
	sbKbytesWritten  = 0x178
	sbOverhead       = 0x248
	sbBackupGroups   = 0x24C
	sbLostFoundIno   = 0x268
	sbChecksumSeed   = 0x270
	sbWriteTimeHi    = 0x274
	sbMkfsTimeHi     = 0x276
	sbLastCheckHi    = 0x277
	sbChecksum       = 0x3FC
)

const (
	superMagic = 0xEF53
	labelSize  = 16 // s_volume_name
)

// Features; Documentation/filesystems/ext4/super.rst.
const (
	compatJournal  = 0x4
	compatExtAttr  = 0x8
	compatDirIndex = 0x20

	compatSparseSuper2 = 0x200

	incompatFiletype   = 0x2
	incompatRecover    = 0x4
	incompatMetaBG     = 0x10
	incompatExtents    = 0x40
	incompat64Bit      = 0x80
	incompatMMP        = 0x100
	incompatFlexBG     = 0x200
	incompatEAInode    = 0x400
	incompatCsumSeed   = 0x2000
	incompatLargeDir   = 0x4000
	incompatInlineData = 0x8000

	roCompatSparseSuper  = 0x1
	roCompatLargeFile    = 0x2
	roCompatHugeFile     = 0x8
	roCompatDirNlink     = 0x20
	roCompatExtraIsize   = 0x40
	roCompatMetadataCsum = 0x400
)

const (
	hashHalfMD4   = 1
	flagSigned    = 1      // s_flags: names are hashed as signed bytes
	mountDefaults = 0x000C // user_xattr, acl
	extraIsize    = 32     // i_extra_isize: as far as i_projid
)

// defaultUUID stands in for no UUID, which e2fsck would replace.
var defaultUUID = [16]byte{0x62, 0x61, 0x6e, 0x67, 0x65, 0x72, 0x4e, 0x58, 0x94, 0x01, 0x65, 0x78, 0x74, 0x34, 0x66, 0x73}

// superblock returns the copy of the superblock that is in group 0; sealSuper
// makes the others of it.
func (w *Writer) superblock(freeBlocks int64) []byte {
	b := make([]byte, superSize)
	lay := &w.lay
	inodes := lay.groups * inodesPerGroup
	le.PutUint32(b[sbInodes:], uint32(inodes))
	le.PutUint32(b[sbBlocksLo:], uint32(lay.blocks))
	le.PutUint32(b[sbFreeBlocksLo:], uint32(freeBlocks))
	le.PutUint32(b[sbFreeInodes:], uint32(inodes-w.inodesUsed()))
	le.PutUint32(b[sbLogBlockSize:], 2) // 1024 << 2
	le.PutUint32(b[sbLogClusterSize:], 2)
	le.PutUint32(b[sbBlocksPerGroup:], blocksPerGroup)
	le.PutUint32(b[sbClustersGroup:], blocksPerGroup)
	le.PutUint32(b[sbInodesPerGroup:], inodesPerGroup)
	le.PutUint16(b[sbMaxMountCount:], 0xFFFF) // no check by count
	le.PutUint16(b[sbMagic:], superMagic)
	le.PutUint16(b[sbState:], 1)  // clean
	le.PutUint16(b[sbErrors:], 1) // continue, mke2fs's default
	le.PutUint32(b[sbRevLevel:], 1)
	le.PutUint32(b[sbFirstIno:], uint32(firstFreeIno))
	le.PutUint16(b[sbInodeSize:], inodeSize)
	compat := uint32(compatExtAttr | compatDirIndex)
	if lay.journal > 0 {
		compat |= compatJournal
	}
	le.PutUint32(b[sbCompat:], compat)
	le.PutUint32(b[sbIncompat:], incompatFiletype|incompatExtents|incompat64Bit|incompatFlexBG|incompatCsumSeed)
	le.PutUint32(b[sbROCompat:], roCompatSparseSuper|roCompatLargeFile|roCompatHugeFile|
		roCompatDirNlink|roCompatExtraIsize|roCompatMetadataCsum)
	copy(b[sbUUID:], w.opt.UUID[:])
	copy(b[sbLabel:sbLabel+16], w.opt.Label)
	copy(b[sbHashSeed:], w.opt.HashSeed[:])
	b[sbHashVersion] = hashHalfMD4
	le.PutUint16(b[sbDescSize:], descSize)
	le.PutUint32(b[sbMountOpts:], mountDefaults)
	le.PutUint16(b[sbMinExtraIsize:], extraIsize)
	le.PutUint16(b[sbWantExtraIsize:], extraIsize)
	le.PutUint32(b[sbFlags:], flagSigned)
	b[sbLogFlex] = 4 // 16 groups
	b[sbChecksumType] = 1
	le.PutUint32(b[sbKbytesWritten:], 1)
	le.PutUint32(b[sbOverhead:], uint32(lay.static()))
	le.PutUint32(b[sbLostFoundIno:], uint32(lostFoundIno))
	le.PutUint32(b[sbChecksumSeed:], w.seed)

	// Unlike those of inodes these times are unsigned, 40 bits.
	t := min(max(w.opt.Time.Unix(), 0), 1<<40-1)
	for _, off := range [][2]int{{sbWriteTime, sbWriteTimeHi}, {sbMkfsTime, sbMkfsTimeHi}, {sbLastCheck, sbLastCheckHi}} {
		le.PutUint32(b[off[0]:], uint32(t))
		b[off[1]] = byte(t >> 32)
	}
	if lay.journal > 0 {
		// s_journal_uuid stays zero: it would name an external journal.
		le.PutUint32(b[sbJournalInum:], uint32(journalIno))
		b[sbJournalBackup] = 1
		copy(b[sbJournalBlocks:], w.journalRoot[:])
		size := uint64(lay.journal) * blockSize
		le.PutUint32(b[sbJournalBlocks+60:], uint32(size>>32))
		le.PutUint32(b[sbJournalBlocks+64:], uint32(size))
	}
	return b
}

// sealSuper makes b the copy of group g.
func sealSuper(b []byte, g int64) {
	le.PutUint16(b[sbGroupNr:], uint16(g))
	le.PutUint32(b[sbChecksum:], csum(^uint32(0), b[:sbChecksum]))
}
