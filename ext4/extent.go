package ext4

// Extent trees; Documentation/filesystems/ext4/ifork.rst.
const (
	extentMagic    = 0xF30A
	extentEntry    = 12    // bytes: header, index and leaf entries alike
	extentMaxLen   = 32768 // blocks; longer means "not initialized"
	extentsInode   = 4     // entries in i_block
	extentsBlock   = (blockSize - extentEntry) / extentEntry
	extentTail     = extentEntry * (1 + extentsBlock) // where the checksum of a block is
	extentMaxDepth = 5
)

// An extent maps n blocks of a file from logical on to blocks from start on.
type extent struct {
	logical uint32
	start   uint32
	n       uint16
}

// appendExtent adds e to the extents of one file, which begin at first, and
// joins it to the last where it continues that one.
func appendExtent(list []extent, first int, e extent) []extent {
	if len(list) > first {
		last := &list[len(list)-1]
		n := uint32(last.n)
		if last.logical+n == e.logical && last.start+n == e.start && n+uint32(e.n) <= extentMaxLen {
			last.n += e.n
			return list
		}
	}
	return append(list, e)
}

// appendRuns adds blocks from logical on that are in these runs.
func appendRuns(list []extent, first int, logical int64, runs []run) []extent {
	for _, r := range runs {
		for r.n > 0 {
			n := min(r.n, extentMaxLen)
			list = appendExtent(list, first, extent{uint32(logical), uint32(r.start), uint16(n)})
			logical += n
			r.start, r.n = r.start+n, r.n-n
		}
	}
	return list
}

func extentBlocks(list []extent) (n int64) {
	for _, e := range list {
		n += int64(e.n)
	}
	return n
}

// treeBlocks is the number of blocks that the tree of n extents takes outside
// of the inode.
func treeBlocks(n int64) (blocks int64) {
	for n > extentsInode {
		n = ceilDiv(n, extentsBlock)
		blocks += n
	}
	return blocks
}

// putExtents writes the tree of list, its root to iblock and the rest to blocks
// of their own. Trees are built from the leaves up, every node full but the
// last. It returns the number of those blocks.
func (w *Writer) putExtents(iblock []byte, iseed uint32, list []extent) (blocks int64, err error) {
	if len(list) <= extentsInode {
		putExtentHeader(iblock, len(list), extentsInode, 0)
		putLeaf(iblock, list)
		return 0, nil
	}
	var level []extent // of index entries: logical is the first block below, start the node's block
	for len(list) > 0 {
		n := min(len(list), extentsBlock)
		nr, node, err := w.newNode(n, 0)
		if err != nil {
			return 0, err
		}
		putLeaf(node, list[:n])
		sealNode(node, iseed)
		level = append(level, extent{logical: list[0].logical, start: nr})
		list = list[n:]
		blocks++
	}
	depth := 1
	for ; len(level) > extentsInode; depth++ {
		var up []extent
		for len(level) > 0 {
			n := min(len(level), extentsBlock)
			nr, node, err := w.newNode(n, depth)
			if err != nil {
				return 0, err
			}
			putIndex(node, level[:n])
			sealNode(node, iseed)
			up = append(up, extent{logical: level[0].logical, start: nr})
			level = level[n:]
			blocks++
		}
		level = up
	}
	putExtentHeader(iblock, len(level), extentsInode, depth)
	putIndex(iblock, level)
	return blocks, nil
}

// newNode returns a new block of an extent tree with its header filled in.
func (w *Writer) newNode(entries, depth int) (uint32, []byte, error) {
	nr, b, err := w.newBlock()
	if err == nil {
		putExtentHeader(b, entries, extentsBlock, depth)
	}
	return uint32(nr), b, err
}

func putExtentHeader(b []byte, entries, limit, depth int) {
	le.PutUint16(b[0:], extentMagic)     // eh_magic
	le.PutUint16(b[2:], uint16(entries)) // eh_entries
	le.PutUint16(b[4:], uint16(limit))   // eh_max
	le.PutUint16(b[6:], uint16(depth))   // eh_depth
}

func putLeaf(b []byte, list []extent) {
	for i, e := range list {
		p := b[extentEntry*(1+i):]
		le.PutUint32(p[0:], e.logical) // ee_block
		le.PutUint16(p[4:], e.n)       // ee_len; ee_start_hi stays 0
		le.PutUint32(p[8:], e.start)   // ee_start_lo
	}
}

func putIndex(b []byte, list []extent) {
	for i, e := range list {
		p := b[extentEntry*(1+i):]
		le.PutUint32(p[0:], e.logical) // ei_block
		le.PutUint32(p[4:], e.start)   // ei_leaf_lo; ei_leaf_hi stays 0
	}
}

func sealNode(b []byte, iseed uint32) {
	le.PutUint32(b[extentTail:], csum(iseed, b[:extentTail]))
}
