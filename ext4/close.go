package ext4

import (
	"fmt"
	"io/fs"
	"slices"
)

const (
	minFreeInodes = 16384
	maxInodes     = maxBlocks / blocksPerGroup * inodesPerGroup
)

// Usage tells what is in use. It looks at every entry; ask it rarely.
func (w *Writer) Usage() Usage {
	if w.err == nil {
		_ = w.plan() // its error is Close's to report
	}
	u := w.need
	if w.lay.groups > 0 {
		u.Size = w.opt.Size
	}
	return u
}

// Close writes the metadata, at last the primary superblock, and gives the file
// its size. Only then, and only without an error, is the file a file system. It
// does not close or sync the file.
func (w *Writer) Close() error {
	if w.closed {
		return nil
	}
	if w.err != nil {
		return w.err
	}
	if err := w.finish(); err != nil {
		return w.fail(err)
	}
	w.closed, w.err = true, fs.ErrClosed
	return nil
}

func (w *Writer) finish() error {
	if err := w.out.flush(); err != nil {
		return err
	}
	if err := w.plan(); err != nil {
		return err
	}
	if w.opt.Size == 0 {
		if err := w.chooseSize(); err != nil {
			return err
		}
	}
	if !w.lay.holds(w.need.Blocks, w.need.Inodes) {
		return w.sizeError()
	}
	if err := w.settle(); err != nil {
		return err
	}
	if err := w.placeJournal(); err != nil {
		return err
	}
	if err := w.writeInodes(); err != nil {
		return err
	}
	descs, freeBlocks, err := w.writeGroups()
	if err != nil {
		return err
	}
	return w.writeSupers(descs, freeBlocks)
}

// plan computes what files, directories and attributes need.
func (w *Writer) plan() error {
	w.need.Inodes = w.inodesUsed()
	var blocks int64
	for i := range w.contents {
		if c := &w.contents[i]; c.owner != 0 {
			blocks += extentBlocks(w.extentsOf(c)) + treeBlocks(int64(c.n))
		}
	}
	for i := range w.dirs {
		d := &w.dirs[i]
		if err := d.plan(w.hashSeed); err != nil {
			return &fs.PathError{Op: "write", Path: w.path(d.parent, d.name), Err: err}
		}
		blocks += d.blocks + treeBlocks(ceilDiv(d.blocks, extentMaxLen))
	}
	for _, t := range w.targets {
		if len(t) > maxFastTarget {
			blocks++
		}
	}
	for i := range w.attrs {
		w.attrs[i].refs = 0
	}
	for i := range w.inodes {
		w.attrs[w.inodes[i].attrs].refs++
	}
	for i := range w.attrs {
		blocks += w.attrs[i].blocks()
	}
	w.need.Blocks = blocks
	return nil
}

// chooseSize applies the rule for the size: a quarter more than the content,
// free inodes for a file system that is going to be used, whole groups.
func (w *Writer) chooseSize() error {
	need := w.need
	size := max(need.Blocks*blockSize/4*5, w.opt.MinSize, 1)
	inodes := need.Inodes + max(minFreeInodes, need.Inodes/4)
	size = max(size, ceilDiv(inodes, inodesPerGroup)*groupSize)
	size = ceilDiv(size, groupSize) * groupSize
	for {
		if size > w.lay.descRoom*descsPerBlock*groupSize {
			return fmt.Errorf("%d blocks of content need %d bytes: a size beyond %d must be set in Options",
				need.Blocks, size, w.lay.descRoom*descsPerBlock*groupSize)
		}
		if lay := w.lay.sized(size, !w.opt.NoJournal); lay.holds(need.Blocks, need.Inodes) {
			w.lay, w.opt.Size = lay, size
			return nil
		}
		size += groupSize
	}
}

