package ext4

import "hash/crc32"

// Metadata checksums are CRC-32C without the final inversion, so that they can
// be chained; Documentation/filesystems/ext4/checksums.rst. Each begins with
// the seed of the file system, so that a block of another one never passes.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func csum(seed uint32, b []byte) uint32 {
	return ^crc32.Update(^seed, castagnoli, b)
}

// csum32 adds four bytes. A slice of them would be on the heap, for each inode.
func csum32(c, v uint32) uint32 {
	for range 4 {
		c = castagnoli[byte(c)^byte(v)] ^ c>>8
		v >>= 8
	}
	return c
}

// csumZeros adds n zeros, where a checksum leaves itself out.
func csumZeros(c uint32, n int) uint32 {
	for range n {
		c = castagnoli[byte(c)] ^ c>>8
	}
	return c
}

// inodeSeed begins the checksums of an inode and of the blocks it owns.
func inodeSeed(seed uint32, ino Ino, generation uint32) uint32 {
	return csum32(csum32(seed, uint32(ino)), generation)
}

// descCsum is bg_checksum of group g.
func descCsum(seed uint32, g int64, desc []byte) uint16 {
	c := csum(csum32(seed, uint32(g)), desc[:gdChecksum])
	c = csumZeros(c, 2)
	return uint16(csum(c, desc[gdChecksum+2:]))
}

// inodeCsum is i_checksum. Its upper half exists if i_extra_isize covers it.
func inodeCsum(iseed uint32, raw []byte) (sum uint32, wide bool) {
	c := csumZeros(csum(iseed, raw[:inoChecksumLo]), 2)
	rest := raw[inoChecksumLo+2:]
	if wide = len(raw) > inoBase && le.Uint16(raw[inoExtraIsize:]) >= inoChecksumHi+2-inoBase; wide {
		c = csumZeros(csum(c, raw[inoChecksumLo+2:inoChecksumHi]), 2)
		rest = raw[inoChecksumHi+2:]
	}
	return csum(c, rest), wide
}

// attrCsum is h_checksum of the attribute block at number block.
func attrCsum(seed uint32, block int64, b []byte) uint32 {
	c := csum32(csum32(seed, uint32(block)), uint32(block>>32))
	c = csumZeros(csum(c, b[:attrChecksum]), 4)
	return csum(c, b[attrChecksum+4:])
}
