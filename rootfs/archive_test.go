package rootfs

import (
	"archive/tar"
	"bytes"
	"fmt"
	"strings"
)

// Blocks of archives that archive/tar would not write.

// raw is an entry of blocks.
func raw(note string, blocks ...[]byte) entry {
	return entry{raw: bytes.Join(blocks, nil), note: note}
}

// nothing is a layer without even the end of an archive.
var nothing = []entry{{note: "no bytes"}}

// block is a header in the format of POSIX pax, "ustar Interchange Format". edits
// change it before its checksum is made.
func block(typeflag byte, name string, size int64, edits ...func(b []byte)) []byte {
	b := make([]byte, 512)
	copy(b, name)
	copy(b[100:], "0000644\x00")
	copy(b[108:], "0000000\x000000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00%011o\x00", size, 0))
	b[156] = typeflag
	copy(b[257:], "ustar\x0000")
	for _, edit := range edits {
		edit(b)
	}
	copy(b[148:], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// at edits a header at an offset.
func at(offset int, text string) func(b []byte) {
	return func(b []byte) { copy(b[offset:], text) }
}

// data is content, padded to blocks.
func data(s string) []byte {
	return append([]byte(s), make([]byte, -len(s)&511)...)
}

// pax is a header of PAX records for the next entry.
func pax(records ...string) []byte {
	text := paxRecords(records...)
	return append(block(tar.TypeXHeader, "pax", int64(len(text))), data(text)...)
}

// paxRecords returns records with their lengths in front, which count themselves.
func paxRecords(records ...string) string {
	var b strings.Builder
	for _, r := range records {
		size := len(r) + 2 // a space, a newline
		for size != len(r)+2+len(fmt.Sprint(size)) {
			size = len(r) + 2 + len(fmt.Sprint(size))
		}
		fmt.Fprintf(&b, "%d %s\n", size, r)
	}
	return b.String()
}

// gnuSparse makes a header that of a sparse file of GNU tar: up to four pairs of
// offset and length, and the logical size; GNU tar's manual, "Basic Tar Format".
func gnuSparse(size int64, pairs ...int64) func(b []byte) {
	return func(b []byte) {
		copy(b[257:], "ustar  \x00")
		for i, n := range pairs {
			copy(b[386+12*i:], fmt.Sprintf("%011o\x00", n))
		}
		copy(b[483:], fmt.Sprintf("%011o\x00", size))
	}
}
