package progress

import (
	"io"
	"math"
	"strings"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// bars draws a board in a terminal: a line for each thing that is being worked
// at, and one for the whole call below them. What is done disappears.
//
// It uses no colours, and does not hide the cursor: whatever kills us leaves a
// terminal that can be used.
type bars struct {
	container *mpb.Progress
	board     *board
	whole     *mpb.Bar
	parts     map[key]*mpb.Bar
}

func newBars(w io.Writer, b *board) *bars {
	v := &bars{board: b, parts: map[key]*mpb.Bar{}, container: mpb.New(mpb.WithConsoleWriter(newTerminal(w)))}
	v.whole = v.add(math.MaxInt, func(width int, now time.Time) string { return b.status(now).fit(width, "") })
	return v
}

// add adds a line, which draws itself. The board has a lock of its own for that:
// we wait for the lines here and there.
func (v *bars) add(priority int, draw func(width int, now time.Time) string) *mpb.Bar {
	fill := func(w io.Writer, s decor.Statistics) error {
		_, err := io.WriteString(w, draw(s.AvailableWidth, time.Now()))
		return err
	}
	line, err := v.container.Add(0, mpb.BarFillerFunc(fill), mpb.BarPriority(priority), mpb.BarFillerTrim())
	if err != nil {
		return nil // the terminal is gone
	}
	return line
}

// update shows these things and no others.
func (v *bars) update(active []key) {
	wanted := map[key]bool{}
	for _, k := range active {
		wanted[k] = true
		if _, there := v.parts[k]; !there {
			name := strings.TrimPrefix(k.id, "sha256:")
			name = name[:min(len(name), 12)]
			v.parts[k] = v.add(len(v.parts), func(width int, now time.Time) string { return v.board.of(k, now).fit(width, name) })
		}
	}
	for k, line := range v.parts {
		if !wanted[k] {
			drop(line)
			delete(v.parts, k)
		}
	}
}

func drop(line *mpb.Bar) {
	if line != nil {
		line.Abort(true)
	}
}

// Write prints lines above the bars.
func (v *bars) Write(b []byte) (int, error) { return v.container.Write(b) }

// end removes the bars.
func (v *bars) end() {
	v.update(nil)
	drop(v.whole)
	v.container.Wait()
}
