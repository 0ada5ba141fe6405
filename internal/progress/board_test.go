package progress

import (
	"strings"
	"testing"
	"time"

	"github.com/mattn/go-runewidth"

	"banger/internal/api"
)

const mib = 1 << 20

// count1 is an event that counts, in MiB.
func count1(phase, id string, done, total int64) api.Event {
	return api.Event{Phase: phase, ID: id, Done: done * mib, Total: total * mib}
}

func TestRateAndTimeLeft(t *testing.T) {
	for _, row := range []struct {
		what string
		done []int64 // in MiB, a second apart
		then time.Duration
		rate float64 // MiB per second
		left time.Duration
	}{
		{"nothing yet", []int64{0}, 0, unknown, 0},
		{"too soon to tell", []int64{0, 10}, -800 * time.Millisecond, unknown, 0},
		{"one word", []int64{10}, 4 * time.Second, unknown, 0},
		{"one word long ago", []int64{10}, 5 * time.Second, 0, 0},
		{"steady", []int64{0, 10, 20, 30}, 0, 10, 7 * time.Second},
		{"begun by an earlier try", []int64{50, 60, 70}, 0, 10, 3 * time.Second},
		{"faster now: the window is 5 s", []int64{0, 1, 2, 12, 22, 32, 42, 52}, 0, 10, 4800 * time.Millisecond},
		{"no word for some seconds", []int64{0, 10, 20}, 2 * time.Second, 5, 16 * time.Second},
		{"stalled", []int64{0, 10, 20}, 5 * time.Second, 0, 0},
		{"over again", []int64{0, 60, 0, 10, 20}, 0, 10, 8 * time.Second},
		{"all", []int64{50, 100}, 0, 50, 0},
		{"for ever", []int64{0, 0, 0, 0}, 0, 0, 0},
	} {
		now := time.Unix(0, 0)
		b := newBoard("", now)
		var c *count
		for i, done := range row.done {
			if i > 0 {
				now = now.Add(time.Second)
			}
			c = b.add(count1("copy", "", done, 100), now)
		}
		now = now.Add(row.then)
		s := c.status("copy", now)
		got := s.rate
		if got != unknown {
			got /= mib
		}
		if got != row.rate || s.left.Round(100*time.Millisecond) != row.left {
			t.Errorf("%s: got %v MiB/s and %v left, want %v and %v", row.what, got, s.left, row.rate, row.left)
		}
	}
}

// The rate of ten minutes of events takes the room of those in the window.
func TestRateForgets(t *testing.T) {
	var r rate
	for i := range int64(3000) {
		r.add(time.Unix(0, 0).Add(time.Duration(i)*tick), i)
	}
	if most := int(rateWindow/tick) + 2; len(r.marks) > most {
		t.Errorf("%d marks are kept, want at most %d", len(r.marks), most)
	}
}

// TestStatus says what one line says of a call: its events are a second apart.
func TestStatus(t *testing.T) {
	say := func(text string) api.Event { return api.Event{Message: text} }
	for _, row := range []struct {
		what   string
		events []api.Event
		want   string
		active string
	}{
		{"nothing yet", nil, "pulling (0s)", ""},
		{"a message", []api.Event{say("resolving\n\tx"), {Message: "by the way", Note: true}, {Message: "watch out", Warning: true}}, "resolving x (2s)", ""},
		{
			"fetching and converting at once", []api.Event{
				count1("fetch", "", 0, 40), count1("convert", "", 0, 60), count1("total", "", 0, 100),
				count1("fetch", "a", 10, 30), count1("convert", "a", 5, 30), count1("fetch", "b", 10, 10),
				count1("fetch", "", 20, 40), count1("convert", "", 5, 60), count1("total", "", 25, 100),
			}, "fetch: 25%, 20.0MiB of 40.0MiB, 2.5MiB/s, 18s left", "fetch a",
		},
		{
			"fetched, converting", []api.Event{
				count1("fetch", "", 0, 40), count1("convert", "", 0, 60), count1("total", "", 0, 100),
				count1("fetch", "a", 30, 30), count1("convert", "a", 5, 30),
				count1("fetch", "", 40, 40), count1("convert", "", 10, 60), count1("total", "", 50, 100),
			}, "convert: 50%, 10.0MiB of 60.0MiB, 1.7MiB/s, 5s left", "convert a",
		},
		{
			"converted",
			[]api.Event{count1("convert", "", 60, 60), count1("total", "", 60, 60), say("writing names")},
			"writing names (0s)", "",
		},
		{
			"single things, which nobody adds up",
			[]api.Event{count1("fetch", "a", 0, 10), count1("fetch", "b", 0, 30), count1("fetch", "a", 10, 10)},
			"fetch: 25%, 10.0MiB of 40.0MiB, 5.0MiB/s, 6s left", "fetch b",
		},
		{
			"a layer that is converted while it comes",
			[]api.Event{count1("convert", "a", 1, 10), count1("fetch", "a", 5, 10)},
			"fetch: 50%, 5.0MiB of 10.0MiB", "fetch a",
		},
		{
			"another phase after the total",
			[]api.Event{count1("total", "", 9, 9), count1("hash", "", 0, 10), count1("hash", "", 5, 10)},
			"hash: 50%, 5.0MiB of 10.0MiB, 5.0MiB/s, 1s left", "",
		},
	} {
		now := time.Unix(0, 0)
		b := newBoard("pulling", now)
		for i, e := range row.events {
			if i > 0 {
				now = now.Add(time.Second)
			}
			b.add(e, now)
		}
		if got := b.status(now).line(); got != row.want {
			t.Errorf("%s: got %q, want %q", row.what, got, row.want)
		}
		var active []string
		for _, k := range b.active() {
			active = append(active, k.phase+" "+k.id)
		}
		if got := strings.Join(active, ", "); got != row.active {
			t.Errorf("%s: got active %q, want %q", row.what, got, row.active)
		}
	}
}

