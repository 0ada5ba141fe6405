package ext4_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path"
	"path/filepath"
	"strings"

	"banger/ext4"
)

func Example() {
	dir, err := os.MkdirTemp("", "ext4")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	f, err := os.Create(filepath.Join(dir, "disk.ext4"))
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()

	// Write: content first, then its name. The size is chosen by Close.
	w, err := ext4.NewWriter(f, ext4.Options{Label: "example"})
	if err != nil {
		log.Fatal(err)
	}
	const text = "hello\n"
	content, err := w.WriteContent(strings.NewReader(text), int64(len(text)))
	if err != nil {
		log.Fatal(err)
	}
	etc, err := w.Create(ext4.Root, "etc", &ext4.Header{Mode: fs.ModeDir | 0o755})
	if err != nil {
		log.Fatal(err)
	}
	motd, err := w.Create(etc, "motd", &ext4.Header{Mode: 0o644, UID: 1000, Content: content})
	if err != nil {
		log.Fatal(err)
	}
	if err := w.Link(etc, "issue", motd); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}

	// Read it back.
	fsys, err := ext4.Open(f)
	if err != nil {
		log.Fatal(err)
	}
	data, err := fs.ReadFile(fsys, "etc/issue")
	if err != nil {
		log.Fatal(err)
	}
	info, err := fsys.Stat("etc/issue")
	if err != nil {
		log.Fatal(err)
	}
	stat := info.Sys().(*ext4.Stat)
	fmt.Printf("%s%v, owner %d, %d names\n", data, stat.Mode, stat.UID, stat.Links)
	// Output:
	// hello
	// -rw-r--r--, owner 1000, 2 names
}

// A tar archive becomes an image as it is read. This one has no hard links, and
// each directory comes before what is in it.
func ExampleWriter() {
	disk, err := os.CreateTemp("", "disk")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(disk.Name())
	w, err := ext4.NewWriter(disk, ext4.Options{})
	if err != nil {
		log.Fatal(err)
	}
	dirs := map[string]ext4.Ino{".": ext4.Root}
	for tr := tar.NewReader(archive()); ; {
		th, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		h := ext4.Header{
			Mode: th.FileInfo().Mode(), UID: uint32(th.Uid), GID: uint32(th.Gid), ModTime: th.ModTime,
			Major: uint32(th.Devmajor), Minor: uint32(th.Devminor), Target: th.Linkname,
		}
		if h.Content, err = w.WriteContent(tr, th.Size); err != nil {
			log.Fatal(err)
		}
		name := path.Clean(th.Name)
		ino, err := w.Create(dirs[path.Dir(name)], path.Base(name), &h)
		if err != nil {
			log.Fatal(err)
		}
		if h.Mode.IsDir() {
			dirs[name] = ino
		}
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	u := w.Usage()
	fmt.Printf("%d inodes, %d blocks in use of %d MiB\n", u.Inodes, u.Blocks, u.Size>>20)
	// Output: 14 inodes, 7 blocks in use of 1024 MiB
}

// An image becomes a tar archive.
func ExampleFS_WriteTar() {
	disk := image()
	defer os.Remove(disk.Name())
	fsys, err := ext4.Open(disk)
	if err != nil {
		log.Fatal(err)
	}
	var out bytes.Buffer
	if err := fsys.WriteTar(&out); err != nil {
		log.Fatal(err)
	}
	for tr := tar.NewReader(&out); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(h.FileInfo().Mode(), h.Name)
	}
	// Output:
	// drwxr-xr-x ./
	// prw------- pipe
}

// A copy of a disk gets an identity of its own, so that both can be mounted.
func ExampleSetUUID() {
	disk := image()
	defer os.Remove(disk.Name())
	if err := ext4.SetUUID(disk, [16]byte{0: 0x1d, 6: 0x40, 8: 0x80}); err != nil {
		log.Fatal(err)
	}
	if err := ext4.SetLabel(disk, "clone"); err != nil {
		log.Fatal(err)
	}
	fsys, err := ext4.Open(disk)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%x %s\n", fsys.UUID(), fsys.Label())
	// Output: 1d000000000040008000000000000000 clone
}

// archive is a directory with a file and a symlink.
func archive() io.Reader {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeDir, Name: "bin/", Mode: 0o755},
		{Typeflag: tar.TypeReg, Name: "bin/true", Mode: 0o755, Size: 4},
		{Typeflag: tar.TypeSymlink, Name: "bin/yes", Linkname: "true", Mode: 0o777},
	} {
		if err := tw.WriteHeader(&h); err != nil {
			log.Fatal(err)
		}
		if _, err := tw.Write([]byte("ELF!")[:h.Size]); err != nil {
			log.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		log.Fatal(err)
	}
	return &b
}

// image is a file system with nothing but a pipe.
func image() *os.File {
	disk, err := os.CreateTemp("", "disk")
	if err != nil {
		log.Fatal(err)
	}
	w, err := ext4.NewWriter(disk, ext4.Options{})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := w.Create(ext4.Root, "pipe", &ext4.Header{Mode: fs.ModeNamedPipe | 0o600}); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	return disk
}
