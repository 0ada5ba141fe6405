package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"banger/ext4"
)

// node is all that is known of one path. Two nodes are the same file in every
// respect when they are equal.
type node struct {
	mode     fs.FileMode
	uid, gid uint32
	mtime    int64 // nanoseconds since 1970, as time.Time.UnixNano; years 1678 to 2262
	rdev     string
	size     int64  // of files and symlinks
	links    uint32 // of all but directories, whose count is up to the file system
	same     string // the first path of this inode, in order
	target   string
	xattrs   string // sorted, quoted
	sha256   string
}

// diffTrees reports how two trees differ.
func diffTrees(t *testing.T, got, want map[string]node) {
	t.Helper()
	const most = 20
	differences := 0
	paths := maps.Clone(want)
	maps.Copy(paths, got)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		g, inGot := got[path]
		w, inWant := want[path]
		if g == w && inGot == inWant {
			continue
		}
		if differences++; differences > most {
			continue
		}
		switch {
		case !inGot:
			t.Errorf("%q is missing, want %+v", path, w)
		case !inWant:
			t.Errorf("%q is too much: %+v", path, g)
		default:
			t.Errorf("%q differs:\n got %+v\nwant %+v", path, g, w)
		}
	}
	if differences > most {
		t.Errorf("and %d more paths differ", differences-most)
	}
	t.Logf("compared %d paths", len(paths))
}

// inodes finds the names that share an inode, in the order of a walk.
type inodes map[uint64]string

func (i inodes) first(ino uint64, path string) string {
	if _, ok := i[ino]; !ok {
		i[ino] = path
	}
	return i[ino]
}

func quoteXattrs(xattrs map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(xattrs)) {
		fmt.Fprintf(&b, "%s=%q ", name, xattrs[name])
	}
	return b.String()
}

// walk calls visit for every path below the root of fsys but the root itself.
func walk(t *testing.T, fsys fs.FS, visit func(path string, d fs.DirEntry) error) {
	t.Helper()
	err := fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		return visit(path, d)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func sum(fsys fs.FS, path string) (string, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// hostTree reads a directory of the host.
func hostTree(t *testing.T, root string) map[string]node {
	t.Helper()
	tree, seen, fsys := map[string]node{}, inodes{}, os.DirFS(root)
	walk(t, fsys, func(path string, d fs.DirEntry) error {
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		n := node{mode: info.Mode(), uid: st.Uid, gid: st.Gid, mtime: info.ModTime().UnixNano(), same: seen.first(st.Ino, path)}
		switch {
		case info.Mode()&fs.ModeDevice != 0:
			n.rdev = fmt.Sprint(unix.Major(st.Rdev), ":", unix.Minor(st.Rdev))
		case info.Mode()&fs.ModeSymlink != 0:
			n.size = st.Size
			n.target, err = os.Readlink(filepath.Join(root, path))
		case info.Mode().IsRegular():
			n.size = st.Size
			n.sha256, err = sum(fsys, path)
		}
		if err != nil {
			return err
		}
		if !info.IsDir() {
			n.links = uint32(st.Nlink)
		}
		xattrs, err := hostXattrs(filepath.Join(root, path))
		n.xattrs = quoteXattrs(xattrs)
		tree[path] = n
		return err
	})
	return tree
}

func hostXattrs(path string) (map[string]string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		return nil, fmt.Errorf("list xattrs of %s: %w", path, err)
	}
	xattrs := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, fmt.Errorf("get xattr %s of %s: %w", name, path, err)
		}
		xattrs[name] = string(value[:n])
	}
	return xattrs, nil
}

// diskTree reads an ext4 file, all but the root's lost+found.
func diskTree(t *testing.T, disk string) map[string]node {
	t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fsys, err := ext4.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	tree, seen := map[string]node{}, inodes{}
	walk(t, fsys, func(path string, d fs.DirEntry) error {
		if path == "lost+found" {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*ext4.Stat)
		n := node{
			mode: st.Mode, uid: st.UID, gid: st.GID, mtime: st.ModTime.UnixNano(), same: seen.first(uint64(st.Ino), path),
			xattrs: quoteXattrs(st.Xattrs), target: st.Target,
		}
		switch {
		case st.Mode&fs.ModeDevice != 0:
			n.rdev = fmt.Sprint(st.Major, ":", st.Minor)
		case st.Mode&fs.ModeSymlink != 0:
			n.size = st.Size
		case st.Mode.IsRegular():
			n.size = st.Size
			n.sha256, err = sum(fsys, path)
		}
		if !st.Mode.IsDir() {
			n.links = st.Links
		}
		tree[path] = n
		return err
	})
	return tree
}
