package main

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/config"
	"banger/internal/dirs"
	"banger/internal/image"
	"banger/internal/oci"
)

func (c *cli) convert() *cobra.Command {
	var o image.Options
	var platform string
	var insecure bool
	var out, sizeText, bufferText string
	var timing bool
	cmd := &cobra.Command{
		Use:   "convert [flags] <ref> -o <disk.ext4>",
		Short: "Write an OCI image as an ext4 disk, without the daemon",
		Long: `Write an OCI image as an ext4 disk, without the daemon. The same image, options
and build of banger give the same bytes on every machine. References are those of
"banger image pull", without names in the catalog.` + exitHelp,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if out == "" {
				return usageError{fmt.Errorf("say where to write the disk: -o disk.ext4")}
			}
			what, free, err := c.fromStdin(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, free()) }()
			ref, err := oci.Normalize(what)
			if err != nil {
				return err
			}
			buffer, err := parseSize("buffer", bufferText)
			if err != nil {
				return err
			}
			if o.SizeBytes, err = parseSize("size", sizeText); err != nil {
				return err
			}
			options, err := c.fetch(platform, insecure)
			if err != nil {
				return err
			}
			options.ReadAhead = cmp.Or(buffer, image.ReadAhead())
			options.MaxLayerBytes, options.MaxRatio = o.Limits.Bytes, o.Limits.Ratio
			p, end := c.show("resolving " + ref.String())
			defer end()
			options.Progress = p
			release, err := oci.Hold(options)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, release()) }()
			began := time.Now()
			src, err := oci.Resolve(cmd.Context(), ref, options)
			if err != nil {
				return err
			}
			resolved := time.Since(began)
			disk, err := image.ConvertFile(cmd.Context(), src, out, o, p)
			if err != nil {
				return fmt.Errorf("convert %s: %w", ref, err)
			}
			end()
			if timing {
				c.timing("all", append([]api.Phase{{Name: "resolve", Duration: resolved}}, disk.Phases...))
			}
			c.warnings(disk.Warnings)
			fmt.Fprintln(c.stdout, out)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&out, "output", "o", "", "the file to write")
	f.StringVar(&sizeText, "size", "", "exact size of the disk, such as 4G (default: content x 1.25, at least 1 GiB)")
	f.BoolVar(&o.NoGuestFiles, "no-guest-files", false, "the image alone, nothing of ours")
	f.BoolVar(&o.Force, "force", false, "replace the output file")
	f.BoolVar(&o.Sync, "sync", false, "flush the disk to stable storage before the end")
	f.StringVar(&bufferText, "buffer", "", "how much of the layers may be inflated ahead (default: 16M for each processor, 64M at most)")
	f.BoolVar(&timing, "timing", false, "print how long each phase took")
	f.StringVar(&platform, "platform", "", "platform of the image, os/arch[/variant] (default: linux on this machine's)")
	f.BoolVar(&insecure, "insecure", false, "allow plain HTTP to any registry (always allowed to this machine)")
	limitFlag(cmd, &o.Limits)
	return cmd
}

// fetch returns how to fetch without the daemon: as the user has set it, and for
// this call.
func (c *cli) fetch(platform string, insecure bool) (oci.Options, error) {
	d, err := dirs.Find(c.getenv)
	if err != nil {
		return oci.Options{}, err
	}
	settings, err := config.Read(d.Config)
	if err != nil {
		return oci.Options{}, err
	}
	o := settings.Fetch(filepath.Join(d.Cache, "oci"))
	o.Platform, o.Insecure = platform, insecure
	return o, nil
}
