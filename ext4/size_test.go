package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

// The file has exactly the size asked for, whatever it is; the file system is
// shorter where the last group would be too small to be of use.
func TestExactSize(t *testing.T) {
	t.Parallel()
	minGroup := int64(2+tableBlocks+50) * blockSize
	files := everything()
	for name, row := range map[string]struct {
		size   int64
		blocks int64 // 0: size / blockSize
	}{
		"24M":              {size: 24 * mib},
		"odd":              {size: 24*mib + 1},
		"127M":             {size: 127 * mib},
		"128M":             {size: 128 * mib},
		"128M+4K":          {size: 128*mib + 4*kib, blocks: 128 * mib / blockSize},
		"backup_too_small": {size: 128*mib + minGroup + 4*kib, blocks: 128 * mib / blockSize},
		"backup_smallest":  {size: 128*mib + minGroup + 8*kib},
		"group_too_small":  {size: 256*mib + minGroup - 4*kib, blocks: 256 * mib / blockSize},
		"group_smallest":   {size: 256*mib + minGroup},
		"flex_too_small":   {size: 2*gib + minGroup - 1, blocks: 2 * gib / blockSize},
		"flex_smallest":    {size: 2*gib + minGroup},
		"8G+one_group":     {size: 8*gib + 128*mib}, // two blocks of descriptors
		"300G":             {size: 300 * gib},       // more descriptors than there is room for by default
		"odd_1T":           {size: 1024*gib + 12345*kib},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, f := image(t, Options{Size: row.size})
			put(t, w, files)
			fsys := finish(t, w, f)
			if got := fileSize(t, f); got != row.size {
				t.Errorf("file has %d bytes, want %d", got, row.size)
			}
			if row.blocks == 0 {
				row.blocks = row.size / blockSize
			}
			if fsys.blocks != row.blocks {
				t.Errorf("file system has %d blocks, want %d", fsys.blocks, row.blocks)
			}
			compare(t, fsys, files)
		})
	}
}

func fileSize(t testing.TB, f *os.File) int64 {
	t.Helper()
	return must[os.FileInfo](t)(f.Stat()).Size()
}

// Without a size it is a quarter more than the content, with inodes to spare.
func TestChosenSize(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		o       Options
		content int64 // bytes
		files   int
		want    int64
	}{
		"empty":        {want: gib},
		"min_small":    {o: Options{MinSize: 1}, want: 384 * mib}, // 16,384 free inodes
		"min_odd":      {o: Options{MinSize: gib + 1}, want: gib + 128*mib},
		"content":      {o: Options{MinSize: 1}, content: 500 * mib, want: 640 * mib},
		"full_of_it":   {o: Options{MinSize: 1, NoJournal: true}, content: 409 * mib, want: 512 * mib},
		"tiny_files":   {o: Options{MinSize: 1}, files: 100_000, want: 16 * 128 * mib},
		"just_inodes":  {o: Options{MinSize: 1}, files: 8*8192 - 16384 - 11, want: gib},
		"inode_beyond": {o: Options{MinSize: 1}, files: 8*8192 - 16384 - 10, want: gib + 128*mib},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, f := image(t, row.o)
			if row.content > 0 {
				c := must[Content](t)(w.WriteContent(&ones{}, row.content))
				must[Ino](t)(w.Create(Root, "content", &Header{Mode: 0o644, Content: c}))
			}
			for i := range row.files {
				must[Ino](t)(w.Create(Root, fmt.Sprint(i), &Header{Mode: 0o644}))
			}
			if got := w.Usage().Size; got != 0 {
				t.Errorf("size before Close = %d, want 0", got)
			}
			finish(t, w, f)
			if got := fileSize(t, f); got != row.want {
				t.Errorf("size = %d MiB, want %d MiB", got/mib, row.want/mib)
			}
			if got := w.Usage(); got.Size != row.want || got.Inodes != int64(11+row.files)+min(row.content, 1) {
				t.Errorf("usage = %+v", got)
			}
		})
	}
}

// ones is a reader without end or zeros.
type ones struct{}

func (ones) Read(p []byte) (int, error) {
	for i := 0; i < len(p); i += 512 {
		p[i] = 1
	}
	return len(p), nil
}

