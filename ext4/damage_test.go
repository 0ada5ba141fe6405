package ext4

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// What e2fsck would not notice, it would not prove either: a wrong byte in any
// structure is an error to it, and to the reader wherever it looks.
func TestOracle(t *testing.T) {
	t.Parallel()
	need(t, "e2fsck")
	w, f := image(t, Options{Size: 256 * mib})
	files := []want{
		{
			path: "pieces", Header: Header{Mode: 0o644, Xattrs: map[string]string{"user.x": noise(500)}},
			data: strings.Repeat(noise(4096)+strings.Repeat("\x00", 4096), 9),
		},
		{path: "one", Header: Header{Mode: fs.ModeDir | 0o755}},
		{path: "one/file", Header: Header{Mode: 0o644}},
		{path: "many", Header: Header{Mode: fs.ModeDir | 0o755}},
	}
	for i := range 13*507 + 1 {
		files = append(files, want{path: fmt.Sprintf("many/%0255d", i), Header: Header{Mode: 0o644}})
	}
	inos := put(t, w, files)
	fsys := finish(t, w, f)

	block := func(path string, i int64) int64 { // a block of a directory
		for _, s := range must[[]span](t)(fsys.spans(must[*node](t)(fsys.node(inos[path])))) {
			if s.logical <= i && i < s.logical+s.n {
				return (s.start + i - s.logical) * blockSize
			}
		}
		t.Fatalf("%s has no block %d", path, i)
		return 0
	}
	pieces := must[*node](t)(fsys.node(inos["pieces"]))
	for _, row := range []struct {
		name string
		at   int64
		read bool // the reader notices
	}{
		{"superblock", superOffset + sbLabel, true},
		{"superblock_backup", groupSize + sbLabel, false},
		{"descriptor_backup", groupSize + blockSize + gdFreeBlocksLo, false},
		{"descriptor", blockSize + gdFreeBlocksLo, true},
		{"descriptor_other", blockSize + descSize + gdFreeInodesLo, false},
		{"block_bitmap", w.lay.blockBitmap(0)*blockSize + 4000, false},
		{"inode_bitmap", w.lay.inodeBitmap(0)*blockSize + 1000, false},
		{"inode", w.lay.inodeTable(0)*blockSize + int64(inos["pieces"]-1)*inodeSize + inoUIDLo, true},
		{"linear_directory", block("one", 0) + 100, true},
		{"index_root", block("many", 0) + dxRootCount + 5, true},
		{"index_node", block("many", 1) + dxNodeCount + 500, true},
		{"index_leaf", block("many", 2) + 100, true},
		{"extents", int64(le.Uint32(pieces.raw[inoBlock+extentEntry+4:]))*blockSize + 2000, true},
		{"attributes", int64(le.Uint32(pieces.raw[inoAttrLo:]))*blockSize + 2000, true},
		{"journal", w.journal[0].start*blockSize + 3, false},
	} {
		// e2fsck looks at a backup only when it is told to.
		args := []string{"-fn", f.Name()}
		if strings.HasSuffix(row.name, "_backup") {
			args = []string{"-fn", "-b", "32768", f.Name()}
		}
		flip(t, f, row.at)
		if out, err := exec.Command("e2fsck", args...).CombinedOutput(); err == nil {
			t.Errorf("%s: e2fsck does not notice\n%s", row.name, out)
		}
		damaged, err := Open(f)
		if err == nil {
			_, err = walk(damaged)
		}
		if noticed := errors.Is(err, errDamaged); noticed != row.read {
			t.Errorf("%s: reading = %v, noticed %v, want %v", row.name, err, noticed, row.read)
		}
		flip(t, f, row.at)
	}
	fsck(t, f)
}

func flip(t testing.TB, f *os.File, at int64) {
	t.Helper()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x40
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// maxNames is more than any image of these tests has.
const maxNames = 10_000

// walk reads all there is and returns the number of names and the first error.
func walk(fsys *FS) (names int, first error) {
	keep := func(err error) {
		if first == nil {
			first = err
		}
	}
	buf := make([]byte, 1<<16)
	_ = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if names++; names > maxNames {
			return errors.New("more names than the image can hold")
		}
		keep(err)
		if err != nil || d.IsDir() {
			return nil
		}
		if _, err := fsys.Lstat(name); err != nil {
			keep(err)
			return nil
		}
		if d.Type() == fs.ModeSymlink {
			_, err := fsys.ReadLink(name)
			keep(err)
		}
		file, err := fsys.Open(name)
		if err != nil {
			if d.Type() != fs.ModeSymlink {
				keep(err)
			}
			return nil
		}
		defer file.Close()
		for range 16 {
			if _, err = file.Read(buf); err != nil {
				break
			}
		}
		if err != nil && err != io.EOF && d.Type().IsRegular() {
			keep(err)
		}
		return nil
	})
	return names, first
}

