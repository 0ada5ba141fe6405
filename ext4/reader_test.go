package ext4

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/iotest"
)

// Images of mke2fs, with the features of other times and other disks.
func TestReadMke2fs(t *testing.T) {
	t.Parallel()
	need(t, "mke2fs")
	for name, options := range map[string][]string{
		"ext4":           {"-t", "ext4"},
		"ext3":           {"-t", "ext3"},
		"ext2":           {"-t", "ext2"},
		"blocks_1k":      {"-t", "ext4", "-b", "1024"},
		"blocks_2k":      {"-t", "ext4", "-b", "2048"},
		"inline":         {"-t", "ext4", "-O", "inline_data"},
		"inline_512":     {"-t", "ext4", "-O", "inline_data", "-I", "512"},
		"inline_plain":   {"-t", "ext4", "-O", "inline_data,^metadata_csum", "-b", "1024"},
		"ext2_blocks_1k": {"-t", "ext2", "-b", "1024"}, // three levels of pointers
		"blocks_64k":     {"-t", "ext4", "-b", "65536", "-F", "-F"},
		"inodes_128":     {"-t", "ext4", "-I", "128"},
		"inodes_1024":    {"-t", "ext4", "-I", "1024"},
		"plain":          {"-t", "ext4", "-O", "^metadata_csum,^64bit,^flex_bg"},
		"untyped":        {"-t", "ext4", "-O", "^filetype"},
		"meta_bg":        {"-t", "ext4", "-O", "meta_bg,^resize_inode", "-g", "256", "-b", "1024"},
		"sparse_super2":  {"-t", "ext4", "-O", "sparse_super2"},
		"bigalloc":       {"-t", "ext4", "-O", "bigalloc"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source := t.TempDir()
			files := sourceTree(t, source)
			disk := filepath.Join(t.TempDir(), "image")
			tool(t, append(append([]string{"mke2fs", "-q", "-d", source}, options...), disk, "160M")...)
			f := must[*os.File](t)(os.Open(disk))
			defer f.Close()
			fsys := must[*FS](t)(Open(f))
			for name, data := range files {
				if got, err := fs.ReadFile(fsys, name); err != nil || string(got) != data {
					t.Errorf("%s: %d bytes, %v, want these %d", name, len(got), err, len(data))
				}
			}
			compareHost(t, fsys, source)
			compareTar(t, fsys, files)
		})
	}
}

// sourceTree makes a directory on the host and returns the regular files in it.
func sourceTree(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{
		"a": "a", "inline/60": noise(60), "inline/61": noise(61), "inline/130": noise(130), "inline/" + noiseName(40): "", "sub/b": noise(5000), "sub/deeper/c": "", "sparse": strings.Repeat("\x00", 300*kib) + noise(70*kib) + strings.Repeat("\x00", mib) + "x",
		"large": noise(5 * mib), "sub/" + noiseName(255): "long",
		"far": strings.Repeat("\x00", 70*mib) + "far",
	}
	for i := range 400 {
		files["many/"+noiseName(20)+string(rune('a'+i%26))+string(rune('a'+i/26))] = "m"
	}
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(data), 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(
		os.Symlink("sub/b", filepath.Join(dir, "fast")),
		os.Symlink(strings.Repeat("./", 200)+"a", filepath.Join(dir, "slow")),
		os.Chtimes(filepath.Join(dir, "a"), day, day),
		os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "sub/linked")),
		os.Chmod(filepath.Join(dir, "sub/b"), 0o755|fs.ModeSetuid),
	)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// compareHost compares names, modes, sizes, targets, links and times in seconds.