func TestUsage(t *testing.T) {
	t.Parallel()
	w, f := image(t, Options{Size: 64 * mib})
	// root 1, lost+found 4, x 2, slow symlink 1, attributes 1 shared
	attrs := map[string]string{"user.x": noise(1000)}
	put(t, w, []want{
		{path: "x", Header: Header{Mode: 0o644, Xattrs: attrs}, data: noise(5000)},
		{path: "y", Header: Header{Mode: fs.ModeSymlink, Target: noise(60), Xattrs: attrs}},
	})
	must[Content](t)(w.WriteContent(strings.NewReader("nobody's"), 8))
	want := Usage{Blocks: 9, Inodes: 13, Size: 64 * mib}
	if got := w.Usage(); got != want {
		t.Errorf("usage = %+v, want %+v", got, want)
	}
	finish(t, w, f)
	if got := w.Usage(); got != want {
		t.Errorf("usage after Close = %+v, want %+v", got, want)
	}
}

// Too small a size is told with a size that is enough, and that is.
func TestTooSmall(t *testing.T) {
	t.Parallel()
	fill := func(w *Writer, content int64, files int) error {
		for i := range files {
			if _, err := w.Create(Root, fmt.Sprint(i), &Header{Mode: 0o644}); err != nil {
				return err
			}
		}
		c, err := w.WriteContent(ones{}, content)
		if err != nil {
			return err
		}
		if _, err := w.Create(Root, "x", &Header{Mode: 0o644, Content: c}); err != nil {
			return err
		}
		return w.Close()
	}
	for name, row := range map[string]struct {
		size    int64
		content int64
		files   int
	}{
		"blocks":    {size: 64 * mib, content: 100 * mib},
		"by_little": {size: 64 * mib, content: 58 * mib},
		"inodes":    {size: 64 * mib, files: inodesPerGroup},
		"journal":   {size: 64 * mib, content: 120 * mib}, // beyond 128 MiB the journal is larger
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, f := image(t, Options{Size: row.size})
			err := fill(w, row.content, row.files)
			var small *SizeError
			if !errors.As(err, &small) {
				t.Fatalf("error = %v, want a SizeError", err)
			}
			if _, err := Open(f); err == nil {
				t.Error("the image can be opened")
			}
			if small.Size != row.size || small.Inodes != int64(12+row.files) || small.Blocks < row.content/blockSize {
				t.Errorf("error = %+v", small)
			}
			w, f = image(t, Options{Size: small.Need})
			if err := fill(w, row.content, row.files); err != nil {
				t.Errorf("with the size needed: %v", err)
			}
			fsck(t, f)
			w, _ = image(t, Options{Size: small.Need - mib})
			if err := fill(w, row.content, row.files); !errors.As(err, &small) {
				t.Errorf("with a MiB less: %v, want a SizeError", err)
			}
		})
	}

	var small *SizeError
	if _, err := NewWriter(&memory{}, Options{Size: 4 * mib}); !errors.As(err, &small) {
		t.Fatalf("NewWriter = %v, want a SizeError", err)
	}
	if _, err := NewWriter(&memory{}, Options{Size: small.Need}); err != nil {
		t.Errorf("with the size needed: %v", err)
	}
}

// Content that no name refers to leaves no trace: not in the bitmaps, not in
// the bytes, and not in the size, even if the rest had to be written behind it.
func TestDroppedContent(t *testing.T) {
	t.Parallel()
	secret := strings.Repeat("SECRET", 10_000)
	for name, row := range map[string]struct {
		o       Options
		dropped int64
	}{
		"chosen":        {Options{MinSize: 1}, 50 * mib},
		"exact":         {Options{Size: 128 * mib}, 50 * mib},
		"behind_end":    {Options{Size: 64 * mib}, 100 * mib},
		"across_end":    {Options{Size: 64 * mib}, 45 * mib},
		"chosen_behind": {Options{MinSize: 1}, 400 * mib},
		"tail_of_file":  {Options{Size: 128*mib + 400*kib}, 110 * mib}, // not part of the file system
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, f := image(t, row.o)
			must[Content](t)(w.WriteContent(strings.NewReader(secret), int64(len(secret))))
			must[Content](t)(w.WriteContent(ones{}, row.dropped))
			files := []want{{path: "kept", Header: Header{Mode: 0o644}, data: noise(20*mib) + strings.Repeat("\x00", mib) + "end"}}
			put(t, w, files)
			must[Content](t)(w.WriteContent(strings.NewReader(secret), int64(len(secret))))
			fsys := finish(t, w, f)
			compare(t, fsys, files)
			if row.o.Size > 0 && fileSize(t, f) != row.o.Size {
				t.Errorf("size = %d, want %d", fileSize(t, f), row.o.Size)
			}
			image := must[[]byte](t)(os.ReadFile(f.Name()))
			if bytes.Contains(image, []byte("SECRET")) {
				t.Error("dropped content is still in the image")
			}
			if got := diskUsage(t, f); got > 24*mib {
				t.Errorf("image takes %d bytes on the disk, want no more than its content", got)
			}
		})
	}
}

