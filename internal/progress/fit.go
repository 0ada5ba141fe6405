package progress

import (
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/mattn/go-runewidth"
)

// fit is a status as a line of at most so many columns; a name makes it one of
// several. What matters least goes first: the rate, the bytes, the bar.
func (s status) fit(width int, name string) string {
	width-- // the last column makes some terminals go on to the next line
	if width < 1 {
		return ""
	}
	if s.total == 0 {
		lasted := fmt.Sprintf("  %.1fs", s.lasted.Seconds())
		return runewidth.Truncate(oneLine(s.what), max(0, width-len(lasted)), "…") + lasted
	}
	head := fmt.Sprintf("%-12s %3d%%   ", s.what, s.percent)
	if name != "" {
		head = fmt.Sprintf("%-12s %-7s", name, s.what)
	}
	left := "-"
	if s.left > 0 {
		left = duration(s.left)
	}
	tail := fmt.Sprintf("  %6s", left)
	rest := width - len(head) - len(tail)
	if rest < 0 {
		return runewidth.Truncate(strings.Join(strings.Fields(head), " "), width, "…")
	}
	bytes := fmt.Sprintf("  %17s", size(s.done)+"/"+size(s.total))
	rate := "-"
	if s.rate != unknown {
		rate = size(int64(s.rate)) + "/s"
	}
	rate = fmt.Sprintf("  %11s", rate)
	if rest >= len(bytes)+len(rate)+leastBar+2 {
		bytes += rate
	}
	if rest >= len(bytes)+leastBar+2 {
		tail, rest = bytes+tail, rest-len(bytes)
	}
	return head + bar(min(rest-2, 40), s.percent) + tail
}

// leastBar is how many columns a bar has at least.
const leastBar = 8

// bar draws a bar of so many columns, with two before it; none when it is too
// short to say anything.
func bar(width, percent int) string {
	if width < leastBar {
		return ""
	}
	inner := width - 2
	full := inner * percent / 100
	tip := ""
	if full < inner {
		tip = ">"
	}
	return "  [" + strings.Repeat("=", full) + tip + strings.Repeat("-", inner-full-len(tip)) + "]"
}

// line is a status in words.
func (s status) line() string {
	if s.total == 0 {
		return fmt.Sprintf("%s (%v)", oneLine(s.what), s.lasted.Round(time.Second))
	}
	line := fmt.Sprintf("%s: %d%%, %s of %s", s.what, s.percent, size(s.done), size(s.total))
	if s.rate != unknown {
		line += ", " + size(int64(s.rate)) + "/s"
	}
	if s.left > 0 {
		line += ", " + duration(s.left) + " left"
	}
	return line
}

// size prints bytes for a person.
func size(bytes int64) string {
	return units.CustomSize("%.1f%s", float64(bytes), 1024, []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"})
}

// duration prints a time that is left: nobody wants fractions.
func duration(d time.Duration) string {
	d = max(d.Round(time.Second), time.Second)
	if d >= time.Hour {
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return d.String()
}

// oneLine makes one line of a message.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
