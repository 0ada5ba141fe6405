package progress

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/mattn/go-runewidth"

	"banger/internal/api"
)

// screen is a terminal: what is written to it ends up in rows. It knows what we
// need, and fails a test that makes it do more.
type screen struct {
	t    *testing.T
	tty  *os.File // to write to
	cols int

	mu       sync.Mutex // guards all below
	rows     [][]rune
	row, col int
	escape   []rune // a sequence that has begun
	widest   int
}

func newScreen(t *testing.T, cols int) *screen {
	t.Helper()
	master, tty, err := pty.Open()
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	s := &screen{t: t, tty: tty, cols: cols}
	if err := pty.Setsize(master, &pty.Winsize{Cols: uint16(cols), Rows: 24}); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		buf := make([]byte, 64<<10)
		for {
			n, err := master.Read(buf) // whole frames: each is one write
			s.write(string(buf[:n]))
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		tty.Close()
		<-read
		master.Close()
	})
	return s
}

func (s *screen) write(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range text {
		switch {
		case len(s.escape) > 0:
			s.sequence(r)
		case r == '\x1b':
			s.escape = []rune{r}
		case r == '\r':
			s.col = 0
		case r == '\n':
			s.row++
		default:
			s.put(r)
		}
	}
}

func (s *screen) put(r rune) {
	width := runewidth.RuneWidth(r)
	if s.col+width > s.cols {
		s.row, s.col = s.row+1, 0
	}
	for len(s.rows) <= s.row {
		s.rows = append(s.rows, nil)
	}
	line := s.rows[s.row]
	for len(line) < s.col+width {
		line = append(line, ' ')
	}
	line[s.col] = r
	s.rows[s.row] = line
	s.col += width
	s.widest = max(s.widest, s.col)
}

// sequence takes the next rune of a control sequence (ECMA-48, 5.4).
func (s *screen) sequence(r rune) {
	s.escape = append(s.escape, r)
	if len(s.escape) == 2 && r == '[' || r >= '0' && r <= '9' {
		return
	}
	arg, _ := strconv.Atoi(string(s.escape[2 : len(s.escape)-1]))
	erase := func(row, col int) {
		if row < len(s.rows) {
			s.rows[row] = s.rows[row][:min(col, len(s.rows[row]))]
		}
	}
	switch r {
	case 'A':
		if s.row -= arg; s.row < 0 {
			s.t.Errorf("the cursor goes %d rows above the first", -s.row)
			s.row = 0
		}
	case 'K':
		erase(s.row, s.col)
	case 'J':
		erase(s.row, s.col)
		s.rows = s.rows[:min(len(s.rows), s.row+1)]
	default:
		s.t.Errorf("control sequence %q: a cursor that is hidden, or a colour", string(s.escape))
	}
	s.escape = nil
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, line := range s.rows {
		b.WriteString(strings.TrimRight(string(line), " ") + "\n")
	}
	return strings.TrimRight(b.String(), "\n")
}

// until waits for the screen to be as want says.
func (s *screen) until(what string, want func(text string) bool) string {
	s.t.Helper()
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		text := s.text()
		if want(text) {
			return text
		}
		if time.Since(start) > 10*time.Second {
			s.t.Fatalf("%s: the screen is\n%s", what, text)
		}
	}
}