// diskUsage is the space that the host's file system spends on f, in bytes.
func diskUsage(t testing.TB, f *os.File) int64 {
	t.Helper()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	return must[os.FileInfo](t)(f.Stat()).Sys().(*syscall.Stat_t).Blocks * 512
}

func TestDroppedInMemory(t *testing.T) {
	t.Parallel()
	m := &memory{}
	w := must[*Writer](t)(NewWriter(m, Options{Size: 32 * mib}))
	must[Content](t)(w.WriteContent(strings.NewReader("SECRET"), 6))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(m.b, []byte("SECRET")) {
		t.Error("dropped content is still in the image")
	}
}

// An image that is full, and whose free space was in single blocks before the
// last file came.
func TestFullAndFragmented(t *testing.T) {
	t.Parallel()
	w, f := image(t, Options{Size: 32 * mib})
	var files []want
	for i := range 1500 {
		files = append(files, want{path: fmt.Sprint(i), Header: Header{Mode: 0o644}, data: noise(8 * kib)})
		put(t, w, files[i:])
		must[Content](t)(w.WriteContent(ones{}, 4*kib))
	}
	rest := w.lay.blocks - w.lay.static() - w.Usage().Blocks
	tree := treeBlocks(1501) + 1 // and one for the root directory, which comes in pieces too
	files = append(files, want{path: "rest", Header: Header{Mode: 0o644}, data: noise(int(rest-tree) * blockSize)})
	put(t, w, files[1500:])
	fsys := finish(t, w, f)
	compare(t, fsys, files)
	if free := le.Uint32(fsys.super[sbFreeBlocksLo:]); int64(free) > tree {
		t.Errorf("%d blocks are free, want %d at most", free, tree)
	}
	n := must[*node](t)(fsys.node(journalIno))
	if got := len(must[[]span](t)(fsys.spans(n))); got != 1 {
		t.Errorf("journal is in %d pieces, want 1", got)
	}
}

// An empty disk costs next to nothing on the host.
func TestEmptyIsSmall(t *testing.T) {
	t.Parallel()
	w, f := image(t, Options{Size: 16 * gib})
	finish(t, w, f)
	if got := diskUsage(t, f); got > 512*kib {
		t.Errorf("16 GiB image takes %d KiB on the disk", got/kib)
	} else {
		t.Logf("16 GiB image takes %d KiB on the disk", got/kib)
	}
}

// The disk of a VM is larger than the image that it is made of.
func TestGrow(t *testing.T) {
	t.Parallel()
	need(t, "resize2fs")
	w, f := image(t, Options{})
	files := everything()
	put(t, w, files)
	finish(t, w, f)
	for _, size := range []int64{2*gib + 5*mib, 64 * gib, 300 * gib} {
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		tool(t, "resize2fs", "-f", f.Name())
		fsck(t, f)
		fsys := must[*FS](t)(Open(f))
		if got := fsys.blocks * blockSize; got < size*99/100 {
			t.Errorf("grown to %d it has %d bytes", size, got)
		}
		compare(t, fsys, files)
	}
}

// Content beyond what the default leaves room for must be announced.
func TestBeyondDescriptorRoom(t *testing.T) {
	t.Parallel()
	w := must[*Writer](t)(NewWriter(discard{}, Options{}))
	w.extents = appendRuns(nil, 0, 0, []run{{1 << 20, 210 * gib / blockSize}})
	w.contents = append(w.contents, content{size: 210 * gib, n: uint32(len(w.extents)), owner: 12})
	if err := w.Close(); err == nil || !strings.Contains(err.Error(), "must be set in Options") {
		t.Errorf("close = %v", err)
	}
}
