// Package inflate decompresses gzip, RFC 1952, in about a third of the time that
// compress/gzip takes: inflating is most of the work of converting a layer.
//
// Call [NewReader] and read. All members are read as one stream, and the length
// and CRC-32 of each are verified. No input makes it use more memory than the
// some 200 KiB of a [Reader], or read or write outside of it.
//
// It accepts what compress/gzip accepts, and its errors are that package's and
// compress/flate's. An input without any member is io.ErrUnexpectedEOF here.
package inflate

import (
	"compress/flate"
	"compress/gzip"
	"hash/crc32"
	"io"
)

const (
	window   = 32 << 10 // how far back a match may reach; RFC 1951, 2
	maxMatch = 258      // RFC 1951, 3.2.5

	bufSize = 128 << 10 // a power of two
	bufMask = bufSize - 1
	// fullAt is where decoding pauses. The fast loop writes two literals and a
	// match before it looks again.
	fullAt = bufSize - 2 - maxMatch
	// slack is how far a match is copied at a time, and so beyond its end.
	slack = 32
)

// Reader decompresses a gzip file. What it returns may not be trusted until it
// returns io.EOF.
type Reader struct {
	input
	step func(*Reader) error // what to do next
	err  error               // after buf[:out]

	read   int // buf[:read] has been returned
	summed int // buf[:summed] is in crc and size
	out    int // buf[:out] is decoded
	low    int // buf[low:out] is of this member; matches stay within
	crc    uint32
	size   uint32 // of the member, modulo 2^32

	final  bool // the block is its member's last
	fixed  bool // the tables are those of fixed codes
	stored int  // bytes left of a stored block

	buf       [bufSize + slack]byte
	literals  [literalTableSize]entry
	distances [distanceTableSize]entry
	sizes     [maxLiterals + maxDistances]uint8 // of codes, in bits
}

// NewReader returns a Reader of the gzip file that r reads. It reads ahead, and to
// the end: what follows the last member must be another one.
func NewReader(r io.Reader) *Reader {
	return &Reader{input: input{src: r}, step: (*Reader).header}
}

// Read implements [io.Reader].
func (z *Reader) Read(p []byte) (int, error) {
	if z.read == z.out {
		z.more()
		if z.read == z.out {
			return 0, z.err
		}
	}
	n := copy(p, z.buf[z.read:z.out])
	z.read += n
	return n, nil
}

// WriteTo implements [io.WriterTo] and saves a copy.
func (z *Reader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		if z.read == z.out {
			z.more()
		}
		n, err := w.Write(z.buf[z.read:z.out])
		z.read += n
		total += int64(n)
		switch {
		case err != nil:
			return total, err
		case z.read < z.out:
			return total, io.ErrShortWrite
		case z.err == io.EOF: //nolint:errorlint // ours
			return total, nil
		case z.err != nil:
			return total, z.err
		}
	}
}

// more decodes until the buffer is full or there is an error. All of the buffer
// has been returned; it keeps the window.
func (z *Reader) more() {
	if gone := z.out - window; gone > 0 {
		copy(z.buf[:], z.buf[gone:z.out])
		z.out = window
		z.low = max(z.low-gone, 0)
	}
	z.read, z.summed = z.out, z.out
	for z.err == nil && z.out <= fullAt {
		z.err = z.step(z)
	}
	z.sum()
}

func (z *Reader) sum() {
	fresh := z.buf[z.summed:z.out]
	z.crc = crc32.Update(z.crc, crc32.IEEETable, fresh)
	z.size += uint32(len(fresh))
	z.summed = z.out
}

// corrupt is the error for data that no compressor writes.
func (z *Reader) corrupt() error {
	return flate.CorruptInputError(z.offset())
}

const (
	flagHeaderCRC = 1 << 1
	flagExtra     = 1 << 2
	flagName      = 1 << 3
	flagComment   = 1 << 4

	maxText = 511 // longest name or comment, in bytes; the limit of compress/gzip
)

// header reads the header of a member, if there is one; RFC 1952, 2.3.
func (z *Reader) header() error {
	if z.ip == z.end {
		if err := z.fill(); err == io.EOF && z.offset() > 0 { //nolint:errorlint // a Reader ends with this very one
			return io.EOF
		}
	}
	z.crc = 0
	h, err := z.headerBytes(10)
	if err != nil {
		return err
	}
	if h[0] != 0x1f || h[1] != 0x8b || h[2] != 8 {
		return gzip.ErrHeader
	}
	flags := h[3]
	if flags&flagExtra != 0 {
		n, err := z.headerBytes(2)
		if err != nil {
			return err
		}
		if _, err := z.headerBytes(int(n[0]) | int(n[1])<<8); err != nil {
			return err
		}
	}
	for _, flag := range []byte{flagName, flagComment} {
		if flags&flag != 0 {
			if err := z.headerText(); err != nil {
				return err
			}
		}
	}
	if flags&flagHeaderCRC != 0 {
		want := uint16(z.crc)
		sum, err := z.headerBytes(2)
		if err != nil {
			return err
		}
		if uint16(sum[0])|uint16(sum[1])<<8 != want {
			return gzip.ErrHeader
		}
	}
	z.crc, z.size, z.low = 0, 0, z.out
	z.step = (*Reader).block
	return nil
}

func (z *Reader) headerBytes(n int) ([]byte, error) {
	b := make([]byte, n)
	for i := range b {
		c, err := z.readByte()
		if err != nil {
			return nil, err
		}
		b[i] = c
	}
	z.crc = crc32.Update(z.crc, crc32.IEEETable, b)
	return b, nil
}

// headerText skips what ends with a zero byte.
func (z *Reader) headerText() error {
	for range maxText + 1 {
		b, err := z.headerBytes(1)
		if err != nil {
			return err
		}
		if b[0] == 0 {
			return nil
		}
	}
	return gzip.ErrHeader
}

// trailer compares the member with the sums behind it; RFC 1952, 2.3.
func (z *Reader) trailer() error {
	z.sum()
	z.align()
	crc, err := z.bits(32)
	if err != nil {
		return err
	}
	size, err := z.bits(32)
	if err != nil {
		return err
	}
	if uint32(crc) != z.crc || uint32(size) != z.size {
		return gzip.ErrChecksum
	}
	z.step = (*Reader).header
	return nil
}