func compareHost(t testing.TB, fsys *FS, dir string) {
	t.Helper()
	seen := 0
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." || name == lostFound {
			return err
		}
		seen++
		info := must[fs.FileInfo](t)(d.Info())
		host, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			return nil
		}
		if d.Type() != host.Mode().Type() || info.Mode() != host.Mode() || info.ModTime().Unix() != host.ModTime().Unix() ||
			!info.IsDir() && info.Size() != host.Size() {
			t.Errorf("%s = %v, want %v", name, fs.FormatFileInfo(info), fs.FormatFileInfo(host))
		}
		if d.Type() == fs.ModeSymlink {
			got, want := must[string](t)(fsys.ReadLink(name)), must[string](t)(os.Readlink(filepath.Join(dir, name)))
			if got != want {
				t.Errorf("%s leads to %s, want %s", name, got, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	want := -1
	_ = filepath.WalkDir(dir, func(string, fs.DirEntry, error) error { want++; return nil })
	if seen != want {
		t.Errorf("%d files, want %d", seen, want)
	}
}

// compareTar compares the regular files in the archive of fsys.
func compareTar(t testing.TB, fsys *FS, files map[string]string) {
	t.Helper()
	r, w := io.Pipe()
	go func() { w.CloseWithError(fsys.WriteTar(w)) }()
	linked := map[string]string{}
	seen := 0
	for _, f := range fromTar(t, r) {
		switch want, ok := files[f.path]; {
		case f.link != "":
			linked[f.path] = f.link
		case !f.Mode.IsRegular():
		case !ok || f.data != want:
			t.Errorf("archive has %.99s with %d bytes, want %d", f.path, len(f.data), len(want))
		default:
			seen++
		}
	}
	if seen != len(files) {
		t.Errorf("archive has %d files, want %d", seen, len(files))
	}
	if got, want := linked, map[string]string{"sub/linked": "a"}; !maps.Equal(got, want) {
		t.Errorf("links in the archive = %v, want %v", got, want)
	}
}

// sample is a small image with what path lookups meet.
func sample(t testing.TB) *FS {
	t.Helper()
	w, f := image(t, Options{Size: 16 * mib})
	link := func(name, target string) want {
		return want{path: name, Header: Header{Mode: fs.ModeSymlink | 0o777, Target: target}}
	}
	put(t, w, []want{
		{path: "dir", Header: Header{Mode: fs.ModeDir | 0o755}},
		{path: "dir/sub", Header: Header{Mode: fs.ModeDir | 0o755}},
		{path: "dir/sub/file", Header: Header{Mode: 0o644}, data: "content"},
		{path: "fifo", Header: Header{Mode: fs.ModeNamedPipe | 0o644}},
		link("relative", "dir/sub"), link("dir/absolute", "/dir/sub/file"), link("dir/sub/up", "../../relative/file"),
		link("escape", "../../../dir"), link("loop", "loop"), link("dangling", "dir/none"), link("slashes", "//dir//./sub/"),
		link("chain", "relative/up"), link("through_file", "dir/sub/file/x"),
	})
	return finish(t, w, f)
}

func TestPaths(t *testing.T) {
	t.Parallel()
	fsys := sample(t)
	for name, want := range map[string]error{
		"dir/sub/file": nil, "relative/file": nil, "dir/absolute": nil, "dir/sub/up": nil, "escape/sub/file": nil, "slashes/file": nil, "chain": nil,
		"none": fs.ErrNotExist, "dangling": fs.ErrNotExist, "loop": errLoop, "loop/x": errLoop,
		"dir/sub/file/x": errNotDir, "through_file": errNotDir, "fifo/x": errNotDir,
		"/dir": fs.ErrInvalid, "dir/": fs.ErrInvalid, "dir/../dir": fs.ErrInvalid, "": fs.ErrInvalid,
	} {
		got, err := fs.ReadFile(fsys, name)
		if !errors.Is(err, want) || want == nil && string(got) != "content" {
			t.Errorf("%q: %q, %v, want %v", name, got, err, want)
		}
		var pathErr *fs.PathError
		if want != nil && (!errors.As(err, &pathErr) || pathErr.Path != name) {
			t.Errorf("%q: error %v does not name it", name, err)
		}
	}
	if _, err := fsys.Lstat("loop"); err != nil {
		t.Errorf("lstat of a symlink: %v", err)
	}
	if _, err := fsys.ReadDir("fifo"); !errors.Is(err, errNotDir) {
		t.Errorf("readdir of a fifo = %v", err)
	}
	if _, err := fsys.ReadLink("dir"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("readlink of a directory = %v", err)
	}
}

// A path leads through 40 symlinks, as in Linux.
func TestManySymlinks(t *testing.T) {
	t.Parallel()
	w, f := image(t, Options{Size: 16 * mib})
	files := []want{{path: "0", Header: Header{Mode: 0o644}}}
	for i := range 41 {
		files = append(files, want{path: fmt.Sprint(i + 1), Header: Header{Mode: fs.ModeSymlink | 0o777, Target: fmt.Sprint(i)}})
	}
	put(t, w, files)
	fsys := finish(t, w, f)
	if _, err := fsys.Stat("40"); err != nil {
		t.Errorf("40 symlinks: %v", err)
	}
	if _, err := fsys.Stat("41"); !errors.Is(err, errLoop) {
		t.Errorf("41 symlinks: %v, want %v", err, errLoop)
	}
}

// It is what the standard library expects of a file system.
func TestFS(t *testing.T) {
	t.Parallel()
	w, f := image(t, Options{Size: 16 * mib})
	put(t, w, []want{
		{path: "dir", Header: Header{Mode: fs.ModeDir | 0o755}},
		{path: "dir/sub", Header: Header{Mode: fs.ModeDir | 0o755}},
		{path: "dir/sub/file", Header: Header{Mode: 0o644}, data: noise(10_000)},
		{path: "dir/link", Header: Header{Mode: fs.ModeSymlink | 0o777, Target: "sub/file"}},
		{path: "hole", Header: Header{Mode: 0o644}, data: noise(4096) + strings.Repeat("\x00", 9000) + noise(5)},
	})
	fsys := finish(t, w, f)
	if err := fstest.TestFS(fsys, "dir/sub/file", "dir/link", "hole", lostFound); err != nil {
		t.Error(err)
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	data := noise(4096) + strings.Repeat("\x00", 3*4096) + noise(5000)
	w, f := image(t, Options{Size: 16 * mib})
	put(t, w, []want{{path: "file", Header: Header{Mode: 0o644}, data: data}})
	fsys := finish(t, w, f)
	file := must[fs.File](t)(fsys.Open("file"))
	if err := iotest.TestReader(file, []byte(data)); err != nil { // ReaderAt and Seeker too
		t.Error(err)
	}
	if err := file.Close(); err != nil {
		t.Error(err)
	}
	if _, err := file.Read(make([]byte, 1)); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("read after close = %v", err)
	}
	if _, err := file.(io.Seeker).Seek(0, io.SeekStart); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("seek after close = %v", err)
	}
}

func TestConcurrentReaders(t *testing.T) {
	t.Parallel()
	w, f := image(t, Options{})
	files := everything()
	put(t, w, files)
	fsys := finish(t, w, f)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { compare(t, fsys, files) })
	}
	wg.Wait()
}

func TestOpenOther(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(m *memory){
		"empty":       func(m *memory) { m.b = nil },
		"short":       func(m *memory) { m.b = m.b[:1500] },
		"zeros":       func(m *memory) { clear(m.b) },
		"journal":     func(m *memory) { m.b[superOffset+sbIncompat] |= incompatRecover },
		"unsupported": func(m *memory) { m.b[superOffset+sbIncompat+2] |= 0x01 }, // encryption
	} {
		m := &memory{}
		w := must[*Writer](t)(NewWriter(m, Options{Size: 16 * mib}))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		change(m)
		if _, err := Open(m); err == nil || name == "unsupported" != errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: open = %v", name, err)
		}
	}
}
