package ext4

import (
	"bytes"
	"fmt"
	"io"
)

// content is the stored bytes of one file. Its extents are in Writer.extents.
type content struct {
	size  int64 // bytes
	first uint32
	n     uint32 // extents
	owner Ino    // 0: no name refers to it
}

// zeroBlock is what a block is compared with; it is never written to.
var zeroBlock [blockSize]byte

// WriteContent stores the next size bytes of r, at the place where they will
// stay. It fails with [io.ErrUnexpectedEOF] if there are fewer and does not read
// more. Blocks that hold only zeros take no space.
func (w *Writer) WriteContent(r io.Reader, size int64) (Content, error) {
	if w.err != nil {
		return Content{}, w.err
	}
	if size == 0 {
		return Content{}, nil
	}
	if size < 0 || size > MaxSize {
		return Content{}, w.fail(fmt.Errorf("write content: size %d is not in 0..%d", size, int64(MaxSize)))
	}
	first := len(w.extents)
	if err := w.stream(r, size); err != nil {
		return Content{}, w.fail(fmt.Errorf("write content of %d bytes: %w", size, err))
	}
	w.contents = append(w.contents, content{size: size, first: uint32(first), n: uint32(len(w.extents) - first)})
	return Content{uint32(len(w.contents) - 1)}, nil
}

func (w *Writer) stream(r io.Reader, size int64) error {
	first := len(w.extents)
	for done := int64(0); done < size; {
		free := w.freeRun()
		if free.start+free.n > maxBlocks {
			return fmt.Errorf("more than %d bytes of content", int64(MaxSize))
		}
		p, err := w.out.room(free.start)
		if err != nil {
			return err
		}
		p = p[:min(int64(len(p)), free.n*blockSize)]
		n := int(min(int64(len(p)), size-done))
		if _, err := io.ReadFull(r, p[:n]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		padded := int(ceilDiv(int64(n), blockSize)) * blockSize
		clear(p[n:padded])
		kept := w.squeeze(p[:padded], first, done/blockSize, free.start)
		w.out.commit(kept)
		w.next = free.start + kept
		done += int64(n)
	}
	return nil
}

// squeeze moves the blocks of p that are not zero together, adds them to the
// extents of the content that begins at first, and returns their number.
func (w *Writer) squeeze(p []byte, first int, logical, start int64) int64 {
	kept := 0
	for off := 0; off < len(p); off += blockSize {
		b := p[off : off+blockSize]
		if le.Uint64(b) == 0 && bytes.Equal(b, zeroBlock[:]) {
			continue
		}
		if kept != off {
			copy(p[kept:], b)
		}
		w.extents = appendExtent(w.extents, first, extent{
			logical: uint32(logical + int64(off/blockSize)),
			start:   uint32(start + int64(kept/blockSize)),
			n:       1,
		})
		kept += blockSize
	}
	return int64(kept / blockSize)
}

// freeRun returns the free blocks that come next: to the end of a group at most.
func (w *Writer) freeRun() run {
	for {
		g, off := w.next/blocksPerGroup, w.next%blocksPerGroup
		off = max(off, w.lay.reserved(g))
		r := run{g*blocksPerGroup + off, blocksPerGroup - off}
		for _, j := range w.journal {
			if j.start <= r.start && r.start < j.start+j.n {
				r = run{j.start + j.n, 0} // look again from behind the journal
			} else if r.start < j.start {
				r.n = min(r.n, j.start-r.start)
			}
		}
		w.next = r.start
		if r.n > 0 {
			return r
		}
	}
}

// extentsOf returns the extents of a content.
func (w *Writer) extentsOf(c *content) []extent {
	return w.extents[c.first : c.first+c.n]
}
