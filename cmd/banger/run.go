package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"banger/internal/agent"
	"banger/internal/api"
	"banger/internal/catalog"
	"banger/internal/client"
	"banger/internal/oci"
	"banger/internal/vm"
)

// accelVariable is the environment variable behind --accel.
const accelVariable = "BANGER_ACCEL"

func (c *cli) vmRun() *cobra.Command {
	var req api.VMCreate
	var memory, disk, platform, accel string
	var insecure, timing, detach bool
	cmd := &cobra.Command{
		Use:   "run [flags] <image-or-ref> [-- <command>...]",
		Short: "Make a VM, start it and run a command in it",
		Long: `Make a VM of an image, start it and run a command in it. The image is one that is
there, else a name in the catalog, else an OCI ref, and then it is pulled; so is a
kernel when there is none.

Images with systemd boot it, and the command runs beside it as soon as the guest
answers; without a command it is a login shell. All others run their ENTRYPOINT
and CMD as the main process, and the command replaces CMD; when it ends, the VM
ends. A VM without --name is removed at the end, with its disk.` + exitVMHelp,
		Annotations: map[string]string{ownStatus: "yes"},
		Args: func(cmd *cobra.Command, args []string) error {
			n := cmd.ArgsLenAtDash()
			if n < 0 {
				n = len(args)
			}
			if n == 0 {
				return usageError{errors.New("vm run: name an image")}
			}
			if n > 1 {
				return usageError{fmt.Errorf("vm run: put the command after --: banger vm run %s -- %s", args[0], quoteAll(args[1:]))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			ctx := cmd.Context()
			bytes, err := parseSize("memory", memory)
			if err != nil {
				return err
			}
			if bytes > 0 && bytes < 1<<20 {
				return usageError{fmt.Errorf("--memory %s: less than 1 MiB; did you mean %sM?", memory, memory)}
			}
			req.MemoryMiB = int(bytes >> 20)
			if req.DiskBytes, err = parseSize("disk", disk); err != nil {
				return err
			}
			if detach && req.Name == "" {
				return usageError{errors.New("vm run --detach: give the VM a --name to find it again")}
			}
			if err := vm.Runs(platform); err != nil {
				return fmt.Errorf("vm run --platform %s: %w", platform, err)
			}
			conn, err := c.connect(ctx)
			if err != nil {
				return err
			}
			img, err := c.findOrPull(ctx, conn, api.ImagePull{Ref: args[0], Platform: platform, Insecure: insecure})
			if err != nil {
				return err
			}
			if err := c.needKernel(ctx, conn, img); err != nil {
				return err
			}
			req.Image, req.Cmd, req.Ephemeral = img.ID, args[1:], req.Name == ""
			var made api.VM
			if err := c.stream(ctx, conn, "making a VM of "+img.Name, "vm.create", req, &made); err != nil {
				return err
			}
			if made.Ephemeral {
				defer func() { err = errors.Join(err, c.discard(ctx, conn, made.ID)) }()
			}
			start := api.VMStart{Name: made.ID, Detach: detach, Accel: accel}
			if err := c.stream(ctx, conn, "booting "+made.Name, "vm.start", start, &made); err != nil {
				return err
			}
			if timing {
				if len(img.Phases) > 0 {
					c.timing("pull", img.Phases)
				}
				c.timing("boot", made.Phases)
			}
			if detach {
				fmt.Fprintln(c.stdout, made.Name)
				return nil
			}
			return c.runMain(ctx, conn, made, agent.ExecRequest{Args: args[1:], Env: req.Env, User: req.User, Dir: req.WorkDir})
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Name, "name", "", "name of the VM, which then is kept")
	f.IntVar(&req.CPUs, "cpus", 0, "virtual processors (default: 2, or as many as there are)")
	f.StringVar(&memory, "memory", "", "memory, such as 2G (default: 1G, or a quarter of what there is)")
	f.StringVar(&disk, "disk", "", "size of the disk, such as 20G (default: that of the image)")
	f.StringVar(&req.Init, "init", "", `"banger" for our init, or the path of a program in the image (default: systemd if the image has it)`)
	f.StringVar(&accel, "accel", c.getenv(accelVariable), `"kvm", "tcg", or "auto": KVM if it works (default $`+accelVariable+`, else auto)`)
	f.StringArrayVarP(&req.Env, "env", "e", nil, "set KEY=value for the command")
	f.StringVarP(&req.User, "user", "u", "", "run the command as user[:group]")
	f.StringVarP(&req.WorkDir, "workdir", "w", "", "run the command in this directory")
	f.BoolVarP(&detach, "detach", "d", false, "return when the VM runs")
	f.BoolVar(&timing, "timing", false, "print how long each phase took, of a pull and of the boot")
	f.StringVar(&platform, "platform", "", "platform of an image that is pulled")
	f.BoolVar(&insecure, "insecure", false, "allow plain HTTP to the registry of an image that is pulled")
	return cmd
}

// findOrPull returns the local image of that name, ID or ref, and pulls the ref
// when there is none.
func (c *cli) findOrPull(ctx context.Context, conn *client.Client, pull api.ImagePull) (api.Image, error) {
	var img api.Image
	err := conn.Call(ctx, "image.show", api.Named{Name: pull.Ref}, &img)
	if err == nil || !errors.Is(err, api.ErrNotFound) {
		return img, err
	}
	ref, err := meaning(ctx, conn, pull)
	if err != nil {
		return img, err
	}
	var images []api.Image
	if err := conn.Call(ctx, "image.list", nil, &images); err != nil {
		return img, err
	}
	for _, img := range images {
		if img.Ref == ref && img.Name != "" {
			return img, nil
		}
	}
	c.say("image %s is not here yet: pulling %s", pull.Ref, ref)
	return c.pull(ctx, conn, pull, false)
}

// meaning returns the ref that an image is remembered by when it is pulled.
func meaning(ctx context.Context, conn *client.Client, pull api.ImagePull) (string, error) {
	name, only := strings.CutPrefix(pull.Ref, api.CatalogPrefix)
	if only || catalog.IsName(pull.Ref) {
		var e api.CatalogEntry
		err := conn.Call(ctx, "catalog.show", api.CatalogFind{Name: name, Arch: archOf(pull.Platform)}, &e)
		switch {
		case err == nil && e.OCI == nil:
			return api.CatalogPrefix + e.Name, nil
		case err == nil:
			pull.Ref = e.OCI.Ref
		case only || !errors.Is(err, api.ErrNotFound):
			return "", err
		}
	}
	ref, err := oci.Normalize(pull.Ref)
	return ref.String(), err
}

// needKernel fetches the default kernel when an image has none and there is
// none in the store.
func (c *cli) needKernel(ctx context.Context, conn *client.Client, img api.Image) error {
	if img.KernelPath != "" {
		return nil
	}
	var kernels []api.Kernel
	if err := conn.Call(ctx, "kernel.list", nil, &kernels); err != nil {
		return err
	}
	for _, k := range kernels {
		if k.Default {
			return nil
		}
	}
	c.say("there is no kernel yet: fetching Debian's cloud kernel through this machine's apt sources")
	return c.stream(ctx, conn, "looking for a kernel", "kernel.pull", api.KernelPull{Source: "debian"}, &api.Kernel{})
}

// runMain runs what the user asked for in a VM that has just come up.
func (c *cli) runMain(ctx context.Context, conn *client.Client, vm api.VM, req agent.ExecRequest) error {
	owned := api.VMExec{Name: vm.ID, Owner: vm.Ephemeral}
	if vm.Init == "banger" {
		// The process itself is in the VM's configuration.
		err := c.exec(ctx, conn, owned, agent.ExecRequest{Main: true}, true)
		if !vm.Ephemeral && ctx.Err() == nil {
			// Its end powers the VM off: when we return, it is off.
			err = errors.Join(err, conn.Call(ctx, "vm.stop", api.VMStop{Name: vm.ID}, nil))
		}
		return err
	}
	if len(req.Args) == 0 && !c.terminal() {
		return api.Hint(fmt.Errorf("%w: without a terminal there is no shell to run in %s", api.ErrInvalid, vm.Name),
			"give a command after --, or let the VM run with --name and --detach")
	}
	return c.exec(ctx, conn, owned, req, true)
}

// discard removes an ephemeral VM, also after an interrupt. The daemon may have
// done so already.
func (c *cli) discard(ctx context.Context, conn *client.Client, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	err := conn.Call(ctx, "vm.rm", api.VMRemove{Name: id, Force: true}, nil)
	if notRunning(err) { // the daemon was stopped meanwhile; the next one can do it
		if conn, err = c.connect(ctx); err == nil {
			err = conn.Call(ctx, "vm.rm", api.VMRemove{Name: id, Force: true}, nil)
		}
	}
	if errors.Is(err, api.ErrNotFound) {
		return nil
	}
	return err
}
