package ext4

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
)

// A Writer writes one file system. After an error it is of no more use: every
// later call returns that error. It must not be used by several goroutines at
// once.
type Writer struct {
	file   File
	opt    Options
	err    error // of every call from now on
	closed bool  // by a Close without an error

	seed     uint32 // of checksums
	hashSeed [4]uint32
	lay      layout
	journal  []run // once the size is known

	out      batch // of everything but the inode tables
	next     int64 // block where content goes next
	contents []content
	extents  []extent

	inodes    []inode // by number
	dirs      []dir
	targets   []string
	names     map[nameKey]struct{}
	lostTaken bool // the caller has described lost+found

	attrs     []attrSet
	attrIndex map[string]uint32 // by attrSet.key

	// While Close is under way:
	blocks      *blockMap
	need        Usage
	journalRoot [inoBlockEnd - inoBlock]byte // i_block of the journal
}

type nameKey struct {
	dir  Ino
	name string
}

// NewWriter begins a file system in f, whose content is discarded. It holds a
// root directory, 0755 and owned by root, with an empty lost+found in it.
func NewWriter(f File, o Options) (*Writer, error) {
	if o.UUID == [16]byte{} {
		o.UUID = defaultUUID
	}
	if o.Time.IsZero() {
		o.Time = time.Unix(0, 0)
	}
	if o.MinSize == 0 {
		o.MinSize = 1 << 30
	}
	switch {
	case len(o.Label) > labelSize:
		return nil, fmt.Errorf("label %q is longer than %d bytes", o.Label, labelSize)
	case o.Time != ClampTime(o.Time):
		return nil, fmt.Errorf("time %v cannot be stored", o.Time)
	case o.Size < 0 || o.Size > MaxSize:
		return nil, fmt.Errorf("size %d is not in 0..%d", o.Size, int64(MaxSize))
	case o.MinSize < 0 || o.MinSize > MaxSize:
		return nil, fmt.Errorf("minimal size %d is not in 0..%d", o.MinSize, int64(MaxSize))
	}
	w := &Writer{
		file:      f,
		opt:       o,
		seed:      csum(^uint32(0), o.UUID[:]),
		lay:       layout{descRoom: max(minDescRoom, ceilDiv(o.MinSize, groupSize*descsPerBlock))},
		out:       newBatch(f),
		contents:  make([]content, 1), // number 0 is the empty one
		inodes:    make([]inode, firstFreeIno),
		attrs:     make([]attrSet, 1), // number 0 is the empty one
		names:     map[nameKey]struct{}{},
		attrIndex: map[string]uint32{},
	}
	for i := range w.hashSeed {
		w.hashSeed[i] = le.Uint32(o.HashSeed[4*i:])
	}
	w.dirs = []dir{{ino: Root, parent: Root}}
	w.inodes[Root] = inode{mode: modeDir | 0o755}
	w.setTime(&w.inodes[Root], o.Time)
	if _, err := w.create(Root, lostFound, &Header{Mode: fs.ModeDir | 0o700}); err != nil {
		return nil, err
	}
	if o.Size > 0 {
		w.lay = w.lay.sized(o.Size, !o.NoJournal)
		if err := w.plan(); err != nil {
			return nil, err
		}
		if !w.lay.holds(w.need.Blocks, w.need.Inodes) {
			return nil, w.sizeError()
		}
		if w.lay.journal > 0 { // set its place aside while there is a good one
			w.journal = newBlockMap(&w.lay, 0).take(w.lay.journal)
		}
	}
	if err := empty(f); err != nil {
		return nil, err
	}
	return w, nil
}

// empty discards what is in f. A file that is empty is not truncated: a Linux
// file system would take that for the first half of an overwrite, and write all
// of the file to the disk when it is closed (ext4(5), auto_da_alloc).
func empty(f File) error {
	if n, err := f.ReadAt(make([]byte, 1), 0); n == 0 && err == io.EOF { //nolint:errorlint // an io.ReaderAt returns this very one
		return nil
	}
	return f.Truncate(0)
}

// fail makes err the result of every later call.
func (w *Writer) fail(err error) error {
	w.err = err
	return err
}

// Create makes a file of any type under a name in the directory parent. The
// directory lost+found in the root exists; to create it once more describes it.
func (w *Writer) Create(parent Ino, name string, h *Header) (Ino, error) {
	if w.err != nil {
		return 0, w.err
	}
	ino, err := w.create(parent, name, h)
	if err != nil {
		return 0, w.fail(&fs.PathError{Op: "create", Path: w.path(parent, name), Err: err})
	}
	return ino, nil
}

func (w *Writer) create(parent Ino, name string, h *Header) (Ino, error) {
	in, err := w.newInode(h)
	if err != nil {
		return 0, err
	}
	if parent == Root && name == lostFound && len(w.inodes) > int(lostFoundIno) && !w.lostTaken && h.Mode.IsDir() {
		w.lostTaken = true
		in.ref, in.links = w.inodes[lostFoundIno].ref, w.inodes[lostFoundIno].links
		w.inodes[lostFoundIno] = in
		return lostFoundIno, nil
	}
	d, err := w.claimName(parent, name)
	if err != nil {
		return 0, err
	}
	if len(w.inodes) > maxInodes {
		return 0, fmt.Errorf("more than %d inodes", int64(maxInodes))
	}
	ino := Ino(len(w.inodes))
	switch in.mode & modeType {
	case modeDir:
		in.ref = uint32(len(w.dirs))
		w.inodes[parent].links++
		w.dirs = append(w.dirs, dir{ino: ino, parent: parent, name: name})
	case modeRegular:
		in.links = 1
		if err := w.claimContent(h.Content, ino); err != nil {
			return 0, err
		}
		in.ref = h.Content.id
	case modeSymlink:
		in.links = 1
		in.ref = uint32(len(w.targets))
		w.targets = append(w.targets, h.Target)
	case modeChar, modeBlock:
		in.links = 1
		in.ref, in.minor = h.Major, h.Minor
	default:
		in.links = 1
	}
	w.inodes = append(w.inodes, in)
	w.dirs[d].entries = append(w.dirs[d].entries, dirent{name, ino})
	return ino, nil
}

