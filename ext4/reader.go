package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"sync"
)

// An FS is a file system that is read from an image. Besides [io/fs.FS] it has
// the methods of [io/fs.ReadDirFS], [io/fs.StatFS] and [io/fs.ReadLinkFS]. Its
// regular files are also [io.ReaderAt] and [io.Seeker], and the Sys method of
// every [io/fs.FileInfo] returns a *[Stat]. Symlinks are followed inside of the
// image: an absolute target or ".." never leads out of it.
//
// It may be used by several goroutines at once. A damaged image gives errors or
// wrong answers, but no panic and no endless loop.
type FS struct {
	r     io.ReaderAt
	super [superSize]byte

	blockSize    int64 // bytes
	blocks       int64
	groupBlocks  int64
	firstBlock   int64 // s_first_data_block
	inodes       uint32
	groupInodes  uint32
	inodeSize    int64
	descSize     int64
	seed         uint32
	checksummed  bool
	largeDir     bool
	sparseSuper  bool
	firstMetaBG  int64 // groups of descriptors from here on are spread; -1: none
	typedDirents bool

	mu     sync.Mutex // guards what follows
	tables map[uint32]int64
	dirs   map[Ino]*listing
	cached int // entries in dirs
}

// readable are the incompatible features that do not hinder reading.
const readable = incompatFiletype | incompatMetaBG | incompatExtents | incompat64Bit | incompatMMP |
	incompatFlexBG | incompatEAInode | incompatCsumSeed | incompatLargeDir | incompatInlineData

// ErrUnclean is of a file system that was not unmounted. Its journal must be
// replayed before it can be read: a kernel that mounts it does so, or e2fsck -p.
var ErrUnclean = errors.New("journal is not replayed: it was not unmounted cleanly")

// Open returns the file system in r: one that this package or mke2fs wrote, or
// that a kernel has used and unmounted. Blocks have 1 to 64 KiB; inline data and
// files mapped by blocks, as ext2 and ext3 have them, are read too. Attributes with
// values in inodes of their own (ea_inode) are not.
func Open(r io.ReaderAt) (*FS, error) {
	f := &FS{r: r, tables: map[uint32]int64{}, dirs: map[Ino]*listing{}}
	if err := readFull(r, f.super[:], superOffset); err != nil {
		return nil, fmt.Errorf("read superblock: %w", err)
	}
	sb := f.super[:]
	if le.Uint16(sb[sbMagic:]) != superMagic {
		return nil, errors.New("not an ext4 file system")
	}
	incompat := le.Uint32(sb[sbIncompat:])
	ro := le.Uint32(sb[sbROCompat:])
	switch {
	case incompat&incompatRecover != 0:
		return nil, ErrUnclean
	case incompat&^readable != 0:
		return nil, fmt.Errorf("features %#x: %w", incompat&^readable, errors.ErrUnsupported)
	}
	if f.checksummed = ro&roCompatMetadataCsum != 0; f.checksummed {
		if le.Uint32(sb[sbChecksum:]) != csum(^uint32(0), sb[:sbChecksum]) {
			return nil, fmt.Errorf("superblock: checksum: %w", errDamaged)
		}
		f.seed = csum(^uint32(0), sb[sbUUID:sbUUID+16])
		if incompat&incompatCsumSeed != 0 {
			f.seed = le.Uint32(sb[sbChecksumSeed:])
		}
	}
	f.typedDirents = incompat&incompatFiletype != 0
	f.largeDir = incompat&incompatLargeDir != 0
	f.sparseSuper = ro&roCompatSparseSuper != 0
	if err := f.readGeometry(incompat); err != nil {
		return nil, fmt.Errorf("superblock: %w", err)
	}
	return f, nil
}

