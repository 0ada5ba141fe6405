package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/catalog"
	"banger/internal/client"
	"banger/internal/oci"
)

func (c *cli) image() *cobra.Command {
	return noun("image", "Pull, make, list and remove images", c.imagePull(), c.imageRegister(), c.imagePromote(), c.imageTag(),
		c.imageList(), c.imageShow(), c.imageLs(), c.imageCat(), c.imageExport(), c.imageVerify(), c.imageDiff(), c.imageRemove(), c.imagePrune(), c.imageCache())
}

func (c *cli) imagePull() *cobra.Command {
	var req api.ImagePull
	var sizeText string
	var asJSON, timing bool
	cmd := &cobra.Command{
		Use:   "pull [flags] <name-or-ref>",
		Short: "Make a bootable image of a name in the catalog or an OCI image",
		Long: `Make an image that can be booted. A name is looked up in the catalogs first: it is
a prebuilt disk, a recipe for this machine's package sources, or an OCI image. Of
an OCI image the layers become one ext4 disk, with our guest agent added and a
kernel beside it.

  debian-bookworm                                                             a name: see banger catalog list
  docker.io/library/debian:bookworm, debian:bookworm, ghcr.io/o/i@sha256:...   from a registry
  oci:dir[:tag], oci-archive:file[:tag]                                       an OCI layout, a tar of one
  docker-archive:file[:name:tag], docker-daemon:name[:tag]                    an image that Docker has saved, or has
  tar:file[.gz|.zst]                                                          one root file system
  -, oci-archive:-, docker-archive:-                                          the same from standard input` + exitHelp,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if req.SizeBytes, err = parseSize("size", sizeText); err != nil {
				return err
			}
			if err := absKernel(&req.KernelChoice); err != nil {
				return err
			}
			conn, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			if _, ok := oci.OnStdin(args[0]); ok && req.Name == "" {
				return usageError{errors.New("an image from standard input has no name: give it one with --name")}
			}
			ref, release, err := c.fromStdin(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, release()) }()
			req.Ref = ref
			img, err := c.pull(cmd.Context(), conn, req, true)
			if err != nil {
				return err
			}
			if timing {
				c.timing("all", img.Phases)
			}
			if asJSON {
				return printJSON(c.stdout, img)
			}
			fmt.Fprintln(c.stdout, img.Name)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Name, "name", "", "name of the image (default: that in the catalog, or made from the ref)")
	f.StringVar(&sizeText, "size", "", "exact size of the disk, such as 4G (default: content x 1.25, at least 1 GiB)")
	f.StringVar(&req.Platform, "platform", "", "platform of the image, os/arch[/variant] (default: linux on this machine's)")
	f.BoolVar(&req.Insecure, "insecure", false, "allow plain HTTP to any registry (always allowed to this machine)")
	f.BoolVar(&req.NoGuestFiles, "no-guest-files", false, "add nothing of ours to the disk")
	f.BoolVar(&asJSON, "json", false, "print the image as JSON")
	limitFlag(cmd, &req.Limits)
	f.BoolVar(&timing, "timing", false, "print how long each phase took")
	kernelFlags(cmd, &req.KernelChoice)
	return cmd
}

// kernelFlags are the same wherever a kernel is chosen.
func kernelFlags(cmd *cobra.Command, k *api.KernelChoice) {
	f := cmd.Flags()
	f.StringVar(&k.KernelRef, "kernel-ref", "", "name of a kernel in the store (default: the default kernel)")
	f.StringVar(&k.KernelPath, "kernel", "", "kernel file, vmlinux or vmlinuz")
	f.StringVar(&k.InitrdPath, "initrd", "", "initrd file to go with --kernel")
	f.StringVar(&k.ModulesDir, "modules", "", "directory /lib/modules/<release> to go with --kernel")
}

// absKernel makes paths absolute: the daemon has another working directory.
func absKernel(k *api.KernelChoice) error {
	for _, p := range []*string{&k.KernelPath, &k.InitrdPath, &k.ModulesDir} {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = abs
	}
	return nil
}

// pull pulls; a relative path in the ref is one of ours, not of the daemon's. An
// image without a kernel is worth a warning, unless the caller sees to it.
func (c *cli) pull(ctx context.Context, conn *client.Client, req api.ImagePull, warnKernel bool) (api.Image, error) {
	var img api.Image
	if !catalog.IsName(req.Ref) && !strings.HasPrefix(req.Ref, api.CatalogPrefix) {
		ref, err := oci.Normalize(req.Ref)
		if err != nil {
			return img, err
		}
		req.Ref = ref.String()
	}
	show, end := c.show("pulling " + req.Ref)
	defer end()
	err := conn.Stream(ctx, "image.pull", req, func(e api.Event) {
		if warnKernel || !e.Warning || e.Phase != "kernel" {
			show(e)
		}
	}, &img)
	end()
	if err == nil {
		c.warnings(img.Warnings)
	}
	return img, err
}
