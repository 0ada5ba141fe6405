package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

//go:generate go test -run ^TestReference$ -update

var update = flag.Bool("update", false, "write docs/cli.md anew")

const referencePath = "../../docs/cli.md"

// TestReference holds docs/cli.md to the commands as they are.
func TestReference(t *testing.T) {
	got := reference()
	if *update {
		if err := os.WriteFile(referencePath, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(referencePath)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("docs/cli.md is not what the commands say: run make docs")
	}
}

// reference is the command line as a document.
func reference() string {
	c := &cli{getenv: func(string) string { return "" }}
	var b strings.Builder
	b.WriteString(`# The command line

<!-- Made by "make docs" from the commands themselves. -->

Results go to standard output, everything else to standard error. Where nothing else is
said a command's exit status is 0 when it is done, 1 when it is not, and 2 for wrong usage.

`)
	root := c.command()
	commands := all(root)
	for _, cmd := range commands {
		fmt.Fprintf(&b, "- [%s](#%s): %s\n", cmd.CommandPath(), strings.ReplaceAll(cmd.CommandPath(), " ", "-"), cmd.Short)
	}
	for _, cmd := range commands {
		describe(&b, cmd)
	}
	return b.String()
}

// all returns a command and those below it that a user sees.
func all(cmd *cobra.Command) []*cobra.Command {
	list := []*cobra.Command{cmd}
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			list = append(list, all(sub)...)
		}
	}
	return list
}

func describe(b *strings.Builder, cmd *cobra.Command) {
	fmt.Fprintf(b, "\n## %s\n\n", cmd.CommandPath())
	long := strings.TrimSuffix(cmd.Long, exitHelp)
	if long == "" {
		long = cmd.Short + "."
	}
	fmt.Fprintf(b, "    %s\n\n```text\n%s\n", cmd.UseLine(), long)
	if flags := cmd.LocalFlags().FlagUsages(); flags != "" {
		fmt.Fprintf(b, "\n%s", flags)
	}
	b.WriteString("```\n")
}

// TestHelp holds what every command promises: a text, its exit status, and JSON
// where there is something to read.
func TestHelp(t *testing.T) {
	c := &cli{getenv: func(string) string { return "" }}
	for _, cmd := range all(c.command()) {
		if cmd.Short == "" {
			t.Errorf("%s has no short help", cmd.CommandPath())
		}
		if cmd.HasSubCommands() {
			continue
		}
		if cmd.Long != "" && !strings.Contains(cmd.Long, "EXIT STATUS") {
			t.Errorf("%s does not say its exit status", cmd.CommandPath())
		}
		switch cmd.Name() {
		case "list", "show", "df", "check", "prune", "status":
			if cmd.Flags().Lookup("json") == nil {
				t.Errorf("%s has no --json", cmd.CommandPath())
			}
		}
	}
}
