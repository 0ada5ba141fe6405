package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"banger/internal/agent"
	"banger/internal/api"
	"banger/internal/client"
)

func (c *cli) vmExec() *cobra.Command {
	var req agent.ExecRequest
	var noTTY bool
	cmd := &cobra.Command{
		Use:   "exec [flags] <vm> [--] [<command>...]",
		Short: "Run a command in a running VM",
		Long: `Run a command in a running VM, with the environment, user and directory of its
image; without a command, a login shell. Between terminals it gets a terminal.` + exitVMHelp,
		Annotations: map[string]string{ownStatus: "yes"},
		Args:        atLeastOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, command := args[0], args[1:]
			if len(command) > 0 && command[0] == "--" {
				command = command[1:]
			}
			req.Args = command
			conn, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			return c.exec(cmd.Context(), conn, api.VMExec{Name: name}, req, !noTTY)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // the command's flags are not ours
	f.StringArrayVarP(&req.Env, "env", "e", nil, "set KEY=value")
	f.StringVarP(&req.User, "user", "u", "", "run as user[:group]")
	f.StringVarP(&req.Dir, "workdir", "w", "", "run in this directory")
	f.BoolVarP(&noTTY, "no-tty", "T", false, "no terminal for the command, although there is one here")
	return cmd
}

// terminal says whether a person sits at both ends.
func (c *cli) terminal() bool {
	in, okIn := c.stdin.(*os.File)
	out, okOut := c.stdout.(*os.File)
	return okIn && okOut && term.IsTerminal(int(in.Fd())) && term.IsTerminal(int(out.Fd()))
}

// exec runs a command in a VM and returns its exit status as an error. From the
// first moment signals are the command's.
func (c *cli) exec(ctx context.Context, conn *client.Client, vm api.VMExec, req agent.ExecRequest, tty bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, giveUp := context.WithCancelCause(context.WithoutCancel(ctx))
	defer giveUp(nil)
	relay := catch(giveUp)
	defer relay.stop()

	stream, err := conn.Upgrade(ctx, "vm.exec", vm)
	if err != nil {
		return err
	}
	restore := func() {}
	if tty && c.terminal() {
		console := int(c.stdin.(*os.File).Fd())
		before, err := term.MakeRaw(console)
		if err != nil {
			return errors.Join(fmt.Errorf("prepare the terminal: %w", err), stream.Close())
		}
		restore = func() { _ = term.Restore(console, before) }
		req.TTY, req.Term = true, c.getenv("TERM")
		size := terminalSize(console)
		req.Cols, req.Rows = size.Cols, size.Rows
	}
	req.Stdin = true
	status, err := agent.Exec(ctx, stream, req, agent.IO{
		Stdin: c.stdin, Stdout: c.stdout, Stderr: c.stderr, Signals: relay.signals, Resize: relay.resize,
	})
	restore()
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	if err != nil {
		return fmt.Errorf("vm %s: %w", vm.Name, err)
	}
	if status.Reason != "" {
		fmt.Fprintf(c.stderr, "banger: %s\n", escape(status.Reason))
	}
	if status.Code != 0 {
		return exitStatus(status.Code)
	}
	return nil
}

// relay passes what this process is sent to a command in a VM.
type relay struct {
	signals chan syscall.Signal
	resize  chan agent.Size
	caught  chan os.Signal
	ended   chan struct{}
}

// catch begins to relay. The third interrupt calls giveUp: the guest does not
// answer.
func catch(giveUp context.CancelCauseFunc) *relay {
	r := &relay{
		signals: make(chan syscall.Signal, 8), resize: make(chan agent.Size, 1),
		caught: make(chan os.Signal, 8), ended: make(chan struct{}),
	}
	signal.Notify(r.caught, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGWINCH)
	go func() {
		defer close(r.ended)
		interrupts := 0
		for s := range r.caught {
			// Neither channel is waited for: a size that is not taken is followed by
			// another, and a guest that takes no signals is given up.
			if s == syscall.SIGWINCH {
				select {
				case r.resize <- terminalSize(int(os.Stdin.Fd())):
				default:
				}
				continue
			}
			if interrupts++; interrupts == 3 {
				giveUp(errInterrupted)
			}
			select {
			case r.signals <- s.(syscall.Signal):
			default:
			}
		}
	}()
	return r
}

func (r *relay) stop() {
	signal.Stop(r.caught)
	close(r.caught)
	<-r.ended
}

// terminalSize returns the zero size of what is no terminal.
func terminalSize(fd int) agent.Size {
	cols, rows, err := term.GetSize(fd)
	if err != nil {
		return agent.Size{}
	}
	return agent.Size{Rows: uint16(rows), Cols: uint16(cols)}
}

var errInterrupted = errors.New("interrupted")
