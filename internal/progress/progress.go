// Package progress shows a long call to whoever waits for it: as bars in a
// terminal, as a line every two seconds elsewhere, or as JSON. [New] begins to
// show a call, [Display.Event] takes its events, and [Display.End] leaves the
// terminal as it was, with the messages that are worth to be kept.
//
// Nothing is silent for longer than two seconds: where nothing can be counted,
// what is being done stands there with the time it has taken so far.
package progress

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"banger/internal/api"
)

// Mode is how a call is shown.
type Mode string

// The modes.
const (
	Auto  Mode = "auto"  // TTY in a terminal that can do it, else Plain
	TTY   Mode = "tty"   // bars
	Plain Mode = "plain" // lines
	JSON  Mode = "json"  // a [Line] for each event
	None  Mode = "none"  // warnings only
)

// Modes are all modes, as a user may name them.
var Modes = []Mode{Auto, TTY, Plain, JSON, None}

// Line is an event as it is shown in JSON: with what only time can tell.
type Line struct {
	api.Event
	Rate int64         `json:"rate,omitempty"`   // of a count: bytes per second, in the last 5 seconds
	ETA  time.Duration `json:"eta_ns,omitempty"` // of a count: until it ends at this rate; missing while nobody can know
}

// Display shows one call. Its methods may be called from several goroutines.
type Display struct {
	w    io.Writer
	mode Mode

	mu     sync.Mutex // guards all below, and the order of lines
	board  board
	warned map[string]bool // a warning is shown once
	silent time.Time       // since when no line was printed
	bars   *bars           // in a terminal, once it is worth it
	ended  bool
	stop   chan struct{}
	ticker sync.WaitGroup
}

const (
	tick      = 200 * time.Millisecond // how often we look whether something is to be shown: a shorter call has no bars
	lineEvery = 2 * time.Second        // and print a line in plain mode
)

// New begins to show a call on w, which for [TTY] is a terminal. what is being
// done is shown until the call says more itself; mode is not [Auto].
func New(w io.Writer, mode Mode, what string) *Display {
	now := time.Now()
	d := &Display{w: w, mode: mode, board: newBoard(what, now), warned: map[string]bool{}, silent: now, stop: make(chan struct{})}
	if mode == Plain || mode == TTY {
		d.ticker.Go(d.run)
	}
	return d
}

// Event shows an event, sooner or later; it is an [api.Progress]. Nothing in it
// moves the cursor.
func (d *Display) Event(e api.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended || e.Warning && d.warned[e.Message] {
		return
	}
	if e.Warning {
		d.warned[e.Message] = true
	}
	now := time.Now()
	c := d.board.add(e, now)
	switch {
	case d.mode == JSON:
		line := Line{Event: e}
		if c != nil {
			perSecond := c.rate.perSecond(now)
			line.Rate, line.ETA = max(0, int64(perSecond)), c.left(perSecond)
		}
		_ = json.NewEncoder(d.w).Encode(line) // to standard error: there is nobody to tell
	case e.Warning:
		d.print("warning: "+e.Message, now)
	case d.bars != nil && c != nil:
		d.bars.update(d.board.active())
	case d.mode == None || e.Message == "":
	case d.mode == Plain || e.Note:
		d.print(e.Message, now)
	}
}

// End ends the show: the bars go.
func (d *Display) End() {
	d.mu.Lock()
	if d.ended {
		d.mu.Unlock()
		return
	}
	d.ended = true
	close(d.stop)
	d.mu.Unlock()
	d.ticker.Wait()
	if d.bars != nil {
		d.bars.end()
	}
}

// run shows what has not been shown by an event.
func (d *Display) run() {
	for every := time.NewTicker(tick); ; {
		select {
		case <-d.stop:
			every.Stop()
			return
		case now := <-every.C:
			d.mu.Lock()
			switch {
			case d.mode == Plain && now.Sub(d.silent) >= lineEvery-tick/2:
				d.print(d.board.status(now).line(), now)
			case d.mode == TTY && d.bars == nil:
				d.bars = newBars(d.w, &d.board)
			}
			if d.bars != nil {
				d.bars.update(d.board.active())
			}
			d.mu.Unlock()
		}
	}
}

// print prints a line, above the bars if there are any.
func (d *Display) print(line string, now time.Time) {
	d.silent = now
	w := d.w
	if d.bars != nil {
		w = d.bars
	}
	fmt.Fprintln(w, line)
}