// sizeError tells what size is enough.
func (w *Writer) sizeError() error {
	const step = 1 << 20
	e := &SizeError{Size: w.opt.Size, Blocks: w.need.Blocks, Inodes: w.need.Inodes}
	for e.Need = max(e.Size, e.Blocks*blockSize)/step*step + step; e.Need < MaxSize; e.Need += step {
		lay := w.lay.sized(e.Need, !w.opt.NoJournal)
		if lay.holds(e.Blocks, e.Inodes) {
			break
		}
	}
	return e
}

// settle fixes which blocks are in use: it removes content that has no name,
// moves what lies behind the end to before it, and sets the file's size.
func (w *Writer) settle() error {
	var dropped []run
	w.blocks = newBlockMap(&w.lay, min(w.next, w.lay.blocks))
	for _, r := range w.journal {
		w.blocks.mark(r)
	}
	for i := range w.contents {
		c := &w.contents[i]
		for _, e := range w.extentsOf(c) {
			r := run{int64(e.start), int64(e.n)}
			r.n = min(r.n, w.lay.blocks-r.start)
			if r.n <= 0 {
				continue
			}
			if c.owner == 0 {
				dropped = append(dropped, r)
			} else {
				w.blocks.mark(r)
			}
		}
	}
	if err := w.punch(dropped); err != nil {
		return err
	}
	for i := range w.contents {
		c := &w.contents[i]
		behind := func(e extent) bool { return int64(e.start)+int64(e.n) > w.lay.blocks }
		if c.owner != 0 && slices.ContainsFunc(w.extentsOf(c), behind) {
			if err := w.moveDown(c); err != nil {
				return err
			}
		}
	}
	if err := w.out.flush(); err != nil {
		return err
	}
	if err := w.file.Truncate(w.lay.blocks * blockSize); err != nil {
		return err
	}
	return w.file.Truncate(w.opt.Size)
}

// punch removes runs from the file. Neighbours are joined first: they are in
// the order in which they were written.
func (w *Writer) punch(runs []run) error {
	for len(runs) > 0 {
		r := runs[0]
		for runs = runs[1:]; len(runs) > 0 && runs[0].start == r.start+r.n; runs = runs[1:] {
			r.n += runs[0].n
		}
		if err := punchHole(w.file, r.start*blockSize, r.n*blockSize); err != nil {
			return err
		}
	}
	return nil
}

// moveDown copies those blocks of c that lie behind the end to free ones.
func (w *Writer) moveDown(c *content) error {
	first := len(w.extents)
	for _, e := range w.extentsOf(c) {
		keep := min(max(w.lay.blocks-int64(e.start), 0), int64(e.n))
		list := []run{{int64(e.start), keep}}
		if rest := int64(e.n) - keep; rest > 0 {
			to := w.blocks.take(rest)
			if to == nil {
				return w.sizeError()
			}
			if err := w.copyBlocks(to, int64(e.start)+keep); err != nil {
				return err
			}
			list = append(list, to...)
		}
		w.extents = appendRuns(w.extents, first, int64(e.logical), list)
	}
	c.first, c.n = uint32(first), uint32(len(w.extents)-first)
	return nil
}

func (w *Writer) copyBlocks(to []run, from int64) error {
	for _, r := range to {
		for r.n > 0 {
			b, err := w.out.room(r.start)
			if err != nil {
				return err
			}
			b = b[:min(int64(len(b)), r.n*blockSize)]
			if _, err := w.file.ReadAt(b, from*blockSize); err != nil {
				return err
			}
			n := int64(len(b) / blockSize)
			w.out.commit(n)
			from += n
			r.start, r.n = r.start+n, r.n-n
		}
	}
	return nil
}

// newBlock allocates one block and returns its number and its zeroed content,
// to be filled before the next call.
func (w *Writer) newBlock() (int64, []byte, error) {
	runs := w.blocks.take(1)
	if runs == nil {
		return 0, nil, w.sizeError()
	}
	b, err := w.out.block(runs[0].start)
	return runs[0].start, b, err
}
