package ext4

// The geometry does not depend on the final size, so that content has a place
// before the size is known: 16 groups share their bitmaps and inode tables, at
// fixed offsets from the start of the first of them, and behind every copy of
// the superblock there is room for the descriptors of 256 GiB, or of the least
// size asked for. What a file system of the final size leaves unused of all this
// is free space in it.
const (
	blockSize      = 4096
	blocksPerGroup = 8 * blockSize // what one block of bitmap maps
	inodeSize      = 256
	inodesPerGroup = 8192 // one for 16 KiB, as mke2fs has it
	inodesPerBlock = blockSize / inodeSize
	tableBlocks    = inodesPerGroup / inodesPerBlock
	flexSize       = 16 // groups
	descSize       = 64
	descsPerBlock  = blockSize / descSize
	minDescRoom    = 32 // blocks
	groupSize      = blocksPerGroup * blockSize

	// 32-bit block numbers reach as far as a file on most hosts can be long.
	maxBlocks = 1<<32 - 1
)

// A layout says where metadata is. Blocks and groups are counted from 0.
type layout struct {
	descRoom int64 // blocks kept for descriptors behind each superblock
	// The following are 0 while the size is not known.
	blocks     int64 // in the file system
	groups     int64
	descBlocks int64 // blocks of descriptors
	journal    int64 // blocks
}

// sized returns the layout of a file system in size bytes. A last group that
// has hardly room for its own metadata is left out, as in mke2fs
// (lib/ext2fs/initialize.c).
func (l layout) sized(size int64, journal bool) layout {
	l.blocks = size / blockSize
	l.groups = ceilDiv(l.blocks, blocksPerGroup)
	l.descBlocks = ceilDiv(l.groups, descsPerBlock)
	if rest := l.blocks % blocksPerGroup; rest > 0 && l.groups > 1 {
		if rest < 2+tableBlocks+l.backup(l.groups-1)+50 {
			l.blocks -= rest
			l.groups--
			l.descBlocks = ceilDiv(l.groups, descsPerBlock)
		}
	}
	l.descRoom = max(l.descRoom, l.descBlocks)
	if journal {
		l.journal = journalBlocks(l.blocks)
	}
	return l
}

// journalBlocks is the size that mke2fs gives a journal
// (lib/ext2fs/mkjournal.c, ext2fs_default_journal_size).
func journalBlocks(blocks int64) int64 {
	const mib = 1 << 20 / blockSize
	switch {
	case blocks < 128*mib:
		return 4 * mib
	case blocks < 1024*mib:
		return 16 * mib
	case blocks < 2048*mib:
		return 32 * mib
	case blocks < 16*1024*mib:
		return 64 * mib
	case blocks < 32*1024*mib:
		return 128 * mib
	case blocks < 64*1024*mib:
		return 256 * mib
	case blocks < 128*1024*mib:
		return 512 * mib
	}
	return 1024 * mib
}

// hasSuper reports whether group g has a copy of the superblock: 0, 1 and the
// powers of 3, 5 and 7.
func hasSuper(g int64) bool {
	if g <= 1 {
		return true
	}
	for _, base := range []int64{3, 5, 7} {
		p := base
		for p < g {
			p *= base
		}
		if p == g {
			return true
		}
	}
	return false
}

// supers returns the groups below n, but 0, that have a copy of the superblock.
func supers(n int64) []int64 {
	list := make([]int64, 0, 32)
	for _, base := range []int64{3, 5, 7} {
		for p := base; p < n; p *= base {
			list = append(list, p)
		}
	}
	if n > 1 {
		list = append(list, 1)
	}
	return list
}

// backup is the number of blocks at the start of group g that hold a copy of
// the superblock and the descriptors.
func (l *layout) backup(g int64) int64 {
	if !hasSuper(g) {
		return 0
	}
	return 1 + l.descBlocks
}

// flexStart is where the metadata of the groups that share with g begins.
// Of the groups that host it, only the first has a superblock.
func (l *layout) flexStart(g int64) int64 {
	first := g - g%flexSize
	if first == 0 {
		return 1 + l.descRoom
	}
	return first * blocksPerGroup
}

func (l *layout) blockBitmap(g int64) int64 { return l.flexStart(g) + g%flexSize }
func (l *layout) inodeBitmap(g int64) int64 { return l.flexStart(g) + flexSize + g%flexSize }
func (l *layout) inodeTable(g int64) int64 {
	return l.flexStart(g) + 2*flexSize + g%flexSize*tableBlocks
}

// reserved is the number of blocks at the start of group g that content must
// leave alone while it is written.
func (l *layout) reserved(g int64) int64 {
	if l.groups > 0 && g >= l.groups {
		return 0 // beyond the end: Close moves it down
	}
	var n int64
	if hasSuper(g) {
		n = 1 + l.descRoom
	}
	if g%flexSize == 0 {
		hosted := int64(flexSize)
		if l.groups > 0 {
			hosted = min(hosted, l.groups-g)
		}
		n += 2*flexSize + hosted*tableBlocks
	}
	return n
}

// static is the number of blocks that bitmaps, inode tables, superblocks,
// descriptors and the journal take: s_overhead_clusters.
func (l *layout) static() int64 {
	copies := int64(1 + len(supers(l.groups)))
	return l.groups*(2+tableBlocks) + copies*(1+l.descBlocks) + l.journal
}

// groupBlocks is the number of blocks in group g.
func (l *layout) groupBlocks(g int64) int64 {
	return min(blocksPerGroup, l.blocks-g*blocksPerGroup)
}

// holds reports whether this many blocks and inodes fit.
func (l *layout) holds(blocks, inodes int64) bool {
	return l.static()+blocks <= l.blocks && inodes <= l.groups*inodesPerGroup
}

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }
