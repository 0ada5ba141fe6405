package ext4

import "io"

// batchSize is the longest write, in bytes.
const batchSize = 1 << 20

// A batch gathers blocks that follow each other on the disk, so that thousands
// of small files or inodes become one write. Blocks are built in its buffer.
type batch struct {
	w   io.WriterAt
	buf []byte
	n   int   // bytes gathered
	end int64 // the block behind the last one gathered
}

func newBatch(w io.WriterAt) batch { return batch{w: w, buf: make([]byte, batchSize)} }

// room returns the buffer for blocks from number block on, one at least. What
// is in it is garbage.
func (b *batch) room(block int64) ([]byte, error) {
	if b.n == len(b.buf) || block != b.end {
		if err := b.flush(); err != nil {
			return nil, err
		}
		b.end = block
	}
	return b.buf[b.n:], nil
}

// commit keeps the first n blocks of the last room.
func (b *batch) commit(n int64) {
	b.n += int(n) * blockSize
	b.end += n
}

// block returns one zeroed block at number block, to be filled before the next call.
func (b *batch) block(block int64) ([]byte, error) {
	p, err := b.room(block)
	if err != nil {
		return nil, err
	}
	b.commit(1)
	p = p[:blockSize]
	clear(p)
	return p, nil
}

func (b *batch) flush() error {
	if b.n == 0 {
		return nil
	}
	_, err := b.w.WriteAt(b.buf[:b.n], b.end*blockSize-int64(b.n))
	b.n = 0
	return err
}
