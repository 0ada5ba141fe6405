// Package ext4 writes and reads ext4 file systems in plain files: no root, no
// mount, no outside tool. The format is the one that the Linux kernel documents
// in Documentation/filesystems/ext4 and that e2fsprogs writes and checks.
//
// To write, call [NewWriter], hand each file's bytes to [Writer.WriteContent],
// give them names with [Writer.Create] and [Writer.Link], and end with
// [Writer.Close]. To read, call [Open]; an [FS] is an [io/fs.FS] whose files
// also tell owners, devices, links and extended attributes ([Stat]), and
// [FS.WriteTar] writes all of it as a tar archive. [SetUUID] and [SetLabel] give
// a clone its own identity.
//
// What the writer promises:
//
//   - Content goes to its final place once, in the order it comes; blocks of
//     zeros become holes; content that no name refers to is removed from the
//     file again. Metadata follows, and the primary superblock is written last:
//     a file whose writer did not finish cannot be mounted.
//   - The same calls with the same options give the same bytes. There is no
//     clock, no randomness and no map order in the result.
//   - The result is clean for `e2fsck -f`, is mountable read-write, has a journal
//     and indexed directories, and grows while mounted.
//   - Memory: well below 300 bytes for each entry beyond its names and
//     attributes, and a few MiB of buffers.
//
// The format it writes, and where that is described: in Documentation/filesystems/ext4
// of Linux, or else in the source of e2fsprogs 1.47.
//
//	blocks            4096 bytes; 32,768 a group; at most 2^32-1   blockgroup.rst
//	groups            packed by 16 (flex_bg); 64-byte descriptors  group_descr.rst
//	                  of 256 GiB at least have room, to grow into
//	backups           in group 1, powers of 3, 5, 7 (sparse_super) blockgroup.rst
//	inodes            256 bytes; 8,192 a group, one for 16 KiB     inodes.rst
//	times             nanoseconds, 1901 to 2310                    inodes.rst, e2fsck/pass1.c
//	mapping           extents, of empty files too                  ifork.rst
//	directories       linear up to one block, then htree           directory.rst,
//	                  (half_md4, signed), leaves filled to 90 %    lib/ext2fs/dirhash.c
//	attributes        in the inode (92 bytes), then in one block,  attributes.rst,
//	                  shared by up to 1,024 inodes                 fs/ext4/xattr.c
//	journal           by default, clean, as large as mke2fs's      journal.rst, lib/ext2fs/mkjournal.c
//	checksums         of all metadata; a seed of their own         checksums.rst
//	compatible        has_journal ext_attr dir_index               super.rst
//	incompatible      filetype extents 64bit flex_bg metadata_csum_seed
//	read-only compat. sparse_super large_file huge_file dir_nlink extra_isize metadata_csum
//
// Not written: inline data, quotas, encryption, attribute sets beyond one
// block, files beyond 16 TiB, directories beyond two levels of index (more than
// 3 million names of any length).
package ext4

import (
	"fmt"
	"io"
	"io/fs"
	"time"
)

// Limits of the format, as the writer uses it.
const (
	MaxSize   = maxBlocks * blockSize // bytes in a file system; also the largest file ext4 itself can hold
	MaxName   = 255                   // bytes in a name
	MaxTarget = blockSize - 1         // bytes in a symlink's target
	MaxLinks  = 65000                 // names of one inode; fs/ext4/ext4.h EXT4_LINK_MAX
)

// An Ino is an inode number.
type Ino uint32

// Root is the inode of the root directory.
const Root Ino = 2

// A File is what a [Writer] writes to: an [os.File] opened for reading and
// writing. Where the operating system can, space that is not needed any more
// is given back.
type File interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
}

// Options are the choices of a [Writer]. The zero value is usable.
type Options struct {
	Size    int64 // bytes in the finished file, exactly; 0: chosen by Close
	MinSize int64 // bytes, the least that Close chooses; 0: 1 GiB

	UUID      [16]byte  // zero: a fixed one
	HashSeed  [16]byte  // of hashed directories; zero: the format's default
	Label     string    // at most 16 bytes
	Time      time.Time // of creation, and of whatever comes without a time; zero: 1970
	NoJournal bool      // leave the journal out: for images that are only read
}

// A Header describes a file of any type.
type Header struct {
	Mode    fs.FileMode // permissions, setuid, setgid, sticky, and the type
	UID     uint32
	GID     uint32
	ModTime time.Time // zero: Options.Time; see ClampTime

	// Xattrs are keyed by full name, such as "security.capability". POSIX ACLs
	// ("system.posix_acl_access" and "system.posix_acl_default") are in the
	// format that getxattr(2) gives and are translated.
	Xattrs map[string]string

	Major, Minor uint32  // of devices
	Target       string  // of symlinks
	Content      Content // of regular files; the zero Content is empty
}

// Content is the stored bytes of one regular file, from [Writer.WriteContent].
// It belongs to its Writer and to at most one inode.
type Content struct{ id uint32 }

// Usage is what a file system holds.
type Usage struct {
	Blocks int64 // of 4096 bytes, in use by files, directories and attributes
	Inodes int64 // in use, the 11 that every file system has included
	Size   int64 // bytes in the file; 0 until it is known
}

// A SizeError reports that Options.Size cannot hold what was written.
type SizeError struct {
	Size   int64 // bytes asked for
	Blocks int64 // of 4096 bytes, needed by files, directories and attributes
	Inodes int64 // needed
	Need   int64 // bytes that are enough
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("size %d is too small: %d blocks of content and %d inodes need %d bytes",
		e.Size, e.Blocks, e.Inodes, e.Need)
}

// The seconds that can be stored. The format has 34 bits, which would reach
// until 2446, but e2fsck takes what begins in April 2310 for times before 1970
// that an old kernel wrote wrong, and "repairs" it
// (e2fsck/pass1.c, check_inode_extra_negative_epoch).
const (
	minSeconds = -1 << 31
	maxSeconds = 3<<32 - 1<<31 - 1
)

// ClampTime returns the time nearest to t that ext4 can hold: from December
// 1901 to April 2310.
func ClampTime(t time.Time) time.Time {
	switch s := t.Unix(); {
	case s < minSeconds:
		return time.Unix(minSeconds, 0)
	case s > maxSeconds:
		return time.Unix(maxSeconds, 999_999_999)
	}
	return t
}
