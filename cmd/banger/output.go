package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/docker/go-units"
)

// Results go to standard output, everything else to standard error.

// printJSON prints v as the API has it, indented.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// table prints rows below a header in aligned columns.
func table(w io.Writer, header []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = escape(cell)
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	return t.Flush()
}

// size prints bytes for a person.
func size(bytes int64) string { return units.BytesSize(float64(bytes)) }

// age prints how long ago t was.
func age(t time.Time) string { return units.HumanDuration(time.Since(t)) + " ago" }

// parseSize reads a size such as 512M or 4G; the units are powers of 1024.
func parseSize(flag, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := units.RAMInBytes(text)
	if err != nil || n <= 0 {
		return 0, usageError{fmt.Errorf("--%s %s: want a size such as 512M or 4G", flag, text)}
	}
	return n, nil
}

// escape makes text from images and guests fit for one line of output: a name may
// hold anything, also what moves the cursor, turns the direction of writing, or
// looks like a line of ours. It shows such characters as Go writes them.
func escape(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case unicode.IsGraphic(r):
			b.WriteString(s[:n])
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[n:]
	}
	return b.String()
}

// escapeLines does the same to text of several lines. All but the first are set in,
// so that none of them can be taken for a line of ours.
func escapeLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = escape(strings.TrimSuffix(line, "\r"))
	}
	return strings.Join(lines, "\n  ")
}

// fields prints what a show command shows, leaving out what is not there.
func (c *cli) fields(all [][2]string) {
	for _, f := range all {
		if f[1] != "" {
			fmt.Fprintf(c.stdout, "%-11s %s\n", f[0], escape(f[1]))
		}
	}
}

// quoteAll prints a command line so that its arguments can be told apart.
func quoteAll(args []string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = a
		if a == "" || strings.ContainsAny(a, " \t\n\"'\\$`;&|<>()*?") {
			quoted[i] = strconv.Quote(a)
		}
	}
	return strings.Join(quoted, " ")
}
