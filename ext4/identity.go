package ext4

import (
	"errors"
	"fmt"
	"io"
)

// A ReadWriterAt is a file system in place, as an *os.File is.
type ReadWriterAt interface {
	io.ReaderAt
	io.WriterAt
}

// SetUUID gives the file system in f, which nothing may use meanwhile, another
// identity: a clone can then be mounted, and found by UUID, beside its original.
// Only the copies of the superblock are written. The checksums of all else hold,
// because they begin with the seed that the superblock keeps; a file system
// without one (metadata_csum_seed) is an error that wraps
// [errors.ErrUnsupported]. So are ones that [Open] cannot read. An error before
// the first byte is written leaves the file system as it was; one later leaves
// it the old UUID.
func SetUUID(f ReadWriterAt, uuid [16]byte) error {
	if uuid == [16]byte{} {
		return errors.New("set UUID: it is zero")
	}
	return editSupers(f, "set UUID", func(sb []byte) { copy(sb[sbUUID:], uuid[:]) })
}

// SetLabel names the volume in f, at most 16 bytes, under the rules of
// [SetUUID].
func SetLabel(f ReadWriterAt, label string) error {
	if len(label) > labelSize {
		return fmt.Errorf("set label %q: it is longer than %d bytes", label, labelSize)
	}
	return editSupers(f, "set label", func(sb []byte) {
		field := sb[sbLabel : sbLabel+labelSize]
		clear(field)
		copy(field, label)
	})
}

// editSupers changes every copy of the superblock. All are read before one is
// written, and the primary is written last: it is the one that counts.
func editSupers(f ReadWriterAt, what string, edit func(sb []byte)) error {
	fsys, err := Open(f)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if !fsys.checksummed || le.Uint32(fsys.super[sbIncompat:])&incompatCsumSeed == 0 {
		return fmt.Errorf("%s: feature metadata_csum_seed is missing: %w", what, errors.ErrUnsupported)
	}
	type copyOf struct {
		sb [superSize]byte
		at int64
	}
	var copies []copyOf
	for _, g := range fsys.backups() {
		c := copyOf{at: (g*fsys.groupBlocks + fsys.firstBlock) * fsys.blockSize}
		if err := readFull(f, c.sb[:], c.at); err != nil {
			return fmt.Errorf("%s: superblock of group %d: %w", what, g, err)
		}
		if le.Uint16(c.sb[sbMagic:]) != superMagic || le.Uint32(c.sb[sbChecksum:]) != csum(^uint32(0), c.sb[:sbChecksum]) {
			return fmt.Errorf("%s: superblock of group %d: checksum: %w", what, g, errDamaged)
		}
		copies = append(copies, c)
	}
	copies = append(copies, copyOf{fsys.super, superOffset})
	for i := range copies {
		c := &copies[i]
		edit(c.sb[:])
		le.PutUint32(c.sb[sbChecksum:], csum(^uint32(0), c.sb[:sbChecksum]))
		if _, err := f.WriteAt(c.sb[:], c.at); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

// backups returns the groups other than 0 that hold a copy of the superblock.
func (f *FS) backups() []int64 {
	groups := ceilDiv(f.blocks-f.firstBlock, f.groupBlocks)
	if le.Uint32(f.super[sbCompat:])&compatSparseSuper2 != 0 {
		var list []int64
		for _, at := range []int{sbBackupGroups, sbBackupGroups + 4} {
			if g := int64(le.Uint32(f.super[at:])); 0 < g && g < groups {
				list = append(list, g)
			}
		}
		return list
	}
	if f.sparseSuper {
		return supers(groups)
	}
	var list []int64
	for g := int64(1); g < groups; g++ {
		list = append(list, g)
	}
	return list
}
