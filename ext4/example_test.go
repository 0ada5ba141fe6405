package ext4_test

import (
	"fmt"
	"io/fs"
	"log"
	"os"
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
