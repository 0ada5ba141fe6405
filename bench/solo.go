package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"banger/ext4"
	"banger/internal/inflate"
	"banger/internal/oci"
)

// inflateAll decompresses layers and forgets what comes out, as many at once as
// there are cores, the largest part of a conversion and the measure of it.
func inflateAll(blobs []string) error {
	var group errgroup.Group
	group.SetLimit(runtime.NumCPU())
	for _, name := range blobs {
		group.Go(func() error {
			f, err := os.Open(name)
			if err != nil {
				return err
			}
			defer f.Close()
			in := bufio.NewReaderSize(f, 256<<10)
			if head, err := in.Peek(2); err != nil || string(head) == "\x1f\x8b" {
				_, err = io.Copy(io.Discard, inflate.NewReader(in))
				return err
			}
			z, err := zstd.NewReader(in)
			if err != nil {
				return err
			}
			defer z.Close()
			_, err = z.WriteTo(io.Discard)
			return err
		})
	}
	return group.Wait()
}

// readAll reads the layers of an image as a conversion does, with all sums, and
// forgets what comes out: the least that verified layers cost.
func readAll(ctx context.Context, dir string) error {
	ref, err := oci.Normalize("oci:" + dir + ":bench")
	if err != nil {
		return err
	}
	img, err := oci.Resolve(ctx, ref, oci.Options{})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.NumCPU())
	for _, l := range img.Layers {
		group.Go(func() error {
			r, err := l.Open(ctx, nil)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, r)
			return errors.Join(err, r.Close())
		})
	}
	return group.Wait()
}

// fetch downloads the layers of an image into a cache, which is all of a pull that
// needs the network.
func fetch(ctx context.Context, cache, name string) error {
	ref, err := oci.Normalize(name)
	if err != nil {
		return err
	}
	img, err := oci.Resolve(ctx, ref, oci.Options{CacheDir: cache})
	if err != nil {
		return err
	}
	return img.Prefetch(ctx, nil)
}

// printTree prints a digest of all names on a disk, with everything that each of
// the contestants can keep: type, permissions, owner, content.
func printTree(disk string) error {
	f, err := os.Open(disk)
	if err != nil {
		return err
	}
	defer f.Close()
	fsys, err := ext4.Open(f)
	if err != nil {
		return err
	}
	sum, names := sha256.New(), 0
	err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		if name == "lost+found" {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*ext4.Stat)
		if !ok {
			return fmt.Errorf("%s: %T instead of ext4.Stat", name, info.Sys())
		}
		names++
		fmt.Fprintf(sum, "%q %v %d %d %q %d:%d ", name, st.Mode, st.UID, st.GID, st.Target, st.Major, st.Minor)
		if st.Mode.IsRegular() {
			content, err := fsys.Open(name)
			if err != nil {
				return err
			}
			size, err := io.Copy(sum, content)
			if err := errors.Join(err, content.Close()); err != nil {
				return err
			}
			fmt.Fprintf(sum, "%d", size)
		}
		fmt.Fprintln(sum)
		return nil
	})
	fmt.Printf("%d names, %x\n", names, sum.Sum(nil))
	return err
}
