package inflate

import "math/bits"

const (
	maxCode      = 15  // bits; RFC 1951, 3.2.7
	maxLiterals  = 286 // symbols for literals, end of block and lengths
	maxDistances = 30  // symbols for distances

	// An entry is found by that many bits. Longer codes are in subtables; one for
	// codes of up to k bits more has 2^k entries and, as the code is complete,
	// at least k+1 symbols. That bounds the sizes.
	literalBits       = 11
	literalMask       = 1<<literalBits - 1
	literalTableSize  = 1<<literalBits + maxLiterals/5<<4 + 1
	distanceBits      = 9
	distanceMask      = 1<<distanceBits - 1
	distanceTableSize = 1<<distanceBits + maxDistances/7<<6 + 2
)

// entry says what the next bits of the input mean:
//
//	31..16  a literal; the base of a length or distance; where a subtable begins
//	15..12  the flags below
//	11..8   how many bits the code has; for a link, the bits that select within
//	        the subtable; in a subtable, the bits that the code has there
//	5..0    how many bits to take: the code, and the extra bits behind it
type entry uint32

const (
	literal  entry = 1 << 15
	special  entry = 1 << 14 // none of literal, length and distance: one of the next two, or no code at all
	link     entry = 1 << 13 // to a subtable
	endBlock entry = 1 << 12
	noCode         = special
)

// taken returns how many bits the entry accounts for, extra bits included.
func (e entry) taken() uint { return uint(e & 63) }

// code returns how many bits select the entry, or within its subtable.
func (e entry) code() uint { return uint(e >> 8 & 15) }

// base returns the number that extra bits add to, or the other things at its place.
func (e entry) base() uint { return uint(e >> 16) }

// number returns the length or distance at the front of acc.
func (e entry) number(acc uint64) uint {
	return e.base() + uint(acc&(1<<e.taken()-1)>>e.code())
}

// sub returns where the subtable has what is at the front of acc.
func (e entry) sub(acc uint64) uint {
	return e.base() + uint(acc&(1<<e.code()-1))
}

// lengthEntries and distanceEntries have the base and the number of extra bits of each
// symbol; RFC 1951, 3.2.5. Lengths begin with symbol 257.
var (
	lengthEntries = [...]entry{
		3 << 16, 4 << 16, 5 << 16, 6 << 16, 7 << 16, 8 << 16, 9 << 16, 10 << 16,
		11<<16 | 1, 13<<16 | 1, 15<<16 | 1, 17<<16 | 1, 19<<16 | 2, 23<<16 | 2, 27<<16 | 2, 31<<16 | 2,
		35<<16 | 3, 43<<16 | 3, 51<<16 | 3, 59<<16 | 3, 67<<16 | 4, 83<<16 | 4, 99<<16 | 4, 115<<16 | 4,
		131<<16 | 5, 163<<16 | 5, 195<<16 | 5, 227<<16 | 5, 258 << 16,
	}
	distanceEntries = [...]entry{
		1 << 16, 2 << 16, 3 << 16, 4 << 16, 5<<16 | 1, 7<<16 | 1, 9<<16 | 2, 13<<16 | 2,
		17<<16 | 3, 25<<16 | 3, 33<<16 | 4, 49<<16 | 4, 65<<16 | 5, 97<<16 | 5, 129<<16 | 6, 193<<16 | 6,
		257<<16 | 7, 385<<16 | 7, 513<<16 | 8, 769<<16 | 8, 1025<<16 | 9, 1537<<16 | 9,
		2049<<16 | 10, 3073<<16 | 10, 4097<<16 | 11, 6145<<16 | 11, 8193<<16 | 12, 12289<<16 | 12,
		16385<<16 | 13, 24577<<16 | 13,
	}
)

func literalEntry(symbol uint) entry {
	switch {
	case symbol < 256:
		return literal | entry(symbol)<<16
	case symbol == 256:
		return special | endBlock
	case symbol < 257+uint(len(lengthEntries)):
		return lengthEntries[symbol-257]
	}
	return noCode // of the fixed code
}

func distanceEntry(symbol uint) entry {
	if symbol < uint(len(distanceEntries)) {
		return distanceEntries[symbol]
	}
	return noCode // of the fixed code
}

// sizeBits is the longest code for a size, in bits.
const sizeBits = 7

// sizeEntry is for the codes that the sizes of codes are written in.
func sizeEntry(symbol uint) entry { return entry(symbol) << 16 }

// build makes the table of the code in which symbol i has sizes[i] bits, or no
// code if that is 0; RFC 1951, 3.2.2. It returns false unless the code is
// complete, or has one symbol of one bit, or none at all.
func build(table []entry, tableBits uint, sizes []uint8, symbol func(uint) entry) bool {
	var count [maxCode + 1]uint
	longest := uint(0)
	for _, n := range sizes {
		count[n&maxCode]++
		longest = max(longest, uint(n&maxCode))
	}
	var place [maxCode + 2]uint // in the order of the codes
	space := uint(0)            // that the codes take, of 1<<longest
	for n := uint(1); n <= longest; n++ {
		place[n+1] = place[n] + count[n]
		space = space<<1 + count[n]
	}
	if space != 1<<longest && (space > 1 || longest > 1) {
		return false
	}
	var symbols [288]uint16
	for i, n := range sizes {
		if n > 0 {
			symbols[place[n]] = uint16(i)
			place[n]++
		}
	}

	// The table for n bits is that for n-1 bits twice, with the codes of n bits
	// put in.
	table[0], table[1] = noCode, noCode
	code, i, n := uint(0), 0, uint(1)
	for ; n <= tableBits; n++ {
		if n > 1 {
			copy(table[1<<(n-1):1<<n], table[:1<<(n-1)])
		}
		for range count[n] {
			table[code] = symbol(uint(symbols[i])) + entry(n<<8|n)
			code = following(code, n)
			i++
		}
	}

	var sub []entry
	prefix, end := ^uint(0), uint(1)<<tableBits
	for ; n <= longest; n++ {
		for left := count[n]; left > 0; left-- {
			if p := code & (1<<tableBits - 1); p != prefix {
				// As wide as the longest code in it: the codes that are left, in
				// order, fill it.
				width := n - tableBits
				for space := left; space < 1<<width; {
					width++
					space = space<<1 + count[tableBits+width]
				}
				prefix = p
				table[prefix] = special | link | entry(end<<16|width<<8|tableBits)
				sub = table[end : end+1<<width]
				end += 1 << width
			}
			rest := n - tableBits
			for j := code >> tableBits; j < uint(len(sub)); j += 1 << rest {
				sub[j] = symbol(uint(symbols[i])) + entry(rest<<8|rest)
			}
			code = following(code, n)
			i++
		}
	}
	return true
}

// following returns the next code of n bits, or of more: the highest bit of a code
// is the one that counts least, as it comes last. After all ones comes the
// same again.
func following(code, n uint) uint {
	bit := uint(1) << bits.Len(^code&(1<<n-1)) >> 1
	return code&(bit-1) | bit
}
