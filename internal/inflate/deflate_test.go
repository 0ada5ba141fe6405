package inflate

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math/bits"
	"math/rand/v2"
	"os"
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

func (d *deflater) dynamic(final uint64, literals, dists []uint8) {
	d.bits(final|2<<1, 3)
	d.literals, d.dists = newCode(literals), newCode(dists)
	d.bits(uint64(len(literals)-257), 5)
	d.bits(uint64(len(dists)-1), 5)
	sizes := newCode(append(bytes.Repeat([]byte{4}, 13), bytes.Repeat([]byte{5}, 6)...))
	d.bits(uint64(len(sizeOrder)-4), 4)
	for _, symbol := range sizeOrder {
		d.bits(uint64(sizes.sizes[symbol]), 3)
	}
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

// repeatFirst is a stream that begins with a match.
func repeatFirst(distance int) []byte {
	var d deflater
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

// TestMatches copies every length from distances of all kinds, at all places of
// the buffer.
func TestMatches(t *testing.T) {
	t.Parallel()
	distances := []int{32767, 32768}
	for i := 1; i <= 66; i++ {
		distances = append(distances, i)
	}
	for i := 64; i < 32768; i *= 2 {
		distances = append(distances, i-1, i, i+1, i+i/2)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	history := make([]byte, window)
	for i := range history {
		history[i] = byte(rng.Uint32())
	}
	var d deflater
	d.stored(0, history)
	d.fixed(1)
	want := slices.Clone(history)
	for _, distance := range distances {
		for length := 3; length <= maxMatch; length++ {
			d.match(length, distance)
			for range length {
				want = append(want, want[len(want)-distance])
			}
			literal := byte(rng.Uint32()) // so that patterns do not last
			d.symbol(d.literals, int(literal))
			want = append(want, literal)
		}
	}
	d.end()
	gz := member(d.bytes(), want)
	for _, s := range sources {
		got, err := io.ReadAll(NewReader(s.wrap(bytes.NewReader(gz))))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %d bytes, %v, want %d, equal up to %d", s.name, len(got), err, len(want), equal(got, want))
		}
	}
}

// randomSizes makes a complete code for some of n symbols.
func randomSizes(rng *rand.Rand, n, used, longest int) []uint8 {
	sizes := make([]uint8, n)
	leaves := []uint8{0}
	for len(leaves) < used {
		// Mostly the last, so that codes become long.
		i := len(leaves) - 1
		if rng.IntN(3) > 0 {
			i = rng.IntN(len(leaves))
		}
		if int(leaves[i]) < longest {
			leaves[i]++
			leaves = append(leaves, leaves[i])
		}
	}
	if used == 1 {
		leaves[0] = 1
	}
	for i, symbol := range rng.Perm(n)[:used] {
		sizes[symbol] = leaves[i]
	}
	return sizes
}

func used(sizes []uint8) (symbols []int) {
	for i, n := range sizes {
		if n > 0 {
			symbols = append(symbols, i)
		}
	}
	return symbols
}

// randomStream makes a stream of blocks with codes that no compressor would
// choose. Now and then it is not valid: a match reaches too far, a symbol has no
// code, a code is not complete.
func randomStream(rng *rand.Rand) []byte {
	var d deflater
	if rng.IntN(4) > 0 {
		history := make([]byte, rng.IntN(window+1))
		for i := range history {
			history[i] = byte(rng.Uint32())
		}
		d.stored(0, history)
	}
	blocks := 1 + rng.IntN(4)
	for i := range blocks {
		final := uint64(0)
		if i == blocks-1 {
			final = 1
		}
		literals := randomSizes(rng, 257+rng.IntN(30), 1+rng.IntN(257), maxCode)
		dists := randomSizes(rng, 1+rng.IntN(30), 0, maxCode)
		if n := rng.IntN(len(dists) + 1); n > 0 {
			dists = randomSizes(rng, len(dists), n, maxCode)
		}
		if rng.IntN(60) == 0 {
			dists[rng.IntN(len(dists))] ^= 1
		}
		if rng.IntN(5) == 0 {
			d.fixed(final)
			literals, dists = d.literals.sizes, d.dists.sizes[:30]
		} else {
			d.dynamic(final, literals, dists)
		}
		symbols, distances := used(literals), used(dists)
		for range rng.IntN(3000) {
			symbol := symbols[rng.IntN(len(symbols))]
			if symbol == 256 || symbol > 256 && len(distances) == 0 && rng.IntN(500) > 0 {
				continue
			}
			d.symbol(d.literals, symbol)
			if symbol < 256 {
				continue
			}
			d.bits(rng.Uint64N(1<<lengthExtra(symbol)), lengthExtra(symbol))
			if len(distances) > 0 {
				distance := distances[rng.IntN(len(distances))]
				d.symbol(d.dists, distance)
				d.bits(rng.Uint64N(1<<distanceExtra(distance)), distanceExtra(distance))
			}
		}
		if literals[256] > 0 {
			d.end()
		}
	}
	return d.bytes()
}

// TestRandomStreams compares with compress/flate on valid streams, and on the same
// ones cut and changed.
func TestRandomStreams(t *testing.T) {
	t.Parallel()
	streams := 60
	if os.Getenv("BANGER_LONG") != "" {
		streams = 5000
	}
	for seed := range streams {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(uint64(seed), 5))
			stream := randomStream(rng)
			compareDeflate(t, stream)
			for range 5 {
				compareDeflate(t, stream[:rng.IntN(len(stream))])
				changed := slices.Clone(stream)
				for range 1 + rng.IntN(3) {
					// The first kilobyte of what follows the stored block has the codes.
					changed[rng.IntN(len(changed))] ^= 1 << rng.IntN(8)
				}
				compareDeflate(t, changed)
			}
		})
	}
}

