// Command banger turns OCI images into bootable disks and runs them as
// microVMs. The nouns are a file each; most of what they do is a call of the
// daemon's API, and the daemon is started when it is needed.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/client"
	"banger/internal/progress"
)

// version is set by the build.
var version = "dev"

func main() {
	// The first signal ends what is being done, and it cleans up; the second
	// one ends the process.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop)
	if os.Getenv("GOGC") == "" {
		// What a conversion has in memory it has until the end. To let garbage grow to
		// a half of that, not as much again, takes no time that can be measured.
		debug.SetGCPercent(50)
	}
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// Exit statuses of our own; that of a command in a VM is passed on as it is.
const (
	exitFailed = 1
	exitUsage  = 2
	exitVM     = 125 // vm run and vm exec: the command could not be started (as docker and podman)
)

// cli is the surroundings of one command.
type cli struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	quiet          bool
	mode           progress.Mode
	live           *progress.Display // of the call under way
}

// run runs one command line and returns its exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := &cli{stdin: stdin, stdout: stdout, stderr: stderr, getenv: os.Getenv, mode: progress.Auto}
	root := c.command()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	called, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	var status exitStatus
	if errors.As(err, &status) {
		return int(status)
	}
	var usage usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(stderr, "banger: %s\nusage: %s\n", escapeLines(err.Error()), called.UseLine())
		return exitUsage
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	c.fail(err)
	if called.Annotations[ownStatus] != "" {
		return exitVM
	}
	return exitFailed
}

// exitStatus is the "error" of a command in a VM that ended with a status other
// than 0. There is nothing to print.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// usageError is a wrong command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// ownStatus marks, in cobra's annotations, commands whose exit status is that of
// a command in a VM.
const ownStatus = "own-status"

const exitHelp = `

EXIT STATUS
  0    done
  1    not done; the message on standard error says why
  2    wrong usage`

const exitVMHelp = `

EXIT STATUS
  The command's own; 128+N when signal N killed it; 126 when it cannot be
  executed and 127 when it is not found in the VM; 125 when banger itself
  failed, and the message on standard error says why; 2 for wrong usage.`

func (c *cli) command() *cobra.Command {
	root := noun("banger", "Turn OCI images into bootable disks and run them as microVMs",
		c.convert(), c.image(), c.catalog(), c.bundle(), c.kernel(), c.vm(), c.system(), c.daemon(), c.supervise(), c.version())
	root.Long = `banger turns OCI images into bootable disks and runs them as microVMs: no root, no Docker.

  banger vm run docker.io/library/alpine -- uname -a   pull, convert, boot, run, clean up
  banger image pull debian:bookworm                    keep a bootable image
  banger convert oci:./layout:tag -o disk.ext4         only the disk`
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	c.progressFlags(root)
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return c.checkProgress() }
	return root
}

// noun groups the commands of one kind of thing.
func noun(name, short string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   name,
		Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				err := fmt.Errorf("%s has no command %q", cmd.CommandPath(), args[0])
				if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
					err = fmt.Errorf("%w; did you mean %s?", err, strings.Join(like, " or "))
				}
				return usageError{err}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SuggestionsMinimumDistance = 2 // edits; what cobra itself takes
	cmd.AddCommand(verbs...)
	return cmd
}

// exactly wants n arguments, and says which when there are others.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError{fmt.Errorf("%s: %d arguments given, %d wanted", cmd.CommandPath(), len(args), n)}
		}
		return nil
	}
}

func atLeastOne(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usageError{fmt.Errorf("%s: name at least one", cmd.CommandPath())}
	}
	return nil
}

// shows makes cmd one that prints the result of a call: print for a person, and
// with --json what the API has.
func shows[T any](c *cli, cmd *cobra.Command, verb string, request func(args []string) any, print func(T) error) *cobra.Command {
	var asJSON bool
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		conn, err := c.connect(cmd.Context())
		if err != nil {
			return err
		}
		var result T
		if err := conn.Call(cmd.Context(), verb, request(args), &result); err != nil {
			return err
		}
		if asJSON {
			return printJSON(c.stdout, result)
		}
		return print(result)
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, as the API has it")
	return cmd
}

// Requests of verbs that shows calls.
func nothing([]string) any    { return nil }
func named(args []string) any { return api.Named{Name: args[0]} }

// each does one thing to all that are named, prints the name of each that it
// was done to, and goes on after an error. doing is what it does, such as
// "stopping".
func (c *cli) each(ctx context.Context, doing string, names []string, do func(*client.Client, string) error) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	var all error
	for _, name := range names {
		_, end := c.show(doing + " " + name)
		err := do(conn, name)
		end()
		if err != nil {
			all = errors.Join(all, err)
			continue
		}
		fmt.Fprintln(c.stdout, name)
	}
	return all
}
