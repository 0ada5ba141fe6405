package ext4

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
)

// A file that is empty now grows by extents later.
func TestEmptyFile(t *testing.T) {
	t.Parallel()
	w, f := image(t, Options{Size: 16 * mib})
	put(t, w, []want{
		{path: "empty", Header: Header{Mode: 0o644}},
		{path: "hole", Header: Header{Mode: 0o644}, data: strings.Repeat("\x00", 3*blockSize)},
	})
	fsys := finish(t, w, f)
	for _, name := range []string{"empty", "hole"} {
		n := must[*node](t)(fsys.lookup(name, false))
		if n.flags&flagExtents == 0 || le.Uint16(n.raw[inoBlock:]) != extentMagic || le.Uint16(n.raw[inoBlock+4:]) != extentsInode {
			t.Errorf("%s: flags = %#x, mapping = %x, want an extent tree", name, n.flags, n.raw[inoBlock:][:extentEntry])
		}
	}
}

// sparse is a file of zeros but for a byte at some offsets.
type sparse struct {
	off   int64
	marks []int64
}

func (s *sparse) Read(p []byte) (int, error) {
	clear(p)
	for len(s.marks) > 0 && s.marks[0] < s.off+int64(len(p)) {
		p[s.marks[0]-s.off] = byte(len(s.marks))
		s.marks = s.marks[1:]
	}
	s.off += int64(len(p))
	return len(p), nil
}

// Files with bytes far behind holes of up to 50 GiB.
func TestHugeSparse(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 55 GiB of zeros")
	}
	t.Parallel()
	for name, marks := range map[string][]int64{
		"5G":  {0, 5*gib - 1},
		"50G": {0, 5*gib + 7, 42*gib + 512*mib + 1, 49 * gib, 50*gib + 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			size := marks[len(marks)-1] + 1
			blocks := int64(8 * len(marks))
			if len(marks) > extentsInode {
				blocks += 8 // for the tree
			}
			w, f := image(t, Options{})
			c := must[Content](t)(w.WriteContent(&sparse{marks: marks}, size))
			must[Ino](t)(w.Create(Root, "huge", &Header{Mode: 0o644, Content: c}))
			fsys := finish(t, w, f)
			file := must[fs.File](t)(fsys.Open("huge"))
			if info := must[fs.FileInfo](t)(file.Stat()); info.Size() != size || info.Sys().(*Stat).Blocks != blocks {
				t.Errorf("size = %d and %d blocks, want %d and %d", info.Size(), info.Sys().(*Stat).Blocks, size, blocks)
			}
			for i, m := range marks {
				p := make([]byte, 3)
				if _, err := file.(io.ReaderAt).ReadAt(p, m); err != nil && err != io.EOF || p[0] != byte(len(marks)-i) || p[1] != 0 {
					t.Errorf("at %d: %v, %v", m, p, err)
				}
			}
		})
	}
}

// Files in many pieces: trees of extents of every depth that is reached in practice.
func TestExtentDepth(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		extents, depth, tree int
	}{
		{4, 0, 0}, {5, 1, 1}, {340, 1, 1}, {341, 1, 2}, {1360, 1, 4}, {1361, 2, 6}, {1500, 2, 6},
	} {
		t.Run(fmt.Sprint(row.extents), func(t *testing.T) {
			t.Parallel()
			w, f := image(t, Options{Size: 64 * mib})
			files := []want{{
				path: "pieces", Header: Header{Mode: 0o644},
				data: strings.Repeat(strings.Repeat("\x00", 4096)+noise(4096), row.extents),
			}}
			put(t, w, files)
			fsys := finish(t, w, f)
			compare(t, fsys, files)
			n := must[*node](t)(fsys.lookup("pieces", true))
			stat := must[*Stat](t)(fsys.stat(n))
			if got := int(le.Uint16(n.raw[inoBlock+6:])); got != row.depth {
				t.Errorf("depth = %d, want %d", got, row.depth)
			}
			if got := int(stat.Blocks)/8 - row.extents; got != row.tree {
				t.Errorf("tree has %d blocks, want %d", got, row.tree)
			}
		})
	}
}

// Beyond 2 TiB of blocks i_blocks has more than 32 bits.
func TestHugeBlocks(t *testing.T) {
	t.Parallel()
	w := must[*Writer](t)(NewWriter(discard{}, Options{Size: 4096 * gib}))
	w.blocks = newBlockMap(&w.lay, 0)
	w.extents = appendRuns(nil, 0, 0, []run{{1 << 20, 3 << 28}})
	w.contents = append(w.contents, content{size: 3 << 40, n: uint32(len(w.extents))})
	var raw [inodeSize]byte
	if err := w.putInode(raw[:], 12, &inode{mode: modeRegular, ref: 1}); err != nil {
		t.Fatal(err)
	}
	got := int64(le.Uint32(raw[inoBlocksLo:])) | int64(le.Uint16(raw[inoBlocksHi:]))<<32
	if want := 8 * (3<<28 + treeBlocks(int64(len(w.extents)))); got != want {
		t.Errorf("blocks = %d, want %d", got, want)
	}
}

// What one file leaves in the buffer does not get into the tail of the next.
func TestTailIsZero(t *testing.T) {
	t.Parallel()
	w, f := image(t, Options{Size: 16 * mib})
	var files []want
	for i := range 600 {
		files = append(files, want{path: fmt.Sprint(i), Header: Header{Mode: 0o644}, data: noise(1 + i%2*5000)})
	}
	put(t, w, files)
	fsys := finish(t, w, f)
	for _, file := range files {
		spans := must[[]span](t)(fsys.spans(must[*node](t)(fsys.lookup(file.path, true))))
		block := must[[]byte](t)(fsys.readBlock(spans[0].start + int64(len(file.data)-1)/blockSize))
		if tail := block[len(file.data)%blockSize:]; !bytes.Equal(tail, zeroBlock[:len(tail)]) {
			t.Fatalf("%s: there is something behind its end", file.path)
		}
	}
}

// A file of 50 GiB without holes: beyond 42.5 GiB its mapping needs a second
// leaf even if every extent is as long as can be. Its bytes are a hole of the
// host's.
func TestHugeDense(t *testing.T) {
	t.Parallel()
	const blocks = 50*gib/blockSize + 1
	w, f := image(t, Options{Size: 64 * gib})
	first := len(w.extents)
	for logical := int64(0); logical < blocks; {
		r := w.freeRun()
		r.n = min(r.n, blocks-logical)
		w.extents = appendRuns(w.extents, first, logical, []run{r})
		w.next = r.start + r.n
		logical += r.n
	}
	w.contents = append(w.contents, content{size: blocks * blockSize, first: uint32(first), n: uint32(len(w.extents) - first)})
	must[Ino](t)(w.Create(Root, "huge", &Header{Mode: 0o644, Content: Content{uint32(len(w.contents) - 1)}}))
	list := w.extents[first:]
	fsys := finish(t, w, f)
	if len(list) <= extentsBlock {
		t.Fatalf("%d extents fit in one leaf", len(list))
	}
	for i, e := range list { // say in every extent which it is
		must[int](t)(f.WriteAt(le.AppendUint32(nil, uint32(i+1)), int64(e.start)*blockSize))
	}
	file := must[fs.File](t)(fsys.Open("huge")).(*openFile)
	for i, e := range list {
		b := make([]byte, 4)
		must[int](t)(file.ReadAt(b, int64(e.logical)*blockSize))
		if got := le.Uint32(b); got != uint32(i+1) {
			t.Errorf("block %d is that of extent %d, want %d", e.logical, got, i+1)
		}
	}
}
