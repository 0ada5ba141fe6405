package inflate

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
)

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

// TestBufferEnd has the longest match begin at each of the last places where one
// may, with output before and behind.
func TestBufferEnd(t *testing.T) {
	t.Parallel()
	for shift := range maxMatch {
		var d deflater
		d.fixed(1)
		var want []byte
		literal := func(b byte) {
			d.symbol(d.literals, int(b))
			want = append(want, b)
		}
		for i := range 300 + shift {
			literal(byte(i * i >> 3))
		}
		for len(want) < bufSize+20*maxMatch { // for the fast loop
			d.match(maxMatch, 300)
			want = append(want, want[len(want)-300:][:maxMatch]...)
		}
		literal('.')
		d.end()
		got, err := io.ReadAll(NewReader(bytes.NewReader(member(d.bytes(), want))))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("shift %d: got %d bytes, %v, want %d, equal up to %d", shift, len(got), err, len(want), equal(got, want))
		}
	}
}

// TestLongestRound has only the longest codes, so that every round of the fast
// loop needs as many bits as one can.
func TestLongestRound(t *testing.T) {
	t.Parallel()
	literals, dists := make([]uint8, maxLiterals), make([]uint8, maxDistances)
	for i := range uint8(14) {
		literals[i], dists[i] = i+1, i+1
	}
	literals[256], literals[284] = 15, 15
	dists[28], dists[29] = 15, 15
	var d deflater
	d.stored(0, make([]byte, window))
	d.dynamic(1, literals, dists)
	for i := range 60 {
		d.symbol(d.literals, 10)
		d.symbol(d.literals, 10)
		d.symbol(d.literals, 284)
		d.bits(uint64(i%32), 5)
		d.symbol(d.dists, 29)
		d.bits(0x1555, 13)
		for range i % 5 { // another alignment
			d.symbol(d.literals, 0)
		}
	}
	d.end()
	stream := d.bytes()
	compareDeflate(t, stream)
	for n := window; n < len(stream); n++ {
		compareDeflate(t, stream[:n])
	}
}

// TestInvalid has what no compressor writes. What follows is long enough for the
// fast loop to be in it.
func TestInvalid(t *testing.T) {
	t.Parallel()
	fixedSymbol := func(symbol int) func(*deflater) {
		return func(d *deflater) {
			d.fixed(1)
			d.symbol(d.literals, symbol)
		}
	}
	fixedDistance := func(symbol int) func(*deflater) {
		return func(d *deflater) {
			d.fixed(1)
			d.symbol(d.literals, 257)
			d.symbol(d.dists, symbol)
		}
	}
	sizes := func(literals, dists int, symbols ...int) func(*deflater) {
		return func(d *deflater) {
			c := d.dynamicHeader(1, literals, dists)
			for _, symbol := range symbols {
				d.symbol(c, symbol)
			}
		}
	}
	eight := bytes.Repeat([]byte{8}, 258)
	eight[0], eight[1] = 0, 0
	tests := map[string]func(*deflater){
		"block of type 3":   func(d *deflater) { d.bits(1|3<<1, 3) },
		"stored length":     func(d *deflater) { d.stored(1, nil); d.b[len(d.b)-1] ^= 1 },
		"fixed literal 286": fixedSymbol(286),
		"fixed literal 287": fixedSymbol(287),
		"fixed distance 30": fixedDistance(30),
		"fixed distance 31": fixedDistance(31),
		"287 literals": func(d *deflater) {
			d.dynamic(1, append(slices.Clone(eight), make([]uint8, 29)...), []uint8{1})
			d.end()
		},
		"31 distances":      func(d *deflater) { d.dynamic(1, eight, append([]uint8{1}, make([]uint8, 30)...)); d.end() },
		"repeat nothing":    sizes(257, 1, 16),
		"repeat beyond end": sizes(257, 1, 8, 18, 18, 18),
		"repeat one too many": func(d *deflater) {
			c := d.dynamicHeader(1, 257, 1)
			d.symbol(c, 18)
			d.bits(138-11, 7)
			d.symbol(c, 18)
			d.bits(117-11, 7)
			d.symbol(c, 1)
			d.symbol(c, 16)
			d.bits(0, 2) // three times
		},
		"no literal code":      func(d *deflater) { d.dynamic(1, make([]uint8, 257), []uint8{1}) },
		"no distance code":     func(d *deflater) { d.dynamic(1, eight, []uint8{0}); d.symbol(d.literals, 257) },
		"other distance":       func(d *deflater) { d.dynamic(1, eight, []uint8{1}); d.symbol(d.literals, 257); d.bits(1, 1) },
		"incomplete literals":  func(d *deflater) { d.dynamic(1, eight[:257], []uint8{1}) },
		"incomplete distances": func(d *deflater) { d.dynamic(1, eight, []uint8{2, 2, 2}) },
		"one distance of two":  func(d *deflater) { d.dynamic(1, eight, []uint8{2}) },
		"too many distances":   func(d *deflater) { d.dynamic(1, eight, []uint8{1, 1, 1}) },
	}
	for name, write := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, behind := range []int{0, 1, 64} {
				var d deflater
				d.stored(0, []byte("before"))
				write(&d)
				d.bytes()
				stream := append(d.b, bytes.Repeat([]byte{0x55}, behind)...)
				compareDeflate(t, stream)
				got, err := io.ReadAll(NewReader(bytes.NewReader(slices.Concat(plainHeader, stream))))
				if behind > 1 && kind(err) != flate.CorruptInputError(0) || err == nil {
					t.Errorf("with %d bytes behind: got %d bytes, %v, want it to be corrupt", behind, len(got), err)
				}
			}
		})
	}
}

// TestBlocksOfAllKinds has each kind of block follow each.
func TestBlocksOfAllKinds(t *testing.T) {
	t.Parallel()
	var d deflater
	var want []byte
	eight := bytes.Repeat([]byte{8}, 258)
	eight['x'], eight['y'] = 0, 0
	for i, kind := range []byte("sffddsdfs") {
		final := uint64(i / 8)
		switch kind {
		case 's':
			d.stored(final, []byte("stored "))
			want = append(want, "stored "...)
			continue
		case 'f':
			d.fixed(final)
		case 'd':
			d.dynamic(final, eight, []uint8{0, 0, 1})
		}
		d.symbol(d.literals, 'z')
		d.match(3, 3)
		d.end()
		want = append(want, 'z')
		want = append(want, want[len(want)-3:]...)
	}
	got, err := io.ReadAll(NewReader(bytes.NewReader(member(d.bytes(), want))))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
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