func (f *FS) readGeometry(incompat uint32) error {
	sb := f.super[:]
	logSize := le.Uint32(sb[sbLogBlockSize:])
	if logSize > 6 {
		return fmt.Errorf("block size 1024<<%d: %w", logSize, errDamaged)
	}
	f.blockSize = 1024 << logSize
	f.blocks = int64(le.Uint32(sb[sbBlocksLo:]))
	f.inodeSize, f.descSize = inoBase, 32
	if incompat&incompat64Bit != 0 {
		f.blocks |= int64(le.Uint32(sb[sbBlocksHi:])) << 32
		f.descSize = int64(le.Uint16(sb[sbDescSize:]))
	}
	if le.Uint32(sb[sbRevLevel:]) > 0 {
		f.inodeSize = int64(le.Uint16(sb[sbInodeSize:]))
	}
	f.groupBlocks = int64(le.Uint32(sb[sbBlocksPerGroup:]))
	f.firstBlock = int64(le.Uint32(sb[sbFirstBlock:]))
	f.inodes = le.Uint32(sb[sbInodes:])
	f.groupInodes = le.Uint32(sb[sbInodesPerGroup:])
	f.firstMetaBG = -1
	if incompat&incompatMetaBG != 0 {
		f.firstMetaBG = int64(le.Uint32(sb[sbFirstMetaBG:]))
	}
	power := func(n int64) bool { return bits.OnesCount64(uint64(n)) == 1 }
	switch {
	case f.blocks <= f.firstBlock || f.blocks > 1<<46 || f.firstBlock > 1:
	case f.groupBlocks == 0 || f.groupBlocks > 1<<30 || f.groupInodes == 0:
	case !power(f.inodeSize) || f.inodeSize < inoBase || f.inodeSize > f.blockSize:
	case !power(f.descSize) || f.descSize < 32 || f.descSize > 1024:
	default:
		return nil
	}
	return fmt.Errorf("geometry: %w", errDamaged)
}

// UUID returns the identity of the file system.
func (f *FS) UUID() [16]byte { return [16]byte(f.super[sbUUID:]) }

// Label returns the name of the volume.
func (f *FS) Label() string {
	label, _, _ := bytes.Cut(f.super[sbLabel:sbLabel+16], []byte{0})
	return string(label)
}

// readFull reads all of p.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// readBlock returns the content of a block.
func (f *FS) readBlock(block int64) ([]byte, error) {
	if block <= 0 || block >= f.blocks {
		return nil, fmt.Errorf("block %d: %w", block, errDamaged)
	}
	b := make([]byte, f.blockSize)
	if err := readFull(f.r, b, block*f.blockSize); err != nil {
		return nil, fmt.Errorf("block %d: %w", block, err)
	}
	return b, nil
}

// inodeTable returns the block where the inode table of group g begins.
func (f *FS) inodeTable(g uint32) (int64, error) {
	f.mu.Lock()
	table, ok := f.tables[g]
	f.mu.Unlock()
	if ok {
		return table, nil
	}
	if int64(g)*f.groupBlocks >= f.blocks {
		return 0, fmt.Errorf("group %d: %w", g, errDamaged)
	}
	perBlock := f.blockSize / f.descSize
	off := (superOffset/f.blockSize+1)*f.blockSize + int64(g)*f.descSize
	if meta := int64(g) / perBlock; f.firstMetaBG >= 0 && meta >= f.firstMetaBG {
		first := meta * perBlock
		block := f.firstBlock + first*f.groupBlocks
		if !f.sparseSuper || hasSuper(first) {
			block++
		}
		off = block*f.blockSize + int64(g)%perBlock*f.descSize
	}
	d := make([]byte, f.descSize)
	if err := readFull(f.r, d, off); err != nil {
		return 0, fmt.Errorf("group %d: %w", g, err)
	}
	if f.checksummed && le.Uint16(d[gdChecksum:]) != descCsum(f.seed, int64(g), d) {
		return 0, fmt.Errorf("group %d: checksum: %w", g, errDamaged)
	}
	table = int64(le.Uint32(d[gdInodeTableLo:]))
	if f.descSize >= descSize {
		table |= int64(le.Uint32(d[gdInodeTableHi:])) << 32
	}
	if table <= 0 || table >= f.blocks {
		return 0, fmt.Errorf("group %d: %w", g, errDamaged)
	}
	f.mu.Lock()
	f.tables[g] = table
	f.mu.Unlock()
	return table, nil
}