func TestBars(t *testing.T) {
	for _, cols := range []int{120, 80, 40, 20} {
		t.Run(strconv.Itoa(cols), func(t *testing.T) {
			t.Parallel()
			s := newScreen(t, cols)
			d := New(s.tty, TTY, "pulling")
			s.until("no bars", func(text string) bool { return strings.HasPrefix(text, "pulling") })
			d.Event(api.Event{Phase: "resolve", Message: "resolving x"})
			d.Event(count1("total", "", 0, 60))
			d.Event(count1("fetch", "sha256:aaaa", 5, 20))
			d.Event(count1("fetch", "sha256:bbbb", 0, 20))
			text := s.until("two layers and the whole", func(text string) bool { return strings.Count(text, "\n") == 2 })
			if lines := strings.Split(text, "\n"); !strings.HasPrefix(lines[0], "aaaa") || !strings.HasPrefix(lines[1], "bbbb") || !strings.HasPrefix(lines[2], "fetch") {
				t.Errorf("the screen is\n%s", text)
			}
			long := strings.Repeat("a long warning ", 10)
			d.Event(api.Event{Phase: "fetch", Message: long, Warning: true})
			d.Event(count1("fetch", "sha256:aaaa", 20, 20)) // it collapses
			warning := func(text string) bool {
				return strings.Contains(strings.ReplaceAll(text, "\n", ""), "warning: a long") && !strings.Contains(text, "aaaa")
			}
			s.until("a warning above one layer", func(text string) bool {
				lines := strings.Split(text, "\n")
				n := len(lines)
				return warning(text) && n > 2 && strings.HasPrefix(lines[n-2], "bbbb") && strings.HasPrefix(lines[n-1], "fetch")
			})
			d.Event(api.Event{Phase: "image", Message: "a note", Note: true})
			s.until("a note above the bars", func(text string) bool { return strings.Contains(text, "\na note\n") })
			_, _ = s.tty.WriteString("^C") // which the terminal shows of who interrupts
			d.End()
			text = s.until("the end", func(text string) bool { return strings.HasSuffix(text, "\na note") && warning(text) })
			if strings.Contains(text, "[") || strings.Contains(text, "bbbb") || strings.Contains(text, "^C") {
				t.Errorf("left on the screen:\n%s", text)
			}
			if s.widest > cols {
				t.Errorf("%d columns were used", s.widest)
			}
		})
	}
}

// A call that is over at once leaves no more than what it has said.
func TestShortCallHasNoBars(t *testing.T) {
	s := newScreen(t, 80)
	d := New(s.tty, TTY, "looking")
	d.Event(count1("fetch", "a", 1, 2))
	d.Event(api.Event{Message: "found", Note: true})
	d.End()
	_, _ = s.tty.WriteString("result\n")
	s.until("the result", func(text string) bool { return text == "found\nresult" })
}

// A terminal that has no size has bars all the same.
func TestTerminalWithoutASize(t *testing.T) {
	s := newScreen(t, 80)
	if err := pty.Setsize(s.tty, &pty.Winsize{}); err != nil {
		t.Fatal(err)
	}
	d := New(s.tty, TTY, "pulling")
	d.Event(count1("fetch", "", 5, 20))
	s.until("a bar", func(text string) bool { return strings.HasPrefix(text, "fetch") && strings.Contains(text, "[==") })
	d.End()
	s.until("nothing", func(text string) bool { return text == "" })
}

// Bars follow a window that becomes narrower, line by line.
func TestTerminalOfAnotherWidth(t *testing.T) {
	s := newScreen(t, 80)
	term := newTerminal(s.tty)
	frame := func(lines ...string) {
		for _, l := range lines {
			term.WriteString(l + "\n")
		}
		if err := term.Flush(len(lines)); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = s.tty.WriteString("$ banger\n")
	frame(strings.Repeat("a", 70), "b")
	s.until("the first frame", func(text string) bool { return strings.HasSuffix(text, "a\nb") })
	// The window's rows are laid out again, as terminals do.
	s.mu.Lock()
	s.cols = 40
	s.rows = [][]rune{[]rune("$ banger"), []rune(strings.Repeat("a", 40)), []rune(strings.Repeat("a", 30)), []rune("b")}
	s.row = 4
	s.mu.Unlock()
	if err := pty.Setsize(s.tty, &pty.Winsize{Cols: 40, Rows: 24}); err != nil {
		t.Fatal(err)
	}
	frame("c", "d")
	s.until("the second frame", func(text string) bool { return text == "$ banger\nc\nd" })
	frame()
	s.until("nothing", func(text string) bool { return text == "$ banger" })
}
