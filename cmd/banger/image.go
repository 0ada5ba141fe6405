package main

import (
	"context"
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
	return noun("image", "Pull, list and remove images", c.imagePull(), c.imageRegister(), c.imageList(), c.imageShow(), c.imageRemove())
}

func (c *cli) imagePull() *cobra.Command {
	var req api.ImagePull
	var sizeText string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "pull [flags] <name-or-ref>",
		Short: "Make a bootable image of a name in the catalog or an OCI image",
		Long: `Make an image that can be booted. A name is looked up in the catalogs first: it is
a prebuilt disk, a recipe for this machine's package sources, or an OCI image. Of
an OCI image the layers become one ext4 disk, with our guest agent added and a
kernel beside it.

  debian-bookworm                                                             a name: see banger catalog list
  docker.io/library/debian:bookworm, debian:bookworm, ghcr.io/o/i@sha256:...   from a registry
  oci:dir[:tag]                                                               an OCI layout
  tar:file[.gz|.zst]                                                          one root file system` + exitHelp,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
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
			req.Ref = args[0]
			img, err := c.pull(cmd.Context(), conn, req, c.progress())
			if err != nil {
				return err
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

// pull pulls; a relative path in the ref is one of ours, not of the daemon's.
func (c *cli) pull(ctx context.Context, conn *client.Client, req api.ImagePull, p api.Progress) (api.Image, error) {
	var img api.Image
	if !catalog.IsName(req.Ref) && !strings.HasPrefix(req.Ref, api.CatalogPrefix) {
		ref, err := oci.Normalize(req.Ref)
		if err != nil {
			return img, err
		}
		req.Ref = ref.String()
	}
	err := conn.Stream(ctx, "image.pull", req, p, &img)
	if err == nil {
		c.warnings(img.Warnings)
	}
	return img, err
}

func (c *cli) imageRegister() *cobra.Command {
	var req api.ImageRegister
	cmd := &cobra.Command{
		Use:   "register [flags] <name> <rootfs.ext4>",
		Short: "Make an existing root file system an image, in place",
		Long: `Make an existing ext4 file an image. The file stays where it is, is only ever
read, and stays when the image is removed.` + exitHelp,
		Args: exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := absKernel(&req.KernelChoice); err != nil {
				return err
			}
			path, err := filepath.Abs(args[1])
			if err != nil {
				return err
			}
			conn, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			req.Name, req.RootfsPath = args[0], path
			var img api.Image
			if err := conn.Stream(cmd.Context(), "image.register", req, c.progress(), &img); err != nil {
				return err
			}
			fmt.Fprintln(c.stdout, img.Name)
			return nil
		},
	}
	kernelFlags(cmd, &req.KernelChoice)
	return cmd
}

func (c *cli) imageList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List images",
		Long:    "List images." + exitHelp,
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			var images []api.Image
			if err := conn.Call(cmd.Context(), "image.list", nil, &images); err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.stdout, images)
			}
			rows := make([][]string, len(images))
			for i, img := range images {
				rows[i] = []string{orNone(img.Name), img.ID, orNone(img.Ref), orNone(img.KernelRef), size(img.SizeBytes), size(img.AllocatedBytes), age(img.CreatedAt)}
			}
			return table(c.stdout, []string{"NAME", "ID", "REF", "KERNEL", "SIZE", "ON DISK", "CREATED"}, rows)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return cmd
}

func orNone(s string) string {
	if s == "" {
		return "-"
	}
	return escape(s)
}

func (c *cli) imageShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show <image>",
		Short: "Show one image",
		Long:  "Show one image: what it was made from, where it is and what it runs." + exitHelp,
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			conn, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			var img api.Image
			if err := conn.Call(cmd.Context(), "image.show", api.Named{Name: args[0]}, &img); err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.stdout, img)
			}
			managed := "yes"
			if !img.Managed {
				managed = "no: registered in place"
			}
			c.fields([][2]string{
				{"name", img.Name},
				{"id", img.ID},
				{"ref", img.Ref},
				{"digest", img.Digest},
				{"platform", img.Platform},
				{"managed", managed},
				{"rootfs", img.RootfsPath},
				{"size", fmt.Sprintf("%s, %s on disk", size(img.SizeBytes), size(img.AllocatedBytes))},
				{"kernel", kernelText(img)},
				{"initrd", img.InitrdPath},
				{"modules", img.ModulesDir},
				{"entrypoint", quoteAll(img.Process.Entrypoint)},
				{"cmd", quoteAll(img.Process.Cmd)},
				{"env", quoteAll(img.Process.Env)},
				{"user", img.Process.User},
				{"workdir", img.Process.WorkingDir},
				{"created", age(img.CreatedAt)},
			})
			c.warnings(img.Warnings)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func kernelText(img api.Image) string {
	switch {
	case img.KernelPath == "":
		return "none yet: the default one when a VM is made"
	case img.KernelRef == "":
		return img.KernelPath
	}
	return img.KernelRef + " " + img.KernelPath
}

func (c *cli) imageRemove() *cobra.Command {
	return &cobra.Command{
		Use:   "rm <image>...",
		Short: "Remove images",
		Long:  "Remove images. An image that a VM uses stays, and the error names the VM." + exitHelp,
		Args:  atLeastOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.each(cmd.Context(), args, func(conn *client.Client, name string) error {
				return conn.Call(cmd.Context(), "image.rm", api.Named{Name: name}, nil)
			})
		},
	}
}
