package ext4

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
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
	} {
		// e2fsck looks at a backup only when it is told to.
		args := []string{"-fn", f.Name()}
		if row.name == "superblock_backup" {
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

// walk reads all there is and returns the number of names and the first error.
func walk(fsys *FS) (names int, first error) {
	keep := func(err error) {
		if first == nil {
			first = err
		}
	}
	buf := make([]byte, 1<<16)
	_ = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if names++; names > 100_000 {
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

// patched is an image with some bytes replaced.
type patched struct {
	io.ReaderAt
	bytes map[int64]byte
}

func (p *patched) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.ReaderAt.ReadAt(b, off)
	for at, v := range p.bytes {
		if at >= off && at < off+int64(n) {
			b[at-off] = v
		}
	}
	return n, err
}

// metadata is an image in memory, and the offsets of the bytes that matter.
func metadata(t testing.TB) (m *memory, offsets []int64) {
	m = &memory{}
	w := must[*Writer](t)(NewWriter(m, Options{Size: 16 * mib, NoJournal: true}))
	files := append(everything(), want{path: "many", Header: Header{Mode: fs.ModeDir | 0o755}},
		want{path: "pieces", Header: Header{Mode: 0o644}, data: strings.Repeat(noise(4096)+strings.Repeat("\x00", 4096), 400)})
	for i := range 500 {
		files = append(files, want{path: fmt.Sprintf("many/%020d", i), Header: Header{Mode: 0o644}})
	}
	put(t, w, files)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	add := func(from, n int64) {
		for i := range n {
			offsets = append(offsets, from+i)
		}
	}
	add(superOffset, superSize)
	add(blockSize, descSize)
	add(w.lay.inodeTable(0)*blockSize, w.inodesUsed()*inodeSize)
	add(w.next*blockSize, (w.blocks.next-w.next)*blockSize)
	return m, offsets
}

// FuzzDamaged changes bytes of metadata and reads all that is left.
func FuzzDamaged(f *testing.F) {
	m, offsets := metadata(f)
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		b := make([]byte, 4*(1+random.IntN(40)))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, patches []byte) {
		p := &patched{m, map[int64]byte{}}
		for ; len(patches) >= 4; patches = patches[4:] {
			at := int(patches[0]) | int(patches[1])<<8 | int(patches[2])<<16
			p.bytes[offsets[at%len(offsets)]] = patches[3]
		}
		// Without checksums, or nearly all damage would be noticed at once.
		for i, v := range m.b[superOffset+sbROCompat : superOffset+sbROCompat+4] {
			p.bytes[int64(superOffset+sbROCompat+i)] = v &^ byte(uint32(roCompatMetadataCsum)>>(8*i))
		}
		fsys, err := Open(p)
		if err != nil {
			return
		}
		if names, _ := walk(fsys); names > 100_000 {
			t.Errorf("more than %d names", names)
		}
	})
}

// A tree that leads to itself cannot be walked for ever.
func TestDirectoryCycle(t *testing.T) {
	t.Parallel()
	w, f := image(t, Options{Size: 16 * mib})
	put(t, w, []want{
		{path: "a", Header: Header{Mode: fs.ModeDir | 0o755}},
		{path: "a/b", Header: Header{Mode: fs.ModeDir | 0o755}},
	})
	fsys := finish(t, w, f)
	b := must[*node](t)(fsys.lookup("a", true))
	at := must[[]span](t)(fsys.spans(b))[0].start*blockSize + dotsSize
	if _, err := f.WriteAt([]byte{byte(Root)}, at); err != nil { // a/b is the root
		t.Fatal(err)
	}
	fsys = must[*FS](t)(Open(f))
	fsys.checksummed = false
	if names, err := walk(fsys); !errors.Is(err, errDamaged) || names > 10 {
		t.Errorf("walk = %d names, %v", names, err)
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
