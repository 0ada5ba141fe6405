package inflate

import (
	"encoding/binary"
	"io"
)

const (
	inSize = 64 << 10 // a power of two
	inMask = inSize - 1
)

// input is a stream of bits, the lowest of each byte first. Between calls it
// holds fewer than 8 bits: no byte is taken before it is needed, so that what is
// behind a member can be found.
type input struct {
	src    io.Reader
	srcErr error  // after in[:end]
	before int64  // bytes that were in in and are gone
	ip     int    // in[ip:end] is to be taken
	end    int    // <= inSize
	acc    uint64 // bits taken from in, all others are 0
	n      uint   // how many

	in [inSize + 8]byte // as if any index within inSize began 8 bytes
}

// offset returns how many bytes have been taken.
func (z *input) offset() int64 { return z.before + int64(z.ip) }

// fill reads at least one byte more.
func (z *input) fill() error {
	if z.srcErr != nil {
		return z.srcErr
	}
	z.before += int64(z.ip)
	z.end = copy(z.in[:], z.in[z.ip:z.end])
	z.ip = 0
	for range 100 {
		n, err := z.src.Read(z.in[z.end:inSize])
		z.end += n
		z.srcErr = err
		if n > 0 {
			return nil
		} else if err != nil {
			return err
		}
	}
	z.srcErr = io.ErrNoProgress
	return z.srcErr
}

func (z *input) readByte() (byte, error) {
	if z.ip == z.end {
		if err := z.fill(); err != nil {
			return 0, noEOF(err)
		}
	}
	b := z.in[z.ip]
	z.ip++
	return b, nil
}

// need has n bits in acc, n <= 57.
func (z *input) need(n uint) error {
	for z.n < n {
		b, err := z.readByte()
		if err != nil {
			return err
		}
		z.acc |= uint64(b) << z.n
		z.n += 8
	}
	return nil
}

func (z *input) take(n uint) uint64 {
	v := z.acc & (1<<n - 1)
	z.acc >>= n
	z.n -= n
	return v
}

func (z *input) bits(n uint) (uint64, error) {
	if err := z.need(n); err != nil {
		return 0, err
	}
	return z.take(n), nil
}

// align drops the rest of a byte.
func (z *input) align() { z.take(z.n) }

// load is one instruction. The mask changes nothing, as i < inSize; it takes the
// place of the compiler's check.
func load(in *[inSize + 8]byte, i uint) uint64 {
	i &= inMask
	return binary.LittleEndian.Uint64(in[i : i+8])
}

// noEOF is for where the input may not end.
func noEOF(err error) error {
	if err == io.EOF { //nolint:errorlint // a Reader returns io.EOF itself, and nothing else is it
		return io.ErrUnexpectedEOF
	}
	return err
}
