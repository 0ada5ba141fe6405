package ext4

// Directories; Documentation/filesystems/ext4/directory.rst.
const (
	direntHead = 8                      // bytes before the name
	direntTail = 12                     // the false entry at the end of a leaf that holds its checksum
	leafSize   = blockSize - direntTail // bytes for entries
	dotsSize   = 2 * (direntHead + 4)   // bytes that "." and ".." take
	tailType   = 0xDE                   // file type of the false entry
	lostBlocks = 4                      // of lost+found: e2fsck should not need to allocate
	leafFill   = leafSize - leafSize/10 // of indexed directories: room for names to come
)

type dir struct {
	ino     Ino
	parent  Ino
	name    string
	entries []dirent
	leaves  int64 // of the index; 0: not indexed
	blocks  int64
}

type dirent struct {
	name string
	ino  Ino
}

func (d *dir) indexed() bool { return d.leaves > 0 }

// direntLen is the length of an entry: a multiple of 4.
func direntLen(name string) int { return (direntHead + len(name) + 3) &^ 3 }

// plan decides how many blocks d takes. A directory of more than one block is
// indexed at once, since the kernel indexes one only as it grows out of its
// first block; its entries are put into the order of the index.
func (d *dir) plan(seed [4]uint32) error {
	size := dotsSize
	for _, e := range d.entries {
		size += direntLen(e.name)
	}
	if size > leafSize {
		return d.planIndex(seed)
	}
	d.blocks = 1
	if d.ino == lostFoundIno {
		d.blocks = lostBlocks
	}
	return nil
}

// writeDir writes the blocks of d and the tree that maps them.
func (w *Writer) writeDir(iblock []byte, iseed uint32, d *dir) (blocks int64, err error) {
	runs := w.blocks.take(d.blocks)
	if runs == nil {
		return 0, w.sizeError()
	}
	list := appendRuns(nil, 0, 0, runs)
	next := func() ([]byte, error) { // the next block of the directory
		r := &runs[0]
		if r.n == 0 {
			runs = runs[1:]
			r = &runs[0]
		}
		r.start, r.n = r.start+1, r.n-1
		return w.out.block(r.start - 1)
	}
	if d.indexed() {
		err = w.writeIndexed(d, iseed, next)
	} else {
		err = w.writeLinear(d, iseed, next)
	}
	if err != nil {
		return 0, err
	}
	blocks, err = w.putExtents(iblock, iseed, list)
	return blocks + d.blocks, err
}

func (w *Writer) writeLinear(d *dir, iseed uint32, next func() ([]byte, error)) error {
	for i := range d.blocks {
		b, err := next()
		if err != nil {
			return err
		}
		l := leaf{b: b}
		if i == 0 {
			l.add(".", d.ino, modeDir)
			l.add("..", d.parent, modeDir)
			for _, e := range d.entries {
				l.add(e.name, e.ino, w.inodes[e.ino].mode)
			}
		}
		l.seal(iseed)
	}
	return nil
}

// A leaf is a directory block as it is filled.
type leaf struct {
	b    []byte
	last int // offset of the last entry
	end  int // offset behind it
}

func (l *leaf) add(name string, ino Ino, mode uint16) {
	l.last = l.end
	p := l.b[l.last:]
	n := direntLen(name)
	le.PutUint32(p[0:], uint32(ino))
	le.PutUint16(p[4:], uint16(n))
	p[6] = byte(len(name))
	p[7] = direntType(mode)
	copy(p[direntHead:], name)
	l.end += n
}

// seal makes the last entry reach the checksum, which it adds. In an empty leaf
// that is an entry without an inode.
func (l *leaf) seal(iseed uint32) {
	le.PutUint16(l.b[l.last+4:], uint16(leafSize-l.last))
	tail := l.b[leafSize:]
	le.PutUint16(tail[4:], direntTail)
	tail[7] = tailType
	le.PutUint32(tail[8:], csum(iseed, l.b[:leafSize]))
}
