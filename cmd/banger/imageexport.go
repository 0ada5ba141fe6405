package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"banger/internal/api"
	"banger/internal/export"
)

// exporting says how an image is exported.
type exporting struct {
	out, format  string
	noGuestFiles bool
	force        bool
}

func (c *cli) imageExport() *cobra.Command {
	var how exporting
	cmd := &cobra.Command{
		Use:   "export [flags] <image> -o <x.tar|x.oci|->",
		Short: "Write an image as a tar or an OCI archive",
		Long: `Write what is on the disk of an image, or in an ext4 file (an argument with a slash in
it or that ends in .ext4), as an archive. The same disk gives the same bytes.

  tar   the tree, in the PAX format: owners, times in nanoseconds, hard links, devices,
        extended attributes, ACLs; holes become zeros
  oci   an OCI archive with that as its one layer and the image's configuration, as
        skopeo, podman and banger read it: oci-archive:x.oci

Sockets have no form in tar and are left out. With --no-guest-files so are the files that
we added, where they are still as we left them, and directories that were made for them.
What the image had in the place of one of them does not come back: "image verify" tells
whether there is any, and the layers have it.` + exitHelp,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			write, err := how.writer()
			if err != nil {
				return err
			}
			d, err := c.openDisk(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, d.Close()) }()
			if err := c.export(cmd.Context(), d, how, write); err != nil {
				return fmt.Errorf("export %s: %w", args[0], err)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&how.out, "output", "o", "-", "the file to write; - is standard output")
	f.StringVar(&how.format, "format", "", "tar or oci (default: by the name of the file; tar)")
	f.BoolVar(&how.noGuestFiles, "no-guest-files", false, "leave out what we added")
	f.BoolVar(&how.force, "force", false, "replace the output file")
	return cmd
}

// writeFunc writes an archive to a file.
type writeFunc func(ctx context.Context, f *os.File, s export.Source, tag string, p api.Progress) error

func (how *exporting) writer() (writeFunc, error) {
	if how.format == "" && strings.HasSuffix(how.out, ".oci") {
		how.format = "oci"
	}
	switch cmp.Or(how.format, "tar") {
	case "tar":
		return func(ctx context.Context, f *os.File, s export.Source, _ string, p api.Progress) error {
			return export.Tar(ctx, f, s, p)
		}, nil
	case "oci":
		return func(ctx context.Context, f *os.File, s export.Source, tag string, p api.Progress) error {
			return export.OCI(ctx, f, s, tag, p)
		}, nil
	}
	return nil, usageError{fmt.Errorf("--format %s: want tar or oci", how.format)}
}

func (c *cli) export(ctx context.Context, d *disk, how exporting, write writeFunc) error {
	s := export.Source{Disk: d.FS, Image: d.img}
	if how.noGuestFiles {
		if d.img.ID == "" {
			return usageError{errors.New("--no-guest-files is for images: nothing tells what was added to a file")}
		}
		s.Without = d.img.Added
	}
	tag := cmp.Or(d.img.Name, api.NameFrom(strings.TrimSuffix(filepath.Base(d.arg), ".ext4")), "latest")
	out, isFile := c.stdout.(*os.File)
	if how.out == "-" && isFile && term.IsTerminal(int(out.Fd())) {
		return api.Hint(fmt.Errorf("%w: standard output is a terminal", api.ErrInvalid), "say where to write it: -o "+tag+".tar")
	}
	p, end := c.show("export " + d.arg)
	defer end()
	if how.out != "-" {
		return toFile(how.out, how.force, func(f *os.File) error { return write(ctx, f, s, tag, p) })
	}
	if how.format != "oci" {
		return export.Tar(ctx, c.stdout, s, p)
	}
	// What is written last goes before what is written first.
	tmp, err := os.CreateTemp("", "banger-export-")
	if err != nil {
		return err
	}
	defer tmp.Close()
	if err := os.Remove(tmp.Name()); err != nil {
		return err
	}
	if err := write(ctx, tmp, s, tag, p); err != nil {
		return err
	}
	if _, err := tmp.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = io.Copy(c.stdout, tmp)
	return err
}

// toFile writes a file under another name, which it has only when it is whole.
func toFile(path string, force bool, write func(*os.File) error) (err error) {
	if _, err := os.Lstat(path); err == nil && !force {
		return api.Hint(fmt.Errorf("write %s: %w", path, api.ErrExists), "use --force to replace it")
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	err = errors.Join(write(f), f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}
