package image

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"banger/internal/api"
	"banger/internal/oci"
)

// One layer is here, one was begun by an earlier pull, and one comes twice.
func TestSumsOfLayers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		w := newWork(func(e api.Event) {
			if e.ID == "" {
				got = append(got, fmt.Sprint(e.Phase, " ", e.Done, "/", e.Total))
			}
		})
		w.expect(oci.Layer{Digest: "here", Size: 100}, 100)
		w.expect(oci.Layer{Digest: "begun", Size: 40}, 30)
		w.expect(oci.Layer{Digest: "begun", Size: 40}, 30)
		w.expect(oci.Layer{Digest: "new", Size: 10}, 0)
		p := api.Progress(w.tell)
		want := func(what string, lines ...string) {
			t.Helper()
			if !slices.Equal(got, lines) {
				t.Errorf("%s: got %q, want %q", what, got, lines)
			}
			got = nil
			time.Sleep(workPeriod)
		}
		w.report()
		want("at the start", "fetch 30/50", "convert 0/150", "total 30/200")
		p.Count(api.PhaseFetch, "begun", 30, 40)
		want("the first count of what was begun", "fetch 30/50", "convert 0/150", "total 30/200")
		p.Count(api.PhaseConvert, "here", 60, 100)
		p.Count(api.PhaseFetch, "begun", 35, 40) // at once: no second report
		want("both phases", "fetch 30/50", "convert 60/150", "total 90/200")
		p.Count(api.PhaseFetch, "begun", 0, 40) // it was damaged
		want("over again", "fetch 0/50", "convert 60/150", "total 60/200")
		p.Count(api.PhaseHash, "begun", 7, 40)
		p.Count(api.PhaseFetch, "stranger", 7, 40)
		want("what is none of it")
		p.Count(api.PhaseConvert, "begun", 20, 40) // another pull has fetched it
		want("converted without a word of its fetching", "fetch 20/50", "convert 80/150", "total 100/200")
		p.Count(api.PhaseFetch, "begun", 40, 40)
		p.Count(api.PhaseFetch, "new", 10, 10) // at once, but the last
		want("all fetched", "fetch 40/50", "convert 80/150", "total 120/200", "fetch 50/50", "convert 80/150", "total 130/200")
	})
}

func TestTimeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newTimeline()
		time.Sleep(time.Second)
		line.mark("one", waiting(time.Millisecond), waiting(0))
		time.Sleep(time.Minute)
		line.add([]api.Phase{{Name: "theirs", Duration: 59 * time.Second}, {Name: "beside", Duration: time.Hour, Part: true}})
		time.Sleep(2 * time.Second)
		line.mark("two")
		want := []api.Phase{
			{Name: "one", Duration: time.Second},
			{Name: "wait for the network", Duration: time.Millisecond, Part: true},
			{Name: "theirs", Duration: 59 * time.Second},
			{Name: "beside", Duration: time.Hour, Part: true},
			{Name: "two", Duration: 3 * time.Second},
		}
		if !slices.Equal(line.phases, want) {
			t.Errorf("got %+v, want %+v", line.phases, want)
		}
	})
}