// A tree that leads to itself, or that branches into itself, cannot be walked for
// ever.
func TestDirectoryCycle(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		dir   string // its second entry
		leads string // leads here
	}{
		"up":      {"a", "."},
		"root":    {".", "."}, // which is its own parent
		"self":    {"a", "a"},
		"sibling": {"a", "a/b"},
		"cousin":  {"a", "z"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, f := image(t, Options{Size: 16 * mib})
			inos := put(t, w, []want{
				{path: "a", Header: Header{Mode: fs.ModeDir | 0o755}},
				{path: "a/b", Header: Header{Mode: fs.ModeDir | 0o755}},
				{path: "a/c", Header: Header{Mode: fs.ModeDir | 0o755}},
				{path: "z", Header: Header{Mode: fs.ModeDir | 0o755}},
			})
			fsys := finish(t, w, f)
			dir := must[*node](t)(fsys.lookup(row.dir, true))
			block := must[[]span](t)(fsys.spans(dir))[0].start
			at := block*blockSize + dotsSize + int64(direntLen("b"))
			if row.dir == "." {
				at = block*blockSize + dotsSize + int64(direntLen(lostFound))
			}
			if _, err := f.WriteAt(le.AppendUint32(nil, uint32(inos[row.leads])), at); err != nil {
				t.Fatal(err)
			}
			fsys = must[*FS](t)(Open(f))
			fsys.checksummed = false
			if names, err := walk(fsys); !errors.Is(err, errDamaged) || names > 10 {
				t.Errorf("walk = %d names, %v", names, err)
			}
			if err := fsys.WriteTar(io.Discard); !errors.Is(err, errDamaged) {
				t.Errorf("WriteTar = %v", err)
			}
		})
	}
}

// Nor does a directory have more blocks than there are.
func TestDirectoryRepeatsBlocks(t *testing.T) {
	t.Parallel()
	m := &memory{}
	w := must[*Writer](t)(NewWriter(m, Options{Size: 16 * mib}))
	ino := must[Ino](t)(w.Create(Root, "d", &Header{Mode: fs.ModeDir | 0o755}))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	fsys := must[*FS](t)(Open(m))
	fsys.checksummed = false
	n := must[*node](t)(fsys.node(ino))
	putExtentHeader(n.raw[inoBlock:], 2, extentsInode, 0)
	most := uint16(fsys.blocks - 1)
	putLeaf(n.raw[inoBlock:], []extent{{0, 1, most}, {uint32(most), 1, most}})
	copy(m.b[w.lay.inodeTable(0)*blockSize+int64(ino-1)*inodeSize:], n.raw)
	if _, err := fsys.listing(ino); !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), "mapping") {
		t.Errorf("listing = %v", err)
	}
}

// Pointers of the old kind can lead to themselves too.
func TestPointerCycle(t *testing.T) {
	t.Parallel()
	m := &memory{make([]byte, 100*blockSize)}
	for i := range blockSize / 4 {
		le.PutUint32(m.b[5*blockSize+4*i:], 5)
	}
	n := &node{raw: make([]byte, inodeSize)}
	for i := range 15 {
		le.PutUint32(n.raw[inoBlock+4*i:], 5)
	}
	fsys := &FS{r: m, blockSize: blockSize, blocks: 100}
	if spans, err := fsys.spans(n); !errors.Is(err, errDamaged) {
		t.Errorf("%d spans, %v, want an error", len(spans), err)
	}
}

// A file is not larger than 32-bit block numbers reach: its zeros would have no end.
func TestSizeBeyondMapping(t *testing.T) {
	t.Parallel()
	for size, want := range map[int64]error{blockSize << 32: nil, blockSize<<32 + 1: errDamaged, -1: errDamaged} {
		m := &memory{}
		w := must[*Writer](t)(NewWriter(m, Options{Size: 16 * mib}))
		ino := must[Ino](t)(w.Create(Root, "f", &Header{Mode: 0o644}))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		raw := m.b[w.lay.inodeTable(0)*blockSize+int64(ino-1)*inodeSize:]
		le.PutUint32(raw[inoSizeLo:], uint32(size))
		le.PutUint32(raw[inoSizeHi:], uint32(size>>32))
		fsys := must[*FS](t)(Open(m))
		fsys.checksummed = false
		if _, err := fsys.Stat("f"); !errors.Is(err, want) {
			t.Errorf("size %d: stat = %v, want %v", size, err, want)
		}
	}
}