// newInode checks h and returns what is common to all types.
func (w *Writer) newInode(h *Header) (in inode, err error) {
	if in.mode, err = unixMode(h.Mode); err != nil {
		return in, err
	}
	typ := in.mode & modeType
	switch {
	case typ == modeSymlink && (len(h.Target) == 0 || len(h.Target) > MaxTarget):
		return in, fmt.Errorf("symlink target of %d bytes is not in 1..%d", len(h.Target), MaxTarget)
	case typ == modeSymlink && strings.Contains(h.Target, "\x00"):
		return in, errors.New("symlink target contains NUL")
	case (typ == modeChar || typ == modeBlock) && (h.Major > maxMajor || h.Minor > maxMinor):
		return in, fmt.Errorf("device %d:%d is beyond %d:%d", h.Major, h.Minor, maxMajor, maxMinor)
	case typ != modeRegular && h.Content != Content{}:
		return in, errors.New("only a regular file has content")
	}
	in.uid, in.gid = h.UID, h.GID
	t := h.ModTime
	if t.IsZero() {
		t = w.opt.Time
	}
	if s := t.Unix(); s < minSeconds || s > maxSeconds {
		return in, fmt.Errorf("time %v cannot be stored", t)
	}
	w.setTime(&in, t)
	in.attrs, err = w.internAttrs(h.Xattrs)
	return in, err
}

func (w *Writer) setTime(in *inode, t time.Time) {
	in.sec, in.nsec = t.Unix(), uint32(t.Nanosecond())
}

// claimName adds name to the directory parent, whose index in dirs it returns.
func (w *Writer) claimName(parent Ino, name string) (d uint32, err error) {
	switch {
	case !w.exists(parent) || w.inodes[parent].mode&modeType != modeDir:
		return 0, fmt.Errorf("parent %d is not a directory", parent)
	case name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
		return 0, fmt.Errorf("name %q is not valid", name)
	case len(name) > MaxName:
		return 0, fmt.Errorf("name is longer than %d bytes", MaxName)
	}
	n := len(w.names)
	w.names[nameKey{parent, name}] = struct{}{}
	if len(w.names) == n {
		return 0, fs.ErrExist
	}
	return w.inodes[parent].ref, nil
}

func (w *Writer) claimContent(c Content, ino Ino) error {
	switch {
	case c == Content{}:
	case int(c.id) >= len(w.contents):
		return errors.New("content is of another writer")
	case w.contents[c.id].owner != 0:
		return fmt.Errorf("content belongs to inode %d", w.contents[c.id].owner)
	default:
		w.contents[c.id].owner = ino
	}
	return nil
}

// Link gives the file ino, which is no directory, another name.
func (w *Writer) Link(parent Ino, name string, ino Ino) error {
	if w.err != nil {
		return w.err
	}
	if err := w.link(parent, name, ino); err != nil {
		return w.fail(&fs.PathError{Op: "link", Path: w.path(parent, name), Err: err})
	}
	return nil
}

func (w *Writer) link(parent Ino, name string, ino Ino) error {
	switch {
	case !w.exists(ino):
		return fmt.Errorf("inode %d: %w", ino, fs.ErrNotExist)
	case w.inodes[ino].mode&modeType == modeDir:
		return fmt.Errorf("inode %d is a directory", ino)
	case w.inodes[ino].links >= MaxLinks:
		return fmt.Errorf("inode %d has %d links, the most there can be", ino, MaxLinks)
	}
	d, err := w.claimName(parent, name)
	if err != nil {
		return err
	}
	w.inodes[ino].links++
	w.dirs[d].entries = append(w.dirs[d].entries, dirent{name, ino})
	return nil
}

// SetRoot describes the root directory.
func (w *Writer) SetRoot(h *Header) error {
	if w.err != nil {
		return w.err
	}
	in, err := w.newInode(h)
	if err == nil && !h.Mode.IsDir() {
		err = errors.New("the root is a directory")
	}
	if err != nil {
		return w.fail(&fs.PathError{Op: "create", Path: "/", Err: err})
	}
	in.ref, in.links = w.inodes[Root].ref, w.inodes[Root].links
	w.inodes[Root] = in
	return nil
}

// exists reports whether ino is in use and not reserved.
func (w *Writer) exists(ino Ino) bool {
	return int64(ino) <= w.inodesUsed() && w.inodes[ino].mode != 0 && ino != journalIno
}

// inodesUsed counts the inodes, reserved ones included: it is the highest number too.
func (w *Writer) inodesUsed() int64 { return int64(len(w.inodes)) - 1 }

// path is for errors.
func (w *Writer) path(parent Ino, name string) string {
	path := "/" + name
	for parent != Root && w.exists(parent) && w.inodes[parent].mode&modeType == modeDir {
		d := &w.dirs[w.inodes[parent].ref]
		path = "/" + d.name + path
		parent = d.parent
	}
	return path
}