// TestTables fills tables from codes of all shapes. That the largest fit is in the
// bounds that the constants compute; an index beyond would panic.
func TestTables(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(6, 7))
	var literals [literalTableSize]entry
	var distances [distanceTableSize]entry
	for range 3000 {
		sizes := randomSizes(rng, maxLiterals, 2+rng.IntN(maxLiterals-1), maxCode)
		checkTable(t, literals[:], literalBits, sizes, literalEntry)
		sizes = randomSizes(rng, maxDistances, 2+rng.IntN(maxDistances-1), maxCode)
		checkTable(t, distances[:], distanceBits, sizes, distanceEntry)
	}
}

func checkTable(t *testing.T, table []entry, tableBits uint, sizes []uint8, symbol func(uint) entry) {
	t.Helper()
	if !build(table, tableBits, sizes, symbol) {
		t.Fatalf("sizes %d: got no table", sizes)
	}
	c := newCode(sizes)
	for i, n := range sizes {
		if n == 0 {
			continue
		}
		acc := ^uint64(0)<<n | c.codes[i]
		e := table[acc&(1<<tableBits-1)]
		rest := uint(n)
		if e&link != 0 {
			e = table[e.sub(acc>>tableBits)]
			rest -= tableBits
		}
		if want := symbol(uint(i)) + entry(rest<<8|rest); e != want {
			t.Fatalf("sizes %d: symbol %d: got %#x, want %#x", sizes, i, e, want)
		}
	}
	over := slices.Clone(sizes)
	i := slices.IndexFunc(over, func(n uint8) bool { return n > 1 })
	if i < 0 {
		return
	}
	over[i]--
	if build(table, tableBits, over, symbol) {
		t.Fatalf("sizes %d: got a table, want none: there are too many codes", over)
	}
	over[i] += 2
	if over[i] <= maxCode && build(table, tableBits, over, symbol) {
		t.Fatalf("sizes %d: got a table, want none: there are too few codes", over)
	}
}
