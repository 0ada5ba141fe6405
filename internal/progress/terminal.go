package progress

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/mattn/go-runewidth"
	"golang.org/x/term"
)

// terminal is where bars are drawn; it is an mpb.ConsoleWriter. That of mpb takes
// each line of a frame for a row of the screen. In a window that has become
// narrower since the frame was drawn a line goes on in the next row, and its rest
// would stay there for good.
type terminal struct {
	bytes.Buffer // the next frame, below lines that are to stay
	out          *os.File
	frame        []int // columns of the lines of the frame on the screen
}

func newTerminal(w io.Writer) *terminal {
	out, _ := w.(*os.File)
	return &terminal{out: out}
}

// IsTerminal makes mpb draw.
func (t *terminal) IsTerminal() bool { return t.out != nil }

// GetTermSize returns the size in columns and rows. One that nobody has set is 0:
// on a serial line, and where a program makes a terminal for another.
func (t *terminal) GetTermSize() (width, height int, err error) {
	width, height, err = term.GetSize(int(t.out.Fd()))
	if width == 0 || height == 0 {
		width, height = 80, 24
	}
	return width, height, err
}

// Flush puts the frame, which is the last lines written, in the place of the one
// before. It writes over that one: what is erased first flickers.
func (t *terminal) Flush(lines int) error {
	width, _, err := t.GetTermSize()
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if rows := rowsOf(t.frame, width); rows > 0 {
		// To the first column, for the terminal has shown the ^C of who interrupts.
		fmt.Fprintf(&out, "\r"+cursorUp, rows)
	}
	all := bytes.SplitAfter(t.Bytes(), []byte("\n"))
	all = all[:len(all)-1] // nothing follows the last newline
	above := all[:max(0, len(all)-lines)]
	if len(above) > 0 {
		out.WriteString(eraseBelow) // they may be longer than a row
	}
	for _, line := range above {
		out.Write(line)
	}
	t.frame = t.frame[:0]
	for _, line := range all[len(above):] {
		text := bytes.TrimSuffix(line, []byte("\n"))
		t.frame = append(t.frame, runewidth.StringWidth(string(text)))
		out.Write(text)
		out.WriteString(eraseRight + "\n")
	}
	out.WriteString(eraseBelow)
	t.Reset()
	_, err = t.out.Write(out.Bytes())
	return err
}

// Control sequences of ECMA-48.
const (
	cursorUp   = "\x1b[%dA" // CUU
	eraseRight = "\x1b[K"   // EL: to the end of the row
	eraseBelow = "\x1b[J"   // ED: to the end of the screen
)

// rowsOf returns how many rows lines of so many columns take in a terminal of a
// width.
func rowsOf(columns []int, width int) int {
	rows := 0
	for _, n := range columns {
		rows += max(1, (n+width-1)/max(1, width))
	}
	return rows
}
