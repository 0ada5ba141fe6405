package ext4

import (
	"cmp"
	"fmt"
	"slices"
)

// Indexed directories: a tree of one or two levels over leaves that are sorted
// by the hash of their names; Documentation/filesystems/ext4/directory.rst,
// "Hash Tree Directories". The root is block 0, the second level, if there is
// one, follows it, and then the leaves.
const (
	dxEntry     = 8                                             // bytes: hash and block
	dxRootCount = dotsSize + 8                                  // offset of limit and count in the root
	dxNodeCount = direntHead                                    // and in a node
	dxRootLimit = (blockSize - dxRootCount - dxEntry) / dxEntry // the last entry's place is the checksum's
	dxNodeLimit = (blockSize - dxNodeCount - dxEntry) / dxEntry
)

// planIndex sorts the entries by hash and counts the blocks.
func (d *dir) planIndex(seed [4]uint32) error {
	type hashed struct {
		major, minor uint32
		dirent
	}
	sorted := make([]hashed, len(d.entries))
	for i, e := range d.entries {
		major, minor := nameHash(seed, e.name)
		sorted[i] = hashed{major, minor, e}
	}
	slices.SortFunc(sorted, func(a, b hashed) int {
		return cmp.Or(cmp.Compare(a.major, b.major), cmp.Compare(a.minor, b.minor), cmp.Compare(a.name, b.name))
	})
	for i := range sorted {
		d.entries[i] = sorted[i].dirent
	}
	d.leaves = 0
	for i := 0; i < len(d.entries); i = leafEnd(d.entries, i) {
		d.leaves++
	}
	d.blocks = 1 + d.nodes() + d.leaves
	if d.nodes() > dxRootLimit {
		return fmt.Errorf("directory needs %d blocks; an index reaches %d", d.leaves, dxRootLimit*dxNodeLimit)
	}
	return nil
}

// nodes is the number of blocks in the second level of the index.
func (d *dir) nodes() int64 {
	if d.leaves <= dxRootLimit {
		return 0
	}
	return ceilDiv(d.leaves, dxNodeLimit)
}

// leafEnd returns the end of the leaf that begins with entry i.
func leafEnd(entries []dirent, i int) int {
	for size := 0; i < len(entries); i++ {
		if size += direntLen(entries[i].name); size > leafFill {
			break
		}
	}
	return i
}

// A dxEnt is an entry of the index: the lowest hash below it, and the block.
type dxEnt struct{ hash, block uint32 }

func (w *Writer) writeIndexed(d *dir, iseed uint32, next func() ([]byte, error)) error {
	leaves := make([]dxEnt, 0, d.leaves)
	var last uint32 // hash in the leaf before
	for i := 0; i < len(d.entries); {
		hash, _ := nameHash(w.hashSeed, d.entries[i].name)
		i = leafEnd(d.entries, i)
		block := uint32(1 + d.nodes() + int64(len(leaves)))
		if len(leaves) > 0 && hash == last {
			leaves = append(leaves, dxEnt{hash | 1, block}) // continued: a lookup must see both
		} else {
			leaves = append(leaves, dxEnt{hash, block})
		}
		last, _ = nameHash(w.hashSeed, d.entries[i-1].name)
	}

	top := leaves
	if d.nodes() > 0 {
		top = nil
		for part := range slices.Chunk(leaves, dxNodeLimit) {
			top = append(top, dxEnt{part[0].hash, uint32(1 + len(top))})
		}
	}
	b, err := next()
	if err != nil {
		return err
	}
	putDXRoot(b, d, len(top) < len(leaves))
	putDXEntries(b, dxRootCount, dxRootLimit, top)
	sealDX(b, iseed, dxRootCount, dxRootLimit, len(top))
	if d.nodes() > 0 {
		for part := range slices.Chunk(leaves, dxNodeLimit) {
			if b, err = next(); err != nil {
				return err
			}
			le.PutUint16(b[4:], blockSize) // one entry without an inode
			putDXEntries(b, dxNodeCount, dxNodeLimit, part)
			sealDX(b, iseed, dxNodeCount, dxNodeLimit, len(part))
		}
	}

	for i := 0; i < len(d.entries); {
		if b, err = next(); err != nil {
			return err
		}
		l := leaf{b: b}
		end := leafEnd(d.entries, i)
		for _, e := range d.entries[i:end] {
			l.add(e.name, e.ino, w.inodes[e.ino].mode)
		}
		l.seal(iseed)
		i = end
	}
	return nil
}

// putDXRoot writes what precedes the entries of the root: "." and "..", the
// latter covering the whole block, and dx_root_info.
func putDXRoot(b []byte, d *dir, twoLevels bool) {
	l := leaf{b: b}
	l.add(".", d.ino, modeDir)
	l.add("..", d.parent, modeDir)
	le.PutUint16(b[l.last+4:], uint16(blockSize-l.last))
	info := b[dotsSize:]
	info[4] = hashHalfMD4
	info[5] = 8 // info_length
	if twoLevels {
		info[6] = 1 // indirect_levels
	}
}

// putDXEntries writes limit, count and the entries. The first has no hash: the
// two counts are in its place.
func putDXEntries(b []byte, at, limit int, entries []dxEnt) {
	for i, e := range entries {
		p := b[at+i*dxEntry:]
		le.PutUint32(p[0:], e.hash)
		le.PutUint32(p[4:], e.block)
	}
	le.PutUint16(b[at:], uint16(limit))
	le.PutUint16(b[at+2:], uint16(len(entries)))
}

// dxCsum is dt_checksum. It covers the entries in use, dt_reserved and itself
// as zero.
func dxCsum(iseed uint32, b []byte, at, limit, count int) uint32 {
	tail := b[at+limit*dxEntry:]
	return csumZeros(csum(csum(iseed, b[:at+count*dxEntry]), tail[:4]), 4)
}

func sealDX(b []byte, iseed uint32, at, limit, count int) {
	le.PutUint32(b[at+limit*dxEntry+4:], dxCsum(iseed, b, at, limit, count))
}
