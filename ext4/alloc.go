package ext4

import "math/bits"

// A run is n blocks that follow each other.
type run struct{ start, n int64 }

// A blockMap is the block bitmaps of a file system whose size is known. A group
// in which nothing but its own superblock copy is in use has no bitmap, here
// and on the disk (BLOCK_UNINIT): that is what makes a large empty file system
// small.
type blockMap struct {
	lay   *layout
	group [][]byte
	next  int64 // where to look first
}

// newBlockMap returns the map of a file system that holds only static metadata.
func newBlockMap(lay *layout, next int64) *blockMap {
	m := &blockMap{lay, make([][]byte, lay.groups), next}
	for g := int64(0); g < lay.groups; g++ {
		m.mark(run{lay.blockBitmap(g), 1})
		m.mark(run{lay.inodeBitmap(g), 1})
		m.mark(run{lay.inodeTable(g), tableBlocks})
	}
	m.materialize(lay.groups - 1) // the last group must have one
	return m
}

func (m *blockMap) materialize(g int64) []byte {
	if m.group[g] == nil {
		b := make([]byte, blockSize)
		setBits(b, 0, m.lay.backup(g))
		setBits(b, m.lay.groupBlocks(g), blocksPerGroup)
		m.group[g] = b
	}
	return m.group[g]
}

// mark takes blocks out of the free space.
func (m *blockMap) mark(r run) {
	for r.n > 0 {
		g, off := r.start/blocksPerGroup, r.start%blocksPerGroup
		n := min(r.n, blocksPerGroup-off)
		setBits(m.materialize(g), off, off+n)
		r.start, r.n = r.start+n, r.n-n
	}
}

// used is the number of blocks in use in group g.
func (m *blockMap) used(g int64) int64 {
	b := m.group[g]
	if b == nil {
		return m.lay.backup(g)
	}
	n := m.lay.groupBlocks(g) - blocksPerGroup // do not count the padding
	for i := 0; i < len(b); i += 8 {
		n += int64(bits.OnesCount64(le.Uint64(b[i:])))
	}
	return n
}

// find returns the first block in [from, to) that is in use, or that is free;
// to if there is none.
func (m *blockMap) find(from, to int64, inUse bool) int64 {
	to = min(to, m.lay.blocks)
	for from < to {
		g, off := from/blocksPerGroup, from%blocksPerGroup
		var end int64 // offset of what is sought
		if b := m.group[g]; b != nil {
			end = findBit(b, off, inUse)
		} else if head := m.lay.backup(g); (off < head) == inUse {
			end = off
		} else if off < head {
			end = head
		} else {
			end = blocksPerGroup
		}
		if end < blocksPerGroup {
			return min(g*blocksPerGroup+end, to)
		}
		from = (g + 1) * blocksPerGroup
	}
	return to
}

// take allocates n blocks: in one run if there is one, from where the last one
// ended or else from the start, or else in the longest runs there are. It
// returns nil if there are not enough.
func (m *blockMap) take(n int64) []run {
	for _, from := range []int64{m.next, 0} {
		if r := m.search(from, n); r.n >= n {
			return []run{m.claim(run{r.start, n})}
		}
	}
	var runs []run
	for n > 0 {
		r := m.search(0, n)
		if r.n == 0 {
			return nil
		}
		r = m.claim(run{r.start, min(r.n, n)})
		runs = append(runs, r)
		n -= r.n
	}
	return runs
}

func (m *blockMap) claim(r run) run {
	m.mark(r)
	m.next = r.start + r.n
	return r
}

// search returns the first free run of n blocks behind from, or else the
// longest.
func (m *blockMap) search(from, n int64) (longest run) {
	for pos := from; pos < m.lay.blocks; {
		start := m.find(pos, m.lay.blocks, false)
		pos = m.find(start, start+n, true)
		if pos-start > longest.n {
			longest = run{start, pos - start}
		}
		if longest.n >= n {
			break
		}
	}
	return longest
}

func setBits(b []byte, from, to int64) {
	for ; from < to && from%8 != 0; from++ {
		b[from/8] |= 1 << (from % 8)
	}
	for ; from+8 <= to; from += 8 {
		b[from/8] = 0xff
	}
	for ; from < to; from++ {
		b[from/8] |= 1 << (from % 8)
	}
}

// findBit returns the first bit at or behind from that has the value set, or
// the number of bits.
func findBit(b []byte, from int64, set bool) int64 {
	for from < int64(len(b))*8 {
		word := le.Uint64(b[from/64*8:])
		if !set {
			word = ^word
		}
		word &= ^uint64(0) << (from % 64)
		if word != 0 {
			return from/64*64 + int64(bits.TrailingZeros64(word))
		}
		from = (from/64 + 1) * 64
	}
	return from
}
