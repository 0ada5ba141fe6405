package ext4

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// long skips tests that take minutes.
func long(t testing.TB) {
	t.Helper()
	if os.Getenv("BANGER_LONG") == "" {
		t.Skip("BANGER_LONG is not set")
	}
}

// A tree of a million files has all of them, takes no more memory an entry than a
// small one, and e2fsck finds nothing.
func TestMillionFiles(t *testing.T) {
	long(t)
	const files = 1_000_000 // in 2,000 directories
	f := must[*os.File](t)(os.Create(filepath.Join(t.TempDir(), "image")))
	defer f.Close()
	before := heap()
	w := writeMany(t, f, files)
	checkHeap(t, w, before)
	fsys := finish(t, w, f)
	seen, dirs := 0, 0
	err := fs.WalkDir(fsys, ".", func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs++
		} else {
			seen++
		}
		return err
	})
	if err != nil || seen != files || dirs != 2000+2 {
		t.Errorf("%d files in %d directories, %v, want %d in %d", seen, dirs, err, files, 2000+2)
	}
	for _, i := range []int{0, 499, 500, 777_777, files - 1} {
		name := fmt.Sprintf("dir-%d/file-%d", i/500, i)
		if got, err := fs.ReadFile(fsys, name); string(got) != "small" {
			t.Errorf("%s = %q, %v, want %q", name, got, err, "small")
		}
	}
}

// One directory of 200,000 long names has two levels of index; one of 70,000
// subdirectories does not count them.
func TestLargeDirectories(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		mode   fs.FileMode
		n      int
		length int
		levels byte
		links  uint32
	}{
		{"files", 0o644, 200_000, 50, 1, 2},
		{"files_long", 0o644, 200_000, 200, 1, 2},
		{"directories", fs.ModeDir | 0o755, 70_000, 10, 0, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w, f := image(t, Options{})
			dir := must[Ino](t)(w.Create(Root, "dir", &Header{Mode: fs.ModeDir | 0o755}))
			for i := range row.n {
				must[Ino](t)(w.Create(dir, fmt.Sprintf("%0*d", row.length, i), &Header{Mode: row.mode}))
			}
			fsys := finish(t, w, f)
			if got := len(must[[]fs.DirEntry](t)(fsys.ReadDir("dir"))); got != row.n {
				t.Errorf("%d entries, want %d", got, row.n)
			}
			n := must[*node](t)(fsys.node(dir))
			if got := must[*Stat](t)(fsys.stat(n)).Links; got != row.links {
				t.Errorf("links = %d, want %d", got, row.links)
			}
			root := must[[]byte](t)(fsys.readBlock(must[[]span](t)(fsys.spans(n))[0].start))
			if got := root[30]; got != row.levels { // dx_root_info.indirect_levels
				t.Errorf("%d levels of index below the root, want %d", got, row.levels)
			}
		})
	}
}

// The name that is one too many is in the error, with the path to it.
func TestOneLinkTooMany(t *testing.T) {
	t.Parallel()
	w := must[*Writer](t)(NewWriter(discard{}, Options{}))
	dir := must[Ino](t)(w.Create(Root, "dir", &Header{Mode: fs.ModeDir | 0o755}))
	ino := must[Ino](t)(w.Create(dir, "1", &Header{Mode: 0o644}))
	for i := 2; i <= MaxLinks; i++ {
		if err := w.Link(dir, fmt.Sprint(i), ino); err != nil {
			t.Fatal(err)
		}
	}
	err := w.Link(dir, "65001", ino)
	if err == nil || !strings.Contains(err.Error(), "/dir/65001: ") {
		t.Errorf("link 65001 = %v, want an error that names /dir/65001", err)
	}
}

// Attributes are in the inode as long as they fit, then in a block, and then
// they are an error that names the file.
func TestAttributeSizes(t *testing.T) {
	t.Parallel()
	const entry = attrHead + 4 // with a name of one byte
	const inInode, inBlock = attrInode - attrEnd - entry, attrInBlock - attrEnd - entry
	for _, row := range []struct {
		name   string
		size   int
		blocks int64 // 512 bytes
		err    string
	}{
		{name: "one_byte", size: 1},
		{name: "inode_full", size: inInode},
		{name: "inode_over", size: inInode + 1, blocks: 8},
		{name: "92_bytes", size: 92, blocks: 8},
		{name: "block_full", size: inBlock, blocks: 8},
		{name: "block_over", size: inBlock + 1, err: "/dir/x: attributes are 4 bytes too large"},
		{name: "4_KiB", size: 4 * kib, err: "/dir/x: attributes are 56 bytes too large"},
		{name: "64_KiB", size: 64 * kib, err: "/dir/x: attributes are "},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w, f := image(t, Options{Size: 16 * mib})
			dir := must[Ino](t)(w.Create(Root, "dir", &Header{Mode: fs.ModeDir | 0o755}))
			value := noise(row.size)
			_, err := w.Create(dir, "x", &Header{Mode: 0o644, Xattrs: map[string]string{"user.a": value}})
			if row.err != "" {
				if err == nil || !strings.Contains(err.Error(), row.err) {
					t.Errorf("create = %v, want %q", err, row.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			stat := must[fs.FileInfo](t)(finish(t, w, f).Lstat("dir/x")).Sys().(*Stat)
			if got := stat.Xattrs["user.a"]; got != value {
				t.Errorf("value has %d bytes, want these %d", len(got), len(value))
			}
			if stat.Blocks != row.blocks {
				t.Errorf("blocks = %d, want %d", stat.Blocks, row.blocks)
			}
		})
	}
}
