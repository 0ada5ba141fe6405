package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"banger/ext4"
	"banger/internal/api"
	"banger/internal/image"
)

// disk is the file system of an image, read where it is: no mount, no root.
type disk struct {
	*ext4.FS
	file *os.File  // open, so that the image may be removed meanwhile
	arg  string    // what the user called it
	img  api.Image // zero when it is a file that belongs to no image
}

// openDisk opens the disk of an image, or an ext4 file: an argument with a slash
// or that ends in .ext4.
func (c *cli) openDisk(ctx context.Context, arg string) (*disk, error) {
	d := &disk{arg: arg}
	file := arg
	if !strings.Contains(arg, "/") && !strings.HasSuffix(arg, ".ext4") {
		conn, err := c.connect(ctx)
		if err != nil {
			return nil, err
		}
		if err := conn.Call(ctx, "image.show", api.Named{Name: arg}, &d.img); err != nil {
			return nil, err
		}
		if err := image.Unchanged(d.img); err != nil {
			return nil, err
		}
		file = d.img.RootfsPath
	}
	var err error
	if d.file, err = os.Open(file); err != nil {
		return nil, err
	}
	if d.FS, err = ext4.Open(d.file); err != nil {
		return nil, errors.Join(fmt.Errorf("disk %s: %w", file, err), d.file.Close())
	}
	return d, nil
}

func (d *disk) Close() error { return d.file.Close() }

// inside makes a path in the image of what the user typed, which starts at the
// root with or without a slash.
func inside(arg string) string {
	if p := path.Clean("/" + arg)[1:]; p != "" {
		return p
	}
	return "."
}

// fail says what could not be done with a path that the user gave.
func (d *disk) fail(verb, arg string, err error) error {
	shown := path.Join("/", arg)
	var inner *fs.PathError
	if errors.As(err, &inner) {
		err = inner.Err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s %s: %w", verb, escape(shown), err)
	}
	dir := path.Dir(shown)
	for ; dir != "/"; dir = path.Dir(dir) {
		if info, err := d.Stat(inside(dir)); err == nil && info.IsDir() {
			break
		}
	}
	return api.Hint(fmt.Errorf("%s %s: %w", verb, escape(shown), api.ErrNotFound),
		"see what there is: banger image ls "+quoteAll([]string{d.arg, dir}))
}
