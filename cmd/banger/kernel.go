package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/client"
)

func (c *cli) kernel() *cobra.Command {
	return noun("kernel", "Pull, import, list and remove kernels", c.kernelPull(), c.kernelImport(), c.kernelList(), c.kernelShow(),
		c.kernelDefault(), c.kernelRemove())
}

func (c *cli) kernelPull() *cobra.Command {
	var req api.KernelPull
	cmd := &cobra.Command{
		Use:   "pull [flags] <debian-or-name>",
		Short: "Fetch a kernel",
		Long: `Fetch a kernel and its modules into the store.

  debian   the cloud kernel of Debian, through this machine's own apt sources and
           keys, with an apt state of our own: no root, nothing is installed
  <name>   a kernel of a catalog: see banger catalog list --kernels` + exitHelp,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			conn, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			req.Source = args[0]
			var k api.Kernel
			if err := c.stream(cmd.Context(), conn, "looking for kernel "+req.Source, "kernel.pull", req, &k); err != nil {
				return err
			}
			fmt.Fprintln(c.stdout, k.Name)
			return nil
		},
	}
	cmd.Flags().StringVar(&req.Name, "name", "", "name of the kernel (default: that of the source)")
	cmd.Flags().StringVar(&req.Arch, "arch", "", "amd64 or arm64 (default: this machine's)")
	return cmd
}

func (c *cli) kernelImport() *cobra.Command {
	var req api.KernelImport
	cmd := &cobra.Command{
		Use:   "import [flags] <vmlinuz|vmlinux>",
		Short: "Take a kernel file into the store",
		Long: `Take a kernel file into the store. A vmlinuz is unpacked; the modules become a
disk that all VMs share.` + exitHelp,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			k := api.KernelChoice{KernelPath: args[0], ModulesDir: req.ModulesDir, InitrdPath: req.InitrdPath}
			if err := absKernel(&k); err != nil {
				return err
			}
			req.Path, req.ModulesDir, req.InitrdPath = k.KernelPath, k.ModulesDir, k.InitrdPath
			conn, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			var imported api.Kernel
			if err := c.stream(cmd.Context(), conn, "importing "+req.Path, "kernel.import", req, &imported); err != nil {
				return err
			}
			fmt.Fprintln(c.stdout, imported.Name)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Name, "name", "", "name of the kernel (default: its release)")
	f.StringVar(&req.ModulesDir, "modules", "", "directory /lib/modules/<release>")
	f.StringVar(&req.InitrdPath, "initrd", "", "initrd to load before ours")
	f.BoolVar(&req.Replace, "force", false, "replace a kernel of that name")
	return cmd
}

func (c *cli) kernelList() *cobra.Command {
	return shows(c, &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List kernels",
		Long:    "List kernels; the default one is marked with a star." + exitHelp,
		Args:    exactly(0),
	}, "kernel.list", nothing, func(kernels []api.Kernel) error {
		rows := make([][]string, len(kernels))
		for i, k := range kernels {
			modules := "no"
			if k.ModulesDir != "" {
				modules = filepath.Base(k.ModulesDir)
			}
			name := k.Name
			if k.Default {
				name += " *"
			}
			rows[i] = []string{name, k.Release, k.Arch, modules, size(k.SizeBytes), age(k.CreatedAt), k.Source}
		}
		return table(c.stdout, []string{"NAME", "RELEASE", "ARCH", "MODULES", "SIZE", "CREATED", "SOURCE"}, rows)
	})
}

func (c *cli) kernelShow() *cobra.Command {
	return shows(c, &cobra.Command{
		Use:   "show <kernel>",
		Short: "Show one kernel",
		Long:  "Show one kernel: where it is from, its files and their sha256." + exitHelp,
		Args:  exactly(1),
	}, "kernel.show", named, func(k api.Kernel) error {
		isDefault := ""
		if k.Default {
			isDefault = "yes"
		}
		c.fields([][2]string{
			{"name", k.Name},
			{"default", isDefault},
			{"release", k.Release},
			{"arch", k.Arch},
			{"source", k.Source},
			{"kernel", k.KernelPath},
			{"initrd", k.InitrdPath},
			{"modules", k.ModulesDir},
			{"on disk", size(k.SizeBytes)},
			{"created", age(k.CreatedAt)},
		})
		var files []string
		for _, name := range slices.Sorted(maps.Keys(k.SHA256)) {
			files = append(files, k.SHA256[name]+"  "+name)
		}
		section(c.stdout, "sha256", files)
		return nil
	})
}

func (c *cli) kernelDefault() *cobra.Command {
	return &cobra.Command{
		Use:   "default [<kernel>]",
		Short: "Print the default kernel, or choose another",
		Long: `Print the name of the default kernel, which images get that are made without
--kernel-ref; with a name, make that kernel the default. Images keep what they have.` + exitHelp,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return exactly(1)(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			conn, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			var req api.KernelDefault
			if len(args) > 0 {
				req.Name = args[0]
			}
			var k api.Kernel
			if err := conn.Call(cmd.Context(), "kernel.default", req, &k); err != nil {
				return err
			}
			fmt.Fprintln(c.stdout, k.Name)
			return nil
		},
	}
}

func (c *cli) kernelRemove() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm [flags] <kernel>...",
		Short: "Remove kernels",
		Long: `Remove kernels. One that an image was made with stays, and the error names the image;
with --force it goes, and images keep their copy.` + exitHelp,
		Args: atLeastOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.each(cmd.Context(), "removing", args, func(conn *client.Client, name string) error {
				return conn.Call(cmd.Context(), "kernel.rm", api.KernelRemove{Name: name, Force: force}, nil)
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "although images were made with it")
	return cmd
}
