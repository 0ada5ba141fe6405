package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"banger/internal/api"
	"banger/internal/client"
	"banger/internal/progress"
)

// progressFlags are those of every command.
func (c *cli) progressFlags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.BoolVarP(&c.quiet, "quiet", "q", false, "no progress, only warnings and errors: --progress none")
	f.Var((*modeFlag)(&c.mode), "progress", "how progress is shown: auto, tty (bars), plain (lines), json (events), none")
}

// modeFlag is a progress.Mode on the command line.
type modeFlag progress.Mode

func (m *modeFlag) String() string { return string(*m) }
func (m *modeFlag) Type() string   { return "mode" }

func (m *modeFlag) Set(text string) error {
	if !slices.Contains(progress.Modes, progress.Mode(text)) {
		return fmt.Errorf("want one of %s", strings.Trim(fmt.Sprint(progress.Modes), "[]"))
	}
	*m = modeFlag(text)
	return nil
}

// checkProgress refuses bars where there is nothing to draw them on.
func (c *cli) checkProgress() error {
	if c.mode == progress.TTY && !c.errorTerminal() {
		return usageError{errors.New("--progress tty: standard error is no terminal")}
	}
	return nil
}

// errorTerminal says whether standard error is a terminal.
func (c *cli) errorTerminal() bool {
	f, ok := c.stderr.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// progressMode decides what auto is. A terminal that is called dumb cannot go
// back in what it shows.
func (c *cli) progressMode() progress.Mode {
	switch {
	case c.quiet:
		return progress.None
	case c.mode != progress.Auto:
		return c.mode
	case c.errorTerminal() && c.getenv("TERM") != "dumb":
		return progress.TTY
	}
	return progress.Plain
}

// show shows a long call until the function it returns is called; what stands
// there until the call says more.
func (c *cli) show(what string) (p api.Progress, end func()) {
	d := progress.New(c.stderr, c.progressMode(), escape(what))
	c.live = d
	return func(e api.Event) { d.Event(cleaned(e)) }, func() {
		d.End()
		if c.live == d {
			c.live = nil
		}
	}
}

// stream makes a call that reports progress, and shows it.
func (c *cli) stream(ctx context.Context, conn *client.Client, what, verb string, request, result any) error {
	p, end := c.show(what)
	defer end()
	return conn.Stream(ctx, verb, request, p, result)
}

// call makes a call that may take a while without a word.
func (c *cli) call(ctx context.Context, conn *client.Client, what, verb string, request, result any) error {
	_, end := c.show(what)
	defer end()
	return conn.Call(ctx, verb, request, result)
}

// tell shows one event, of the call under way or of none.
func (c *cli) tell(e api.Event) {
	d := c.live
	if d == nil {
		d = progress.New(c.stderr, c.progressMode(), "")
		defer d.End()
	}
	d.Event(cleaned(e))
}

// cleaned makes what a guest, an image or a registry has said safe to print.
func cleaned(e api.Event) api.Event {
	e.Message, e.ID = escape(e.Message), escape(e.ID)
	return e
}

// say prints progress in words.
func (c *cli) say(format string, args ...any) {
	c.tell(api.Event{Message: fmt.Sprintf(format, args...), Note: true})
}

// warn prints what the user should know.
func (c *cli) warn(format string, args ...any) {
	c.tell(api.Event{Message: fmt.Sprintf(format, args...), Warning: true})
}

// warnings prints what a conversion warns of, a line for each kind.
func (c *cli) warnings(all []api.Warning) {
	count := map[string]int{}
	for _, w := range all {
		count[w.Kind]++
	}
	for _, w := range all {
		n := count[w.Kind]
		if n == 0 {
			continue
		}
		delete(count, w.Kind)
		more := ""
		if n > 1 {
			more = fmt.Sprintf(" (and %d more)", n-1)
		}
		c.warn("%s: %s%s", w.Path, w.Message, more)
	}
}

// fail prints why a command did not do what it was to do.
func (c *cli) fail(err error) {
	if c.progressMode() == progress.JSON {
		c.tell(api.Event{Error: api.AsError(err)})
		return
	}
	fmt.Fprintf(c.stderr, "banger: %s\n", escapeLines(err.Error()))
	if hint := api.HintOf(err); hint != "" {
		fmt.Fprintf(c.stderr, "hint: %s\n", escapeLines(hint))
	}
}

// timing prints how long the phases of something took. What was a part of
// another, or ran beside it, is set in and no part of the sum.
func (c *cli) timing(what string, phases []api.Phase) {
	if c.progressMode() == progress.JSON {
		_ = json.NewEncoder(c.stderr).Encode(struct { // to standard error: there is nobody to tell
			Phases []api.Phase `json:"phases"`
		}{phases})
		return
	}
	var sum time.Duration
	for _, p := range phases {
		name := p.Name
		if p.Part {
			name = "  " + name
		} else {
			sum += p.Duration
		}
		fmt.Fprintf(c.stderr, "%-24s %9.3f s\n", name, p.Duration.Seconds())
	}
	fmt.Fprintf(c.stderr, "%-24s %9.3f s\n", what, sum.Seconds())
}
