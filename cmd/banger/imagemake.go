package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/client"
)

func (c *cli) imageRegister() *cobra.Command {
	var req api.ImageRegister
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "register [flags] <name> <rootfs.ext4>",
		Short: "Make an existing root file system an image",
		Long: `Make an existing ext4 file an image. In place, the file stays where it is, is only
ever read, and stays when the image is removed; if it changes, no more VMs are made
of it. With --copy the image has a copy of its own, which shares the file's blocks
where the file system can.` + exitHelp,
		Args: exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := absKernel(&req.KernelChoice); err != nil {
				return err
			}
			path, err := filepath.Abs(args[1])
			if err != nil {
				return err
			}
			req.Name, req.RootfsPath = args[0], path
			return c.makeImage(cmd, "registering "+req.RootfsPath, "image.register", req, asJSON)
		},
	}
	cmd.Flags().BoolVar(&req.Copy, "copy", false, "copy the file into the store")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the image as JSON")
	kernelFlags(cmd, &req.KernelChoice)
	return cmd
}

func (c *cli) imagePromote() *cobra.Command {
	var req api.ImagePromote
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "promote [flags] <vm>",
		Short: "Make the disk of a VM an image",
		Long: `Make a copy of the disk of a VM that does not run an image, with the kernel, the
entrypoint, the environment and the labels of the image that the VM was made of.

The disk is as the VM left it, and so are new VMs of it: /etc/machine-id and the SSH
host keys are those of the VM, as are its logs and shell histories. Remove what must
not be shared before you stop the VM: banger gives a new VM a machine ID and, with an
SSH server, a host key where it finds none.` + exitHelp,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.VM = args[0]
			return c.makeImage(cmd, "copying the disk of "+req.VM, "image.promote", req, asJSON)
		},
	}
	cmd.Flags().StringVar(&req.Name, "name", "", "name of the image (default: that of the VM)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the image as JSON")
	return cmd
}

// makeImage makes the call that makes an image, and prints its name.
func (c *cli) makeImage(cmd *cobra.Command, doing, verb string, req any, asJSON bool) error {
	conn, err := c.connect(cmd.Context())
	if err != nil {
		return err
	}
	var img api.Image
	if err := c.stream(cmd.Context(), conn, doing, verb, req, &img); err != nil {
		return err
	}
	if asJSON {
		return printJSON(c.stdout, img)
	}
	fmt.Fprintln(c.stdout, img.Name)
	return nil
}

func (c *cli) imageTag() *cobra.Command {
	return &cobra.Command{
		Use:   "tag <image> <name>",
		Short: "Give an image one more name",
		Long: `Give an image one more name. It is the same image under both; rm removes a name,
and with the last one the image. A name that another image has is refused.` + exitHelp,
		Args: exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			conn, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			if err := conn.Call(cmd.Context(), "image.tag", api.ImageTag{Image: args[0], Name: args[1]}, nil); err != nil {
				return err
			}
			fmt.Fprintln(c.stdout, args[1])
			return nil
		},
	}
}

func (c *cli) imageRemove() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm [flags] <image>...",
		Short: "Remove images",
		Long: `Remove images. Of an image with several names only the name goes. An image that a
VM uses stays, and the error names the VM; with --force the VMs go first, those that
run included. Of an image that was registered in place the file stays.` + exitHelp,
		Args: atLeastOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.each(cmd.Context(), "removing", args, func(conn *client.Client, name string) error {
				var removed api.ImageRemoved
				if err := conn.Call(cmd.Context(), "image.rm", api.ImageRemove{Name: name, Force: force}, &removed); err != nil {
					return err
				}
				for _, vm := range removed.VMs {
					c.say("removed vm %s", vm)
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill and remove the VMs that use it; by an ID, remove all of its names")
	return cmd
}

func (c *cli) imagePrune() *cobra.Command {
	var req api.Prune
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove images that no VM uses",
		Long: `Remove images that have lost their name to a newer one and that no VM uses any
more: they go by themselves, but for those that something kept. With --all every image
that no VM uses goes, promoted and registered ones included.` + exitHelp,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			var pruned []api.Pruned
			if err := conn.Call(cmd.Context(), "image.prune", req, &pruned); err != nil {
				return err
			}
			return c.pruned(pruned, req.DryRun, asJSON)
		},
	}
	pruneFlags(cmd, &req, &asJSON)
	return cmd
}

// pruneFlags are the same wherever something is pruned.
func pruneFlags(cmd *cobra.Command, req *api.Prune, asJSON *bool) {
	f := cmd.Flags()
	f.BoolVarP(&req.All, "all", "a", false, "whatever nothing uses, not only what nothing names")
	f.BoolVar(&req.DryRun, "dry-run", false, "only print what would go")
	f.BoolVar(asJSON, "json", false, "print a JSON array")
}

// pruned prints what went.
func (c *cli) pruned(all []api.Pruned, dryRun, asJSON bool) error {
	if asJSON {
		return printJSON(c.stdout, all)
	}
	var freed int64
	for _, p := range all {
		fmt.Fprintf(c.stdout, "%s %s\n", p.Kind, escape(p.Name))
		freed += p.FreedBytes
	}
	if dryRun {
		c.say("would free %s", size(freed))
	} else {
		c.say("freed %s", size(freed))
	}
	return nil
}
