package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// mount lets this machine's kernel mount the image until the returned function
// is called.
func mount(t testing.TB, f *os.File, options string) (device, dir string, unmount func()) {
	t.Helper()
	need(t, "root")
	out, err := exec.Command("losetup", "--find", "--show", f.Name()).CombinedOutput()
	if err != nil {
		need(t, "loop devices") // which they are not
	}
	device = strings.TrimSpace(string(out))
	t.Cleanup(func() { _ = exec.Command("losetup", "--detach", device).Run() })
	dir = t.TempDir()
	tool(t, "mount", "-t", "ext4", "-o", options, device, dir)
	mounted := true
	unmount = func() {
		if mounted {
			mounted = false
			tool(t, "umount", dir)
			tool(t, "losetup", "--detach", device)
		}
	}
	t.Cleanup(unmount)
	return device, dir, unmount
}

// mountFiles are files whose symlinks lead nowhere on the host, with a large
// directory and equal hashes in different leaves.
func mountFiles(t testing.TB) []want {
	files := append(everything(), want{path: "many", Header: Header{Mode: fs.ModeDir | 0o755}},
		want{path: "equal", Header: Header{Mode: fs.ModeDir | 0o755}},
		want{path: "long", Header: Header{Mode: fs.ModeDir | 0o755}})
	for i := range 50_000 {
		files = append(files, want{path: fmt.Sprintf("many/%d", i), Header: Header{Mode: 0o644, UID: uint32(i)}})
	}
	names, _ := acrossLeaves(t)
	for _, name := range names {
		files = append(files, want{path: "equal/" + name, Header: Header{Mode: 0o644}})
	}
	for i := range 7_000 { // two levels of index
		files = append(files, want{path: fmt.Sprintf("long/%0255d", i), Header: Header{Mode: 0o644}})
	}
	return files
}

// The kernel finds every path by its index, and everything it says of it is as
// it was asked for. Then it uses the file system, and e2fsck is content.
func TestKernel(t *testing.T) {
	t.Parallel()
	w, f := image(t, Options{})
	files := mountFiles(t)
	put(t, w, files)
	finish(t, w, f)

	_, dir, unmount := mount(t, f, "ro")
	links := linkCounts(files)
	for _, file := range files {
		if file.link == "" {
			if d := kernelDiffers(t, filepath.Join(dir, file.path), &file, links[file.path]); d != "" {
				t.Errorf("%.99s: %s", file.path, d)
			}
			continue
		}
		a := must[os.FileInfo](t)(os.Lstat(filepath.Join(dir, file.path)))
		b := must[os.FileInfo](t)(os.Lstat(filepath.Join(dir, file.link)))
		if !os.SameFile(a, b) {
			t.Errorf("%s is not %s", file.path, file.link)
		}
	}
	unmount()

	_, dir, unmount = mount(t, f, "rw")
	use(t, dir)
	unmount()
	fsckUsed(t, f)
	fsys := must[*FS](t)(Open(f))
	if _, err := walk(fsys); err != nil {
		t.Errorf("after use: %v", err)
	}
	if got := must[[]byte](t)(fs.ReadFile(fsys, "made/3/file")); string(got) != "kernel 3" {
		t.Errorf("the kernel's file reads %q", got)
	}
}

// kernelDiffers compares what stat(2), getxattr(2) and read(2) say.
func kernelDiffers(t testing.TB, path string, f *want, links uint32) string {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		return err.Error()
	}
	if uint64(st.Nlink) != uint64(links) { //nolint:unconvert // on arm64 it has 32 bits
		return fmt.Sprintf("links = %d, want %d", st.Nlink, links)
	}
	info := must[os.FileInfo](t)(os.Lstat(path))
	got := &Stat{
		Header: Header{
			Mode: info.Mode(), UID: st.Uid, GID: st.Gid, ModTime: time.Unix(st.Mtim.Unix()),
			Major: uint32(st.Rdev >> 8 & 0xfff), Minor: uint32(st.Rdev&0xff | st.Rdev>>12&0xfff00),
			Xattrs: kernelXattrs(t, path),
		},
		Size: st.Size,
	}
	if f.Mode&fs.ModeSymlink != 0 {
		got.Target = must[string](t)(os.Readlink(path))
	}
	if f.Mode.IsRegular() {
		if data := must[[]byte](t)(os.ReadFile(path)); string(data) != f.data {
			return fmt.Sprintf("content is %d bytes, want these %d", len(data), len(f.data))
		}
	}
	return differ(got, f)
}

