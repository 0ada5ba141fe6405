package ext4

import (
	"fmt"
	"io"
	"sort"
)

// A span says where n blocks of a file are. What no span covers is zeros.
type span struct{ logical, start, n int64 }

// A body is the content of an inode.
type body struct {
	fs     *FS
	inline []byte // all of it, if it is in the inode; then there are no spans
	spans  []span
	size   int64 // bytes
}

func (f *FS) body(n *node) (b body, err error) {
	b.fs, b.size = f, n.size
	if n.flags&flagInline != 0 {
		b.inline, err = f.inline(n)
	} else {
		b.spans, err = f.spans(n)
	}
	return b, err
}

// ReadAt implements [io.ReaderAt].
func (b *body) ReadAt(p []byte, off int64) (int, error) {
	if off >= b.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), b.size-off))
	if b.inline != nil {
		copy(p[:n], b.inline[off:])
	} else if err := b.fs.readSpans(b.spans, p[:n], off); err != nil {
		return 0, err
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// spans returns the mapping of a file, in order.
func (f *FS) spans(n *node) ([]span, error) {
	var err error
	m := mapper{f: f, seed: n.seed}
	iblock := n.raw[inoBlock:inoBlockEnd]
	if n.flags&flagExtents != 0 {
		err = m.extents(iblock, -1)
	} else {
		err = m.blocks(iblock)
	}
	if err != nil {
		return nil, fmt.Errorf("inode %d: mapping: %w", n.ino, err)
	}
	return m.list, nil
}

// A mapper collects spans.
type mapper struct {
	f    *FS
	seed uint32
	list []span
	next int64 // logical block behind the last
	seen int64 // blocks that block pointers have led to
}

func (m *mapper) add(logical, start, n int64) error {
	if logical < m.next || start <= 0 || n <= 0 || start+n > m.f.blocks {
		return errDamaged
	}
	m.next = logical + n
	if k := len(m.list) - 1; k >= 0 {
		if last := &m.list[k]; last.logical+last.n == logical && last.start+last.n == start {
			last.n += n
			return nil
		}
	}
	m.list = append(m.list, span{logical, start, n})
	return nil
}

// extents walks a node of an extent tree. Every leaf must begin behind the one
// before and no node but the root may be empty, so a cycle is an error before it
// is a loop. depth is that of the node, -1 in the root, which tells its own.
func (m *mapper) extents(b []byte, depth int) error {
	entries, limit := int(le.Uint16(b[2:])), int(le.Uint16(b[4:]))
	root := depth < 0
	if root {
		depth = int(le.Uint16(b[6:]))
	}
	if le.Uint16(b) != extentMagic || entries > limit || extentEntry*(1+limit) > len(b) ||
		int(le.Uint16(b[6:])) != depth || depth > extentMaxDepth || entries == 0 && !root {
		return errDamaged
	}
	if tail := extentEntry * (1 + limit); !root && m.f.checksummed {
		if tail+4 > len(b) || le.Uint32(b[tail:]) != csum(m.seed, b[:tail]) {
			return fmt.Errorf("checksum: %w", errDamaged)
		}
	}
	for i := range entries {
		p := b[extentEntry*(1+i):][:extentEntry]
		logical := int64(le.Uint32(p))
		if depth == 0 {
			n := int64(le.Uint16(p[4:]))
			start := int64(le.Uint16(p[6:]))<<32 | int64(le.Uint32(p[8:]))
			if n > extentMaxLen { // allocated, but not written: zeros
				if logical < m.next {
					return errDamaged
				}
				m.next = logical + n - extentMaxLen
			} else if err := m.add(logical, start, n); err != nil {
				return err
			}
			continue
		}
		if logical < m.next {
			return errDamaged
		}
		child, err := m.f.readBlock(int64(le.Uint16(p[8:]))<<32 | int64(le.Uint32(p[4:])))
		if err != nil {
			return err
		}
		if err := m.extents(child, depth-1); err != nil {
			return err
		}
	}
	return nil
}

// blocks walks the twelve block pointers and the three trees of them.
func (m *mapper) blocks(iblock []byte) error {
	logical := int64(0)
	for i := range 15 {
		depth := max(0, i-11)
		if err := m.pointer(int64(le.Uint32(iblock[4*i:])), depth, &logical); err != nil {
			return err
		}
	}
	return nil
}

func (m *mapper) pointer(block int64, depth int, logical *int64) error {
	perBlock := m.f.blockSize / 4
	if block == 0 {
		skip := int64(1)
		for range depth {
			skip *= perBlock
		}
		*logical += skip
		return nil
	}
	if m.seen++; m.seen > m.f.blocks { // a cycle
		return errDamaged
	}
	if depth == 0 {
		*logical++
		return m.add(*logical-1, block, 1)
	}
	b, err := m.f.readBlock(block)
	if err != nil {
		return err
	}
	for i := range perBlock {
		if err := m.pointer(int64(le.Uint32(b[4*i:])), depth-1, logical); err != nil {
			return err
		}
	}
	return nil
}

// readSpans fills p with the bytes of a file from off on.
func (f *FS) readSpans(spans []span, p []byte, off int64) error {
	bs := f.blockSize
	i := sort.Search(len(spans), func(i int) bool { return (spans[i].logical+spans[i].n)*bs > off })
	for len(p) > 0 {
		if i == len(spans) {
			clear(p)
			return nil
		}
		s := spans[i]
		if hole := s.logical*bs - off; hole > 0 {
			k := min(hole, int64(len(p)))
			clear(p[:k])
			p, off = p[k:], off+k
			continue
		}
		in := off - s.logical*bs
		k := min(s.n*bs-in, int64(len(p)))
		if err := readFull(f.r, p[:k], s.start*bs+in); err != nil {
			return err
		}
		p, off = p[k:], off+k
		i++
	}
	return nil
}
