package inflate

import "encoding/binary"

const (
	// fastInput is how many bytes of input must be there for a round of fast: it
	// loads 8 bytes up to twice, and the first load moves on by at most 7.
	fastInput = 7 + 8
	// fastStart is how many must be there at the start, with one load more.
	fastStart = 7 + fastInput
)

// outcome says why fast ended.
type outcome int

const (
	atLimit  outcome = iota // of input or buffer
	atEnd                   // of the block
	atNoCode                // or at a match that reaches back too far
)

// fast decodes literals and matches, with everything in registers. Tables and
// buffers are arrays, and indexes are masked to their sizes, so that the compiler
// sees them in bounds; only those into subtables it checks. bufMask never changes
// anything, as out <= fullAt at the start of each round.
//
// At that time acc has at least 56 bits. A round takes two literals of up to 11
// bits, as longer codes are in subtables, and then a third literal, of up to 15
// bits, or a length, of up to 15 and 5 extra bits, and a distance, of up to 15
// and 13, with a refill before it when there might be too few.
//
// Of n only the lowest 6 bits count. The bits of acc above the lowest n are 0, or
// what the next refill would put there.
func (z *Reader) fast() outcome {
	in, buf, literals, distances := &z.in, &z.buf, &z.literals, &z.distances
	ip, last := uint(z.ip), uint(z.end-fastInput)
	out, low := uint(z.out), uint(z.low)
	acc, n := z.acc, z.n

	why := atLimit
	acc, n, ip = refill(in, acc, n, ip)
	e := literals[acc&literalMask]
rounds:
	for ip <= last && out <= fullAt {
		if e&literal != 0 {
			acc, n = acc>>e.taken(), n-uint(e)
			buf[out&bufMask] = byte(e.base())
			out++
			e = literals[acc&literalMask]
			if e&literal != 0 {
				acc, n = acc>>e.taken(), n-uint(e)
				buf[out&bufMask] = byte(e.base())
				out++
				e = literals[acc&literalMask]
				if e&literal != 0 {
					acc, n = acc>>e.taken(), n-uint(e)
					buf[out&bufMask] = byte(e.base())
					out++
					acc, n, ip = refill(in, acc, n, ip)
					e = literals[acc&literalMask]
					continue
				}
			}
		}
		if e&special != 0 {
			if e&link != 0 {
				acc, n = acc>>e.taken(), n-uint(e)
				e = literals[e.sub(acc)]
				if e&literal != 0 {
					acc, n = acc>>e.taken(), n-uint(e)
					buf[out&bufMask] = byte(e.base())
					out++
					acc, n, ip = refill(in, acc, n, ip)
					e = literals[acc&literalMask]
					continue
				}
			}
			if e&special != 0 {
				acc, n = acc>>e.taken(), n-uint(e)
				why = atNoCode
				if e&endBlock != 0 {
					why = atEnd
				}
				break rounds
			}
		}
		length := e.number(acc)
		acc, n = acc>>e.taken(), n-uint(e)

		e = distances[acc&distanceMask]
		if n&63 < maxCode+13 {
			acc, n, ip = refill(in, acc, n, ip)
			e = distances[acc&distanceMask]
		}
		if e&special != 0 {
			if e&link != 0 {
				acc, n = acc>>e.taken(), n-uint(e)
				e = distances[e.sub(acc)]
			}
			if e&special != 0 {
				why = atNoCode
				break rounds
			}
		}
		distance := e.number(acc)
		acc, n = acc>>e.taken(), n-uint(e)
		if distance > out-low {
			why = atNoCode
			break rounds
		}

		// The next entry is on its way while the match is copied.
		acc, n, ip = refill(in, acc, n, ip)
		e = literals[acc&literalMask]

		to, from := out, out-distance
		out += length
		switch {
		case distance >= 16: // each copy loads its 16 bytes before it stores them
			for ; to < out; to, from = to+32, from+32 {
				t, f := to&bufMask, from&bufMask
				dst, src := (*[32]byte)(buf[t:t+32]), (*[32]byte)(buf[f:f+32])
				*(*[16]byte)(dst[:16]) = *(*[16]byte)(src[:16])
				*(*[16]byte)(dst[16:]) = *(*[16]byte)(src[16:])
			}
		case distance >= 8:
			for ; to < out; to, from = to+8, from+8 {
				t, f := to&bufMask, from&bufMask
				binary.LittleEndian.PutUint64(buf[t:t+8], binary.LittleEndian.Uint64(buf[f:f+8]))
			}
		default:
			r := &repeats[distance&7]
			f := from & bufMask
			v := binary.LittleEndian.Uint64(buf[f:f+8]) & r.mask * r.factor
			for ; to < out; to += r.step {
				t := to & bufMask
				binary.LittleEndian.PutUint64(buf[t:t+8], v)
			}
		}
	}

	// Give back whole bytes.
	n &= 63
	z.ip = int(ip - n>>3)
	z.n = n & 7
	z.acc = acc & (1<<z.n - 1)
	z.out = int(out)
	return why
}

// refill brings n to at least 56 bits. It loads 8 bytes and moves on by those that
// acc had room for whole.
func refill(in *[inSize + 8]byte, acc uint64, n, ip uint) (uint64, uint, uint) {
	return acc | load(in, ip)<<(n&63), n | 56, ip + (63-n)>>3&7
}

// repeats turns the up to 7 bytes between a match and what it repeats into a word
// that has them as often as they fit, step bytes.
var repeats = [8]struct {
	mask, factor uint64
	step         uint
}{
	1: {1<<8 - 1, 0x0101010101010101, 8},
	2: {1<<16 - 1, 0x0001000100010001, 8},
	3: {1<<24 - 1, 0x0000000001000001, 6},
	4: {1<<32 - 1, 0x0000000100000001, 8},
	5: {1<<40 - 1, 1, 5},
	6: {1<<48 - 1, 1, 6},
	7: {1<<56 - 1, 1, 7},
}
