package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

// maxLinks is how many links the kernel follows in one path (MAXSYMLINKS,
// include/linux/namei.h).
const maxLinks = 40

// resolve follows the links in name as a process would whose root directory is
// root, and returns the path below root, which need not exist. Other ways do
// not stay inside: an absolute link in an image means the image's root.
func resolve(root, name string) (string, error) {
	at, rest := "/", name
	for links := 0; rest != ""; {
		var elem string
		elem, rest, _ = strings.Cut(rest, "/")
		if elem == ".." {
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, elem)
		target, err := os.Readlink(filepath.Join(root, next))
		if err != nil { // no link, or nothing there
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("resolve %s: %w", name, syscall.ELOOP)
		}
		if path.IsAbs(target) {
			at = "/"
		}
		rest = target + "/" + rest
	}
	return at, nil
}

// inside is resolve with the root before it: a path that can be opened.
func inside(root, name string) (string, error) {
	at, err := resolve(root, name)
	return filepath.Join(root, at), err
}