// kernelXattrs reads attributes of any file, symlinks and devices too, through
// a descriptor that does not open it.
func kernelXattrs(t testing.TB, path string) map[string]string {
	t.Helper()
	const oPath = 0x200000 // O_PATH, which package syscall does not have
	fd := must[int](t)(syscall.Open(path, oPath|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0))
	defer syscall.Close(fd)
	self := fmt.Sprintf("/proc/self/fd/%d", fd)
	names, value := make([]byte, 1<<16), make([]byte, 1<<16)
	n := must[int](t)(syscall.Listxattr(self, names))
	attrs := map[string]string{}
	for name := range bytes.SplitSeq(bytes.TrimSuffix(names[:n], []byte{0}), []byte{0}) {
		if len(name) > 0 {
			n := must[int](t)(syscall.Getxattr(self, string(name), value))
			attrs[string(name)] = string(value[:n])
		}
	}
	return attrs
}

// use does what a guest does: above all to files that the writer made.
func use(t testing.TB, dir string) {
	t.Helper()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	in := func(name string) string { return filepath.Join(dir, name) }

	empty := must[*os.File](t)(os.OpenFile(in("etc/empty"), os.O_RDWR, 0))
	ok(syscall.Fallocate(int(empty.Fd()), 0, 0, 10*mib))
	must[int](t)(empty.WriteAt([]byte("x"), 20*mib))
	ok(empty.Close())
	for _, name := range []string{"size_4097", "hole_mid", "holes", "attrs_full"} {
		file := must[*os.File](t)(os.OpenFile(in(name), os.O_RDWR|os.O_APPEND, 0))
		must[int](t)(file.WriteString(noise(10_000)))
		ok(file.Close())
	}
	ok(os.Truncate(in("holes"), 9000))
	ok(os.Rename(in("many/1"), in("equal/renamed")))
	ok(os.Rename(in("deep/level0"), in("sticky/moved")))
	ok(os.Link(in("size_1"), in("many/linked")))
	ok(os.Symlink(strings.Repeat("y", 100), in("many/symlink")))
	ok(syscall.Setxattr(in("attrs"), "user.new", []byte(noise(1000)), 0))
	ok(syscall.Setxattr(in("etc/passwd"), "user.big", []byte(noise(3000)), 0))
	ok(syscall.Removexattr(in("acl"), "system.posix_acl_access"))
	for i := 100; i < 25_000; i += 7 {
		ok(os.Remove(in(fmt.Sprintf("many/%d", i))))
	}
	for i := range 3000 {
		ok(os.WriteFile(in(fmt.Sprintf("many/new %d", i)), []byte("new"), 0o600))
	}
	for i := range 500 {
		ok(os.WriteFile(in(fmt.Sprintf("long/%s%d", strings.Repeat("z", 240), i)), nil, 0o600))
	}
	for i := range 10 {
		ok(os.MkdirAll(in(fmt.Sprintf("made/%d", i)), 0o755))
		ok(os.WriteFile(in(fmt.Sprintf("made/%d/file", i)), fmt.Appendf(nil, "kernel %d", i), 0o600))
	}
	for i := range 1000 { // the kernel turns a leaf into an index
		ok(os.WriteFile(in(fmt.Sprintf("sticky/%d", i)), nil, 0o600))
	}
	ok(os.RemoveAll(in("etc")))
	ok(os.Remove(in("lost+found/found")))
}

