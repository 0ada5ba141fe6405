package main

import (
	"log/slog"
	"path/filepath"

	"github.com/spf13/cobra"

	"banger/internal/dirs"
	"banger/internal/vm"
	"banger/internal/vmm/qemu"
)

// supervise is the process of one running VM; the daemon starts it.
func (c *cli) supervise() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:    "supervise --dir <directory>",
		Short:  "Run one VM",
		Hidden: true,
		Args:   exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := dirs.Find(c.getenv)
			if err != nil {
				return err
			}
			log := slog.New(slog.NewTextHandler(c.stderr, nil))
			driver := &qemu.Driver{StateDir: filepath.Join(d.State, "qemu"), Log: log}
			return vm.Supervise(cmd.Context(), dir, driver, log)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the VM's directory")
	return cmd
}
