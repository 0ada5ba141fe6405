package inflate

import (
	"bytes"
	"compress/flate"
	"io"
	"math/bits"
	"slices"
	"testing"
)

// deflater writes deflate streams bit by bit, also those that no compressor writes.
type deflater struct {
	b        []byte
	acc      uint64
	n        uint
	literals code
	dists    code
}

func (d *deflater) bits(v uint64, n uint) {
	d.acc |= v << d.n
	for d.n += n; d.n >= 8; d.n -= 8 {
		d.b = append(d.b, byte(d.acc))
		d.acc >>= 8
	}
}

func (d *deflater) bytes() []byte {
	d.bits(0, (8-d.n)%8)
	return d.b
}

// code is a Huffman code: its sizes in bits, and the codes as they are written.
type code struct {
	sizes []uint8
	codes []uint64
}

func newCode(sizes []uint8) code {
	c := code{sizes, make([]uint64, len(sizes))}
	next := uint64(0)
	for n := uint8(1); n <= maxCode; n++ {
		for i, size := range sizes {
			if size == n {
				c.codes[i] = bits.Reverse64(next) >> (64 - n)
				next++
			}
		}
		next <<= 1
	}
	return c
}

func (d *deflater) symbol(c code, i int) { d.bits(c.codes[i], uint(c.sizes[i])) }

func (d *deflater) stored(final uint64, data []byte) {
	d.bits(final, 3)
	d.bits(0, (8-d.n)%8)
	d.bits(uint64(len(data)), 16)
	d.bits(uint64(^uint16(len(data))), 16)
	d.b = append(d.b, data...)
}

func (d *deflater) fixed(final uint64) {
	d.bits(final|1<<1, 3)
	d.literals = newCode(slices.Concat(
		bytes.Repeat([]byte{8}, 144), bytes.Repeat([]byte{9}, 112),
		bytes.Repeat([]byte{7}, 24), bytes.Repeat([]byte{8}, 8)))
	d.dists = newCode(bytes.Repeat([]byte{5}, 32))
}

// dynamicHeader begins a block and returns the code for the sizes that follow.
func (d *deflater) dynamicHeader(final uint64, literals, dists int) code {
	d.bits(final|2<<1, 3)
	d.bits(uint64(literals-257), 5)
	d.bits(uint64(dists-1), 5)
	sizes := newCode(append(bytes.Repeat([]byte{4}, 13), bytes.Repeat([]byte{5}, 6)...))
	d.bits(uint64(len(sizeOrder)-4), 4)
	for _, symbol := range sizeOrder {
		d.bits(uint64(sizes.sizes[symbol]), 3)
	}
	return sizes
}

func (d *deflater) dynamic(final uint64, literals, dists []uint8) {
	d.literals, d.dists = newCode(literals), newCode(dists)
	sizes := d.dynamicHeader(final, len(literals), len(dists))
	all := slices.Concat(literals, dists)
	for i := 0; i < len(all); {
		run := 1
		for run < 138 && i+run < len(all) && all[i+run] == all[i] {
			run++
		}
		switch {
		case all[i] == 0 && run >= 11:
			d.symbol(sizes, 18)
			d.bits(uint64(run-11), 7)
		case all[i] == 0 && run >= 3:
			d.symbol(sizes, 17)
			d.bits(uint64(run-3), 3)
		case i > 0 && all[i] == all[i-1] && run >= 3:
			run = min(run, 6)
			d.symbol(sizes, 16)
			d.bits(uint64(run-3), 2)
		default:
			run = 1
			d.symbol(sizes, int(all[i]))
		}
		i += run
	}
}

// The tables of RFC 1951, 3.2.5, as the text has them.
func lengthExtra(symbol int) uint {
	if symbol < 265 || symbol == 285 {
		return 0
	}
	return uint(symbol-261) / 4
}

func distanceExtra(symbol int) uint { return uint(max(symbol-2, 0)) / 2 }

func (d *deflater) match(length, distance int) {
	if length == maxMatch {
		d.symbol(d.literals, 285)
	} else {
		symbol, base := 257, 3
		for ; length >= base+1<<lengthExtra(symbol); symbol++ {
			base += 1 << lengthExtra(symbol)
		}
		d.symbol(d.literals, symbol)
		d.bits(uint64(length-base), lengthExtra(symbol))
	}
	symbol, base := 0, 1
	for ; distance >= base+1<<distanceExtra(symbol); symbol++ {
		base += 1 << distanceExtra(symbol)
	}
	d.symbol(d.dists, symbol)
	d.bits(uint64(distance-base), distanceExtra(symbol))
}

func (d *deflater) end() { d.symbol(d.literals, 256) }

// repeatAfter is a stream of n bytes and a match.
func repeatAfter(n, distance int) []byte {
	var d deflater
	d.stored(0, make([]byte, n))
	d.fixed(1)
	d.match(3, distance)
	d.end()
	return append(d.bytes(), make([]byte, 64)...) // for the fast loop
}

// compareDeflate is compare for a deflate stream.
func compareDeflate(t *testing.T, deflated []byte) {
	t.Helper()
	r := bytes.NewReader(deflated)
	data, err := io.ReadAll(flate.NewReader(r))
	if err != nil {
		compare(t, slices.Concat(plainHeader, deflated))
		return
	}
	compare(t, member(deflated[:len(deflated)-r.Len()], data))
}
