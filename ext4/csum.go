package ext4

import "hash/crc32"

// Metadata checksums are CRC-32C without the final inversion, so that they can
// be chained; Documentation/filesystems/ext4/checksums.rst. Each begins with
// the seed of the file system, so that a block of another one never passes.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func csum(seed uint32, b []byte) uint32 {
	return ^crc32.Update(^seed, castagnoli, b)
}

func csum32(seed, v uint32) uint32 {
	var b [4]byte
	le.PutUint32(b[:], v)
	return csum(seed, b[:])
}

// inodeSeed begins the checksums of an inode and of the blocks it owns.
func inodeSeed(seed uint32, ino Ino, generation uint32) uint32 {
	return csum32(csum32(seed, uint32(ino)), generation)
}

// descCsum is bg_checksum of group g.
func descCsum(seed uint32, g int64, desc []byte) uint16 {
	c := csum(csum32(seed, uint32(g)), desc[:gdChecksum])
	c = csum(c, []byte{0, 0})
	return uint16(csum(c, desc[gdChecksum+2:]))
}

// inodeCsum is i_checksum. Its upper half exists if i_extra_isize covers it.
func inodeCsum(iseed uint32, raw []byte) (sum uint32, wide bool) {
	zero := []byte{0, 0}
	c := csum(csum(iseed, raw[:inoChecksumLo]), zero)
	rest := raw[inoChecksumLo+2:]
	if wide = len(raw) > inoBase && le.Uint16(raw[inoExtraIsize:]) >= inoChecksumHi+2-inoBase; wide {
		c = csum(csum(c, raw[inoChecksumLo+2:inoChecksumHi]), zero)
		rest = raw[inoChecksumHi+2:]
	}
	return csum(c, rest), wide
}

// attrCsum is h_checksum of the attribute block at number block.
func attrCsum(seed uint32, block int64, b []byte) uint32 {
	var nr [8]byte
	le.PutUint64(nr[:], uint64(block))
	c := csum(csum(seed, nr[:]), b[:attrChecksum])
	return csum(csum(c, []byte{0, 0, 0, 0}), b[attrChecksum+4:])
}
