package ext4

import (
	"fmt"
	"io/fs"
	"time"
)

// A Stat is all that the image knows of a file but its content.
type Stat struct {
	Header // Content is not set
	Ino    Ino
	Links  uint32 // names of the inode; of a directory with too many subdirectories, 1
	Size   int64  // bytes
	Blocks int64  // of 512 bytes, as in stat(2)

	ChangeTime time.Time // of content or attributes; that of a file from a Writer is its ModTime
	Generation uint32    // tells files apart that had the same number one after the other
}

// A node is an inode as it is on the disk.
type node struct {
	raw   []byte
	ino   Ino
	seed  uint32 // of the checksums of its blocks
	mode  uint16
	flags uint32
	size  int64
}

func (f *FS) node(ino Ino) (*node, error) {
	n, err := f.readNode(ino)
	if err != nil {
		return nil, fmt.Errorf("inode %d: %w", ino, err)
	}
	return n, nil
}

func (f *FS) readNode(ino Ino) (*node, error) {
	if ino == 0 || uint32(ino) > f.inodes {
		return nil, errDamaged
	}
	index := uint32(ino) - 1
	table, err := f.inodeTable(index / f.groupInodes)
	if err != nil {
		return nil, err
	}
	raw := make([]byte, f.inodeSize)
	if err := readFull(f.r, raw, table*f.blockSize+int64(index%f.groupInodes)*f.inodeSize); err != nil {
		return nil, err
	}
	n := &node{
		raw:   raw,
		ino:   ino,
		mode:  le.Uint16(raw[inoMode:]),
		flags: le.Uint32(raw[inoFlags:]),
		size:  int64(le.Uint32(raw[inoSizeLo:])),
	}
	if f.checksummed {
		n.seed = inodeSeed(f.seed, ino, le.Uint32(raw[inoGeneration:]))
		sum, wide := inodeCsum(n.seed, raw)
		if uint16(sum) != le.Uint16(raw[inoChecksumLo:]) ||
			wide && uint16(sum>>16) != le.Uint16(raw[inoChecksumHi:]) {
			return nil, fmt.Errorf("checksum: %w", errDamaged)
		}
	}
	if typ := n.mode & modeType; typ == modeRegular || typ == modeDir && f.largeDir {
		n.size |= int64(le.Uint32(raw[inoSizeHi:])) << 32
	}
	if goMode(n.mode)&fs.ModeIrregular != 0 || n.size < 0 || n.size > f.blockSize<<32 {
		return nil, errDamaged
	}
	return n, nil
}

// extra returns the bytes of the inode that i_extra_isize covers, from byte 128 on.
func (n *node) extra() ([]byte, error) {
	if len(n.raw) <= inoBase {
		return nil, nil
	}
	size := int(le.Uint16(n.raw[inoExtraIsize:]))
	if size%4 != 0 || size > len(n.raw)-inoBase {
		return nil, errDamaged
	}
	return n.raw[inoBase : inoBase+size], nil
}

// stat reads what the inode refers to as well: attributes and a symlink's target.
func (f *FS) stat(n *node) (*Stat, error) {
	raw := n.raw
	extra, err := n.extra()
	if err != nil {
		return nil, fmt.Errorf("inode %d: %w", n.ino, err)
	}
	stamp := func(low, high int) time.Time {
		var more uint32
		if end := high - inoBase + 4; len(extra) >= end {
			more = le.Uint32(extra[end-4:])
		}
		return time.Unix(timeOf(le.Uint32(raw[low:]), more))
	}
	s := &Stat{
		Ino:   n.ino,
		Links: uint32(le.Uint16(raw[inoLinks:])),
		Size:  n.size,
		Header: Header{
			Mode:    goMode(n.mode),
			UID:     uint32(le.Uint16(raw[inoUIDLo:])) | uint32(le.Uint16(raw[inoUIDHi:]))<<16,
			GID:     uint32(le.Uint16(raw[inoGIDLo:])) | uint32(le.Uint16(raw[inoGIDHi:]))<<16,
			ModTime: stamp(inoMtime, inoMtimeExtra),
		},
		ChangeTime: stamp(inoCtime, inoCtimeExtra),
		Generation: le.Uint32(raw[inoGeneration:]),
	}
	s.Blocks = int64(le.Uint32(raw[inoBlocksLo:])) | int64(le.Uint16(raw[inoBlocksHi:]))<<32
	if n.flags&flagHuge != 0 {
		s.Blocks *= f.blockSize / 512
	}
	switch n.mode & modeType {
	case modeChar, modeBlock:
		s.Major, s.Minor = device(raw[inoBlock:])
	case modeSymlink:
		if s.Target, err = f.target(n); err != nil {
			return nil, fmt.Errorf("inode %d: target: %w", n.ino, err)
		}
	}
	if s.Xattrs, err = f.xattrs(n); err != nil {
		return nil, fmt.Errorf("inode %d: attributes: %w", n.ino, err)
	}
	return s, nil
}

// target reads a symlink. Short ones are in the inode.
func (f *FS) target(n *node) (string, error) {
	if n.size <= maxFastTarget && n.flags&flagExtents == 0 {
		return string(n.raw[inoBlock:][:n.size]), nil
	}
	if n.size >= f.blockSize {
		return "", errDamaged
	}
	b, err := f.body(n)
	if err != nil {
		return "", err
	}
	p := make([]byte, n.size)
	if len(p) == 0 {
		return "", nil
	}
	if _, err := b.ReadAt(p, 0); err != nil {
		return "", err
	}
	return string(p), nil
}
