package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/client"
	"banger/internal/daemon"
	"banger/internal/dirs"
)

// daemon is a verb and a noun: alone it runs the daemon in the foreground.
func (c *cli) daemon() *cobra.Command {
	cmd := noun("daemon", "Run, show and stop the daemon", c.daemonStatus(), c.daemonStop())
	cmd.Long = `Run the daemon in the foreground, with its log on standard error. There is no
need to: any command starts it. VMs run on when it ends.` + exitHelp
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		d, err := dirs.Find(c.getenv)
		if err != nil {
			return err
		}
		exe, err := os.Executable()
		if err != nil {
			return err
		}
		return daemon.Run(cmd.Context(), daemon.Config{
			Dirs:      d,
			Version:   version,
			Build:     buildID(),
			Supervise: []string{exe, "supervise"},
			Log:       slog.New(slog.NewTextHandler(c.stderr, nil)),
		})
	}
	return cmd
}

// client returns a client of the daemon as it is: nothing is started.
func (c *cli) client() (*client.Client, error) {
	d, err := dirs.Find(c.getenv)
	if err != nil {
		return nil, err
	}
	return client.New(filepath.Join(d.Run, daemon.SocketName)), nil
}

func (c *cli) daemonStatus() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the daemon",
		Long: `Show the daemon.

EXIT STATUS
  0    it runs
  1    it does not
  2    wrong usage`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := c.client()
			if err != nil {
				return err
			}
			v, err := daemonStatus(cmd.Context(), conn)
			if notRunning(err) {
				return api.Hint(fmt.Errorf("the daemon does not run"), "any command that needs it starts it")
			}
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.stdout, v)
			}
			c.fields([][2]string{
				{"version", v.Version},
				{"pid", fmt.Sprint(v.PID)},
				{"socket", v.Socket},
				{"state", v.StateDir},
				{"log", filepath.Join(v.StateDir, daemonLog)},
				{"vms", fmt.Sprintf("%d running", v.VMs)},
				{"calls", fmt.Sprintf("%d under way", v.BusyCalls)},
			})
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func (c *cli) daemonStop() *cobra.Command {
	return &cobra.Command{
		Use:   "stop",
		Short: "Stop the daemon; VMs run on",
		Long:  "Stop the daemon. Calls under way are cancelled; VMs run on, and the next daemon finds them." + exitHelp,
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := c.client()
			if err != nil {
				return err
			}
			if err := stopDaemon(cmd.Context(), conn); notRunning(err) {
				fmt.Fprintln(c.stderr, "the daemon does not run")
			} else if err != nil {
				return err
			}
			return nil
		},
	}
}

func (c *cli) version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  exactly(0),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(c.stdout, "banger %s %s/%s %s\n", version, runtime.GOOS, runtime.GOARCH, runtime.Version())
			return err
		},
	}
}