func TestFit(t *testing.T) {
	s := status{what: "fetch", done: 21 * mib, total: 42 * mib, rate: 3.5 * mib, percent: 50, left: 6 * time.Second}
	for _, row := range []struct {
		s     status
		width int
		name  string
		want  string
	}{
		{s, 100, "", "fetch         50%     [=================>-----------------]    21.0MiB/42.0MiB     3.5MiB/s      6s"},
		{s, 80, "0123456789ab", "0123456789ab fetch    [=======>-------]    21.0MiB/42.0MiB     3.5MiB/s      6s"},
		{status{what: "convert", done: 1 * mib, total: 10 * mib, rate: unknown, percent: 60}, 80, "", "convert       60%     [=========>-----]     1.0MiB/10.0MiB            -       -"},
		{s, 70, "", "fetch         50%     [=========>--------]    21.0MiB/42.0MiB      6s"},
		{s, 60, "", "fetch         50%     [====>---]    21.0MiB/42.0MiB      6s"},
		{s, 40, "0123456789ab", "0123456789ab fetch    [===>---]      6s"},
		{s, 30, "", "fetch         50%         6s"},
		{s, 29, "", "fetch         50%         6s"},
		{s, 24, "", "fetch 50%"},
		{s, 20, "0123456789ab", "0123456789ab fetch"},
		{s, 12, "0123456789ab", "0123456789…"},
		{s, 1, "", ""},
		{s, 0, "", ""},
		{status{what: "resolving docker.io/library/debian:bookworm", lasted: 1234 * time.Millisecond}, 40, "", "resolving docker.io/library/debi…  1.2s"},
		{status{what: "flushing", lasted: time.Minute}, 40, "", "flushing  60.0s"},
		{status{what: "解凍しています解凍しています解凍しています", lasted: time.Second}, 30, "", "解凍しています解凍して…  1.0s"},
	} {
		got := row.s.fit(row.width, row.name)
		if got != row.want {
			t.Errorf("%d columns:\ngot  %q\nwant %q", row.width, got, row.want)
		}
	}
	for width := range 200 {
		for _, left := range []time.Duration{0, time.Second, 99*time.Hour + 59*time.Minute} {
			s := status{what: "convert", done: 1023 * mib, total: 1023 * mib, rate: 1e9, percent: 100, left: left}
			if got := s.fit(width, "0123456789ab"); runewidth.StringWidth(got) > max(0, width-1) {
				t.Errorf("%d columns: %q", width, got)
			}
		}
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Millisecond: "1s", 90 * time.Second: "1m30s", 59*time.Minute + 59*time.Second: "59m59s",
		65 * time.Minute: "1h5m", 2 * time.Hour: "2h0m",
	} {
		if got := duration(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

func TestRows(t *testing.T) {
	for _, row := range []struct {
		columns []int
		width   int
		want    int
	}{
		{nil, 80, 0},
		{[]int{79, 0, 40}, 80, 3},
		{[]int{79, 0, 40}, 40, 4},
		{[]int{79}, 10, 8},
		{[]int{80}, 40, 2},
	} {
		if got := rowsOf(row.columns, row.width); got != row.want {
			t.Errorf("%v in %d: got %d, want %d", row.columns, row.width, got, row.want)
		}
	}
}
