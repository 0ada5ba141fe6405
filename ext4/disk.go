package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
)

var le = binary.LittleEndian

// Inode numbers with a meaning; Documentation/filesystems/ext4/special_inodes.rst.
const (
	journalIno   Ino = 8
	lostFoundIno Ino = 11
	firstFreeIno Ino = 11 // s_first_ino
)

const lostFound = "lost+found"

// i_mode; Documentation/filesystems/ext4/inodes.rst.
const (
	modeFIFO    = 0x1000
	modeChar    = 0x2000
	modeDir     = 0x4000
	modeBlock   = 0x6000
	modeRegular = 0x8000
	modeSymlink = 0xA000
	modeSocket  = 0xC000
	modeType    = 0xF000

	modeSetuid = 0x800
	modeSetgid = 0x400
	modeSticky = 0x200
)

// typeBits are the bits of an [fs.FileMode] that say what a file is.
const typeBits = fs.ModeType &^ fs.ModeIrregular

// unixMode turns a Go mode into i_mode.
func unixMode(m fs.FileMode) (uint16, error) {
	if odd := m &^ (typeBits | fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky); odd != 0 {
		return 0, fmt.Errorf("mode %v cannot be stored", m)
	}
	u := uint16(m.Perm())
	switch m & typeBits {
	case 0:
		u |= modeRegular
	case fs.ModeDir:
		u |= modeDir
	case fs.ModeSymlink:
		u |= modeSymlink
	case fs.ModeDevice:
		u |= modeBlock
	case fs.ModeDevice | fs.ModeCharDevice:
		u |= modeChar
	case fs.ModeNamedPipe:
		u |= modeFIFO
	case fs.ModeSocket:
		u |= modeSocket
	default:
		return 0, fmt.Errorf("mode %v has no single type", m)
	}
	if m&fs.ModeSetuid != 0 {
		u |= modeSetuid
	}
	if m&fs.ModeSetgid != 0 {
		u |= modeSetgid
	}
	if m&fs.ModeSticky != 0 {
		u |= modeSticky
	}
	return u, nil
}

// goMode is the inverse of unixMode; a type that does not exist is irregular.
func goMode(u uint16) fs.FileMode {
	m := fs.FileMode(u & 0o777)
	switch u & modeType {
	case modeRegular:
	case modeDir:
		m |= fs.ModeDir
	case modeSymlink:
		m |= fs.ModeSymlink
	case modeBlock:
		m |= fs.ModeDevice
	case modeChar:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case modeFIFO:
		m |= fs.ModeNamedPipe
	case modeSocket:
		m |= fs.ModeSocket
	default:
		m |= fs.ModeIrregular
	}
	if u&modeSetuid != 0 {
		m |= fs.ModeSetuid
	}
	if u&modeSetgid != 0 {
		m |= fs.ModeSetgid
	}
	if u&modeSticky != 0 {
		m |= fs.ModeSticky
	}
	return m
}

// direntTypes are the modes of the file types in a directory entry;
// Documentation/filesystems/ext4/directory.rst.
var direntTypes = [8]uint16{0, modeRegular, modeDir, modeChar, modeBlock, modeFIFO, modeSocket, modeSymlink}

func direntType(mode uint16) byte {
	for i, m := range direntTypes {
		if m == mode&modeType {
			return byte(i)
		}
	}
	return 0
}

// Device numbers: the kernel keeps small ones in the first word of i_block and
// all others in the second; include/linux/kdev_t.h.
const (
	maxMajor = 1<<12 - 1
	maxMinor = 1<<20 - 1
)

func putDevice(iblock []byte, major, minor uint32) {
	if major < 256 && minor < 256 {
		le.PutUint32(iblock, major<<8|minor)
		return
	}
	le.PutUint32(iblock[4:], minor&0xff|major<<8|minor&^0xff<<12)
}

func device(iblock []byte) (major, minor uint32) {
	if d := le.Uint32(iblock); d != 0 {
		return d >> 8 & 0xff, d & 0xff
	}
	d := le.Uint32(iblock[4:])
	return d >> 8 & 0xfff, d&0xff | d>>12&0xfff00
}

// errDamaged is the cause of every error about an image that contradicts itself.
var errDamaged = errors.New("file system is damaged")