// A clone with an identity of its own is mounted beside its original.
func TestMountClone(t *testing.T) {
	t.Parallel()
	w, f := image(t, Options{Size: 64 * mib, Label: "original"})
	put(t, w, []want{{path: "file", Header: Header{Mode: 0o644, Xattrs: map[string]string{"user.x": noise(500)}}, data: "same"}})
	finish(t, w, f)
	clone := must[*os.File](t)(os.OpenFile(filepath.Join(t.TempDir(), "clone"), os.O_CREATE|os.O_RDWR, 0o600))
	defer clone.Close()
	must[int64](t)(io.Copy(clone, io.NewSectionReader(f, 0, fileSize(t, f))))
	if err := errors.Join(SetUUID(clone, otherUUID), SetLabel(clone, "clone")); err != nil {
		t.Fatal(err)
	}
	_, _, unmount := mount(t, f, "rw")
	_, dir, unmountClone := mount(t, clone, "rw")
	if got := must[[]byte](t)(os.ReadFile(filepath.Join(dir, "file"))); string(got) != "same" {
		t.Errorf("the clone's file reads %q", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "new"), []byte(noise(100_000)), 0o600); err != nil {
		t.Error(err)
	}
	unmount()
	unmountClone()
	fsckUsed(t, clone)
	fsys := must[*FS](t)(Open(clone))
	if fsys.UUID() != otherUUID || fsys.Label() != "clone" {
		t.Errorf("after use the clone is %x %q", fsys.UUID(), fsys.Label())
	}
}

// What a crash leaves in the journal is replayed.
func TestJournalReplay(t *testing.T) {
	t.Parallel()
	need(t, "e2fsck")
	w, f := image(t, Options{Size: 64 * mib})
	finish(t, w, f)
	_, dir, unmount := mount(t, f, "rw")
	for i := range 200 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte(noise(i+1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	syscall.Sync()
	crashed := must[*os.File](t)(os.Create(filepath.Join(t.TempDir(), "crashed")))
	defer crashed.Close()
	if err := os.WriteFile(crashed.Name(), must[[]byte](t)(os.ReadFile(f.Name())), 0o600); err != nil {
		t.Fatal(err)
	}
	unmount()
	if _, err := Open(crashed); err == nil || !strings.Contains(err.Error(), "journal is not replayed") {
		t.Fatalf("open = %v", err)
	}
	_, dir, unmount = mount(t, crashed, "rw")
	for i := range 200 {
		if got := must[[]byte](t)(os.ReadFile(filepath.Join(dir, fmt.Sprint(i)))); string(got) != noise(i+1) {
			t.Errorf("%d has other content after the replay", i)
		}
	}
	unmount()
	fsck(t, crashed)
}

// The features are those of mke2fs, but for what the package says.
func TestFeatures(t *testing.T) {
	t.Parallel()
	need(t, "mke2fs")
	need(t, "dumpe2fs")
	w, f := image(t, Options{Size: 4 * gib})
	finish(t, w, f)
	theirs := filepath.Join(t.TempDir(), "mke2fs")
	tool(t, "mke2fs", "-q", "-t", "ext4", "-O", "metadata_csum_seed,^resize_inode,^orphan_file", theirs, "4G")
	got, want := dump(t, f.Name()), dump(t, theirs)
	for _, field := range []string{
		"Filesystem magic number", "Filesystem revision #", "Filesystem features", "Filesystem flags", "Default mount options",
		"Filesystem state", "Errors behavior", "Filesystem OS type", "Inode count", "Block count", "First block", "Block size",
		"Group descriptor size", "Blocks per group", "Inodes per group", "Inode blocks per group", "Flex block group size",
		"First inode", "Inode size", "Required extra isize", "Desired extra isize", "Journal inode", "Default directory hash",
		"Journal backup", "Checksum type", "Total journal size", "Total journal blocks", "Journal features", "Journal start",
		"Overhead clusters", "Mount count", "Maximum mount count", "Check interval",
	} {
		if field == "Filesystem features" {
			set := func(s string) map[string]bool {
				m := map[string]bool{}
				for f := range strings.FieldsSeq(s) {
					m[f] = true
				}
				return m
			}
			if !maps.Equal(set(got[field]), set(want[field])) {
				t.Errorf("features = %s, want %s", got[field], want[field])
			}
		} else if got[field] != want[field] || want[field] == "" && field != "Journal features" {
			t.Errorf("%s = %q, want %q", field, got[field], want[field])
		}
	}
}

// dump returns what dumpe2fs -h says.
func dump(t testing.TB, name string) map[string]string {
	t.Helper()
	fields := map[string]string{}
	for line := range strings.Lines(tool(t, "dumpe2fs", "-h", name)) {
		if key, value, ok := strings.Cut(line, ":"); ok {
			fields[key] = strings.TrimSpace(value)
		}
	}
	return fields
}
