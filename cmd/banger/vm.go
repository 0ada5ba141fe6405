package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/client"
)

func (c *cli) vm() *cobra.Command {
	return noun("vm", "Run, list and remove VMs", c.vmRun(), c.vmStart(), c.vmList(), c.vmShow(), c.vmExec(), c.vmStop(), c.vmRemove(), c.vmLogs())
}

func (c *cli) vmList() *cobra.Command {
	return shows(c, &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls", "ps"},
		Short:   "List VMs",
		Long:    "List VMs, those that do not run included." + exitHelp,
		Args:    exactly(0),
	}, "vm.list", nothing, func(vms []api.VM) error {
		rows := make([][]string, len(vms))
		for i, vm := range vms {
			rows[i] = []string{
				vm.Name, vm.ID, orNone(vm.ImageName), string(vm.State), orNone(vm.Accel), strconv.Itoa(vm.CPUs),
				size(int64(vm.MemoryMiB) << 20), size(vm.DiskBytes), age(vm.CreatedAt),
			}
		}
		return table(c.stdout, []string{"NAME", "ID", "IMAGE", "STATE", "ACCEL", "CPUS", "MEMORY", "DISK", "CREATED"}, rows)
	})
}

func (c *cli) vmShow() *cobra.Command {
	return shows(c, &cobra.Command{
		Use:   "show <vm>",
		Short: "Show one VM",
		Long:  "Show one VM; of one that failed, why, with the end of its console." + exitHelp,
		Args:  exactly(1),
	}, "vm.show", named, func(vm api.VM) error {
		exit := ""
		if vm.ExitStatus != nil {
			exit = strconv.Itoa(*vm.ExitStatus)
		}
		pid := ""
		if vm.PID != 0 {
			pid = strconv.Itoa(vm.PID)
		}
		c.fields([][2]string{
			{"name", vm.Name},
			{"id", vm.ID},
			{"image", vm.ImageName + " " + vm.ImageID},
			{"state", string(vm.State)},
			{"reason", vm.Reason},
			{"exit status", exit},
			{"accel", vm.Accel},
			{"init", vm.Init},
			{"cpus", strconv.Itoa(vm.CPUs)},
			{"memory", size(int64(vm.MemoryMiB) << 20)},
			{"disk", size(vm.DiskBytes)},
			{"directory", vm.Dir},
			{"pid", pid},
			{"created", age(vm.CreatedAt)},
		})
		return nil
	})
}

func (c *cli) vmStart() *cobra.Command {
	var timing bool
	cmd := &cobra.Command{
		Use:   "start [flags] <vm>",
		Short: "Start a VM that does not run, in the background",
		Long: `Start a VM that does not run, in the background. With our init the main process
of its image starts too; its output is what "vm logs" shows.` + exitHelp,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			conn, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			var vm api.VM
			req := api.VMStart{Name: args[0], Detach: true, Accel: c.getenv(accelVariable)}
			if err := c.stream(cmd.Context(), conn, "starting "+req.Name, "vm.start", req, &vm); err != nil {
				return err
			}
			if timing {
				c.timing("boot", vm.Phases)
			}
			fmt.Fprintln(c.stdout, vm.Name)
			return nil
		},
	}
	cmd.Flags().BoolVar(&timing, "timing", false, "print how long each phase of the boot took")
	return cmd
}

func (c *cli) vmStop() *cobra.Command {
	var timeout int
	cmd := &cobra.Command{
		Use:   "stop [flags] <vm>...",
		Short: "Stop VMs",
		Long:  "Stop VMs: the guest shuts down by itself; one that does not in time is killed." + exitHelp,
		Args:  atLeastOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.each(cmd.Context(), "stopping", args, func(conn *client.Client, name string) error {
				return conn.Call(cmd.Context(), "vm.stop", api.VMStop{Name: name, TimeoutSeconds: timeout}, nil)
			})
		},
	}
	cmd.Flags().IntVarP(&timeout, "timeout", "t", 30, "seconds until it is killed")
	return cmd
}

func (c *cli) vmRemove() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm [flags] <vm>...",
		Short: "Remove VMs and their disks",
		Long:  "Remove VMs and their disks. One that runs is refused." + exitHelp,
		Args:  atLeastOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.each(cmd.Context(), "removing", args, func(conn *client.Client, name string) error {
				return conn.Call(cmd.Context(), "vm.rm", api.VMRemove{Name: name, Force: force}, nil)
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill one that runs")
	return cmd
}

func (c *cli) vmLogs() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs [flags] <vm>",
		Short: "Print a VM's console",
		Long:  "Print what the kernel and the main process wrote to the VM's console." + exitHelp,
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			conn, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			return conn.Copy(cmd.Context(), "vm.logs", api.VMLogs{Name: args[0], Follow: follow}, c.stdout)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the VM ends")
	return cmd
}
