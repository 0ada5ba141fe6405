package progress

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"banger/internal/api"
)

// play shows events that are 700 ms apart, from a call that takes another 5 s.
func play(t *testing.T, mode Mode, events ...api.Event) string {
	t.Helper()
	var out strings.Builder
	synctest.Test(t, func(t *testing.T) {
		d := New(&out, mode, "pulling")
		for _, e := range events {
			d.Event(e)
			time.Sleep(700 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		d.End()
		d.End() // also after an error, by defer
		d.Event(api.Event{Message: "too late"})
	})
	return out.String()
}

var pulled = []api.Event{
	{Phase: "resolve", Message: "resolving x"},
	{Phase: "fetch", Message: "the network is bad", Warning: true},
	{Phase: "fetch", Message: "the network is bad", Warning: true},
	count1("total", "", 0, 40),
	count1("fetch", "sha256:a", 0, 40),
	count1("fetch", "sha256:a", 20, 40),
	count1("fetch", "sha256:a", 40, 40),
	{Phase: "image", Message: "a note", Note: true},
	{Phase: "flush", Message: "flushing"},
}

func TestPlain(t *testing.T) {
	got := play(t, Plain, pulled...)
	want := `resolving x
warning: the network is bad
resolving x (3s)
fetch (2s)
a note
flushing
flushing (2s)
flushing (4s)
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Whatever a call says or does not, there is a line every two seconds.
func TestNothingIsSilent(t *testing.T) {
	got := play(t, Plain)
	if want := "pulling (2s)\npulling (4s)\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNone(t *testing.T) {
	if got, want := play(t, None, pulled...), "warning: the network is bad\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestJSON(t *testing.T) {
	got := play(t, JSON, pulled...)
	var lines []Line
	for d := json.NewDecoder(strings.NewReader(got)); d.More(); {
		var l Line
		if err := d.Decode(&l); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	if len(lines) != len(pulled)-1 {
		t.Fatalf("got %d lines, want one for each event:\n%s", len(lines), got)
	}
	half := lines[4] // 20 of 40 MiB after 0.7 s
	if half.Phase != "fetch" || half.ID != "sha256:a" || half.Done != 20*mib || half.Total != 40*mib {
		t.Errorf("got %+v", half)
	}
	if rate := half.Rate / mib; rate != 28 || half.ETA != 700*time.Millisecond {
		t.Errorf("got %d MiB/s and %v, want 28 and 700ms", rate, half.ETA)
	}
	if !lines[1].Warning || lines[1].Message != "the network is bad" || !lines[6].Note {
		t.Errorf("got %+v and %+v", lines[1], lines[6])
	}
}

// Events come from several goroutines, also while the show ends.
func TestConcurrentEvents(t *testing.T) {
	for _, mode := range []Mode{Plain, JSON} {
		var out strings.Builder
		d := New(&out, mode, "")
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				for n := range int64(200) {
					d.Event(count1("fetch", string(rune('a'+i)), n, 200))
				}
			})
		}
		d.End()
		all.Wait()
	}
}
