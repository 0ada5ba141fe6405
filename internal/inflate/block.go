package inflate

// block reads the header of a block; RFC 1951, 3.2.3.
func (z *Reader) block() error {
	header, err := z.bits(3)
	if err != nil {
		return err
	}
	z.final = header&1 != 0
	switch header >> 1 {
	case 0:
		return z.storedHeader()
	case 1:
		z.fixedCodes()
		return nil
	case 2:
		return z.dynamicCodes()
	}
	return z.corrupt()
}

func (z *Reader) endBlock() {
	z.step = (*Reader).block
	if z.final {
		z.step = (*Reader).trailer
	}
}

func (z *Reader) storedHeader() error {
	z.align()
	v, err := z.bits(32)
	if err != nil {
		return err
	}
	if uint16(v) != ^uint16(v>>16) {
		return z.corrupt()
	}
	z.stored = int(uint16(v))
	z.step = (*Reader).copyStored
	return nil
}

// copyStored goes on with a block that is not compressed.
func (z *Reader) copyStored() error {
	for z.stored > 0 && z.out <= fullAt {
		if z.ip == z.end {
			if err := z.fill(); err != nil {
				return noEOF(err)
			}
		}
		n := copy(z.buf[z.out:bufSize], z.in[z.ip:min(z.end, z.ip+z.stored)])
		z.out += n
		z.ip += n
		z.stored -= n
	}
	if z.stored == 0 {
		z.endBlock()
	}
	return nil
}

// fixedCodes makes the tables of RFC 1951, 3.2.6. Their last two symbols of each
// kind may not occur.
func (z *Reader) fixedCodes() {
	z.step = (*Reader).codes
	if z.fixed {
		return
	}
	z.fixed = true
	var sizes [288]uint8
	for i := range sizes {
		switch {
		case i < 144:
			sizes[i] = 8
		case i < 256:
			sizes[i] = 9
		case i < 280:
			sizes[i] = 7
		default:
			sizes[i] = 8
		}
	}
	build(z.literals[:], literalBits, sizes[:], literalEntry)
	for i := range sizes[:32] {
		sizes[i] = 5
	}
	build(z.distances[:], distanceBits, sizes[:32], distanceEntry)
}

// sizeOrder is the order in which the sizes of the codes for sizes come; RFC
// 1951, 3.2.7.
var sizeOrder = [...]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// dynamicCodes reads codes and makes their tables; RFC 1951, 3.2.7.
func (z *Reader) dynamicCodes() error {
	z.step = (*Reader).codes
	z.fixed = false
	v, err := z.bits(5 + 5 + 4)
	if err != nil {
		return err
	}
	literals := int(v&31) + 257
	all := literals + int(v>>5&31) + 1
	if literals > maxLiterals || all-literals > maxDistances {
		return z.corrupt()
	}
	var sizes [len(sizeOrder)]uint8
	for _, symbol := range sizeOrder[:v>>10+4] {
		n, err := z.bits(3)
		if err != nil {
			return err
		}
		sizes[symbol] = uint8(n)
	}
	var table [1 << sizeBits]entry
	if !build(table[:], sizeBits, sizes[:], sizeEntry) {
		return z.corrupt()
	}
	for i := 0; i < all; {
		e, err := z.symbol(table[:], sizeBits)
		if err != nil {
			return err
		}
		size, times := uint8(0), 1
		switch symbol := e.base(); {
		case e&special != 0:
			return z.corrupt()
		case symbol < 16:
			size = uint8(symbol)
		case symbol == 16 && i == 0:
			return z.corrupt()
		case symbol == 16:
			size = z.sizes[i-1]
			times, err = z.times(3, 2)
		case symbol == 17:
			times, err = z.times(3, 3)
		default:
			times, err = z.times(11, 7)
		}
		if err != nil {
			return err
		}
		if times > all-i {
			return z.corrupt()
		}
		for range times {
			z.sizes[i] = size
			i++
		}
	}
	if !build(z.literals[:], literalBits, z.sizes[:literals], literalEntry) ||
		!build(z.distances[:], distanceBits, z.sizes[literals:all], distanceEntry) {
		return z.corrupt()
	}
	return nil
}

// times reads how often a size is repeated.
func (z *Reader) times(least int, extra uint) (int, error) {
	v, err := z.bits(extra)
	return least + int(v), err
}

// symbol decodes one symbol, but not its extra bits.
func (z *Reader) symbol(table []entry, tableBits uint) (entry, error) {
	for {
		// Bits that are not there yet are 0. They can only make the code look
		// longer than those that are.
		e := table[z.acc&(1<<tableBits-1)]
		n := e.code()
		if e&link != 0 {
			e = table[e.sub(z.acc>>tableBits)]
			n = tableBits + e.code()
		}
		if n <= z.n {
			z.take(n)
			return e, nil
		}
		if err := z.need(z.n + 1); err != nil {
			return 0, err
		}
	}
}

// codes goes on with a block of literals and matches: fast while there is room on
// both sides, and else one at a time, with as few bytes as it takes.
func (z *Reader) codes() error {
	for z.out <= fullAt {
		if z.end-z.ip < fastStart {
			_ = z.fill() // a symbol may need no more than there is: not an error yet
		}
		if z.end-z.ip < fastStart {
			if done, err := z.code(); done || err != nil {
				return err
			}
			continue
		}
		switch z.fast() {
		case atEnd:
			z.endBlock()
			return nil
		case atNoCode:
			return z.corrupt()
		}
	}
	return nil
}

// code decodes one literal or match, or the end of the block.
func (z *Reader) code() (done bool, err error) {
	e, err := z.symbol(z.literals[:], literalBits)
	switch {
	case err != nil:
		return false, err
	case e&literal != 0:
		z.buf[z.out] = byte(e.base())
		z.out++
		return false, nil
	case e&endBlock != 0:
		z.endBlock()
		return true, nil
	case e&special != 0:
		return false, z.corrupt()
	}
	length, err := z.number(e)
	if err != nil {
		return false, err
	}
	e, err = z.symbol(z.distances[:], distanceBits)
	if err != nil {
		return false, err
	}
	if e&special != 0 {
		return false, z.corrupt()
	}
	distance, err := z.number(e)
	if err != nil {
		return false, err
	}
	if distance > z.out-z.low {
		return false, z.corrupt()
	}
	for range length {
		z.buf[z.out] = z.buf[z.out-distance]
		z.out++
	}
	return false, nil
}

// number adds the extra bits to the base of a length or distance.
func (z *Reader) number(e entry) (int, error) {
	v, err := z.bits(e.taken() - e.code())
	return int(e.base()) + int(v), err
}
