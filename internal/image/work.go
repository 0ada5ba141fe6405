package image

import (
	"sync"
	"time"

	"banger/internal/api"
	"banger/internal/oci"
)

// work adds up what is counted of single layers: all that is fetched, all that is
// converted, and both.
type work struct {
	progress api.Progress

	mu     sync.Mutex // guards all below, and the order of events
	phases map[string]*share
	told   time.Time // when the sums were last reported
}

// share is one phase's part of the work, in bytes.
type share struct {
	done        map[string]int64 // by the digest of a layer
	total, sum  int64
	wasComplete bool
}

// workPeriod is the least time between two reports of the sums.
const workPeriod = 200 * time.Millisecond

// sumUp returns a progress for layers that are about to be read: besides what it
// is told it reports the sums, of which the totals are right from the start.
func sumUp(layers []oci.Layer, p api.Progress) (api.Progress, error) {
	if p == nil {
		return nil, nil
	}
	w := newWork(p)
	for _, l := range layers {
		cached, err := l.Cached()
		if err != nil {
			return nil, err
		}
		w.expect(l, cached)
	}
	w.report()
	return w.tell, nil
}

func newWork(p api.Progress) *work {
	return &work{progress: p, phases: map[string]*share{
		api.PhaseFetch:   {done: map[string]int64{}},
		api.PhaseConvert: {done: map[string]int64{}},
	}}
}

// expect adds a layer, of which so many bytes are here.
func (w *work) expect(l oci.Layer, cached int64) {
	if cached < l.Size {
		w.phases[api.PhaseFetch].expect(l, cached)
	}
	w.phases[api.PhaseConvert].expect(l, 0)
}

// expect adds a layer, which may come again.
func (s *share) expect(l oci.Layer, done int64) {
	if _, known := s.done[l.Digest]; known {
		return
	}
	s.done[l.Digest] = done
	s.sum += done
	s.total += l.Size
}

// tell passes an event on.
func (w *work) tell(e api.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.progress(e)
	s := w.phases[e.Phase]
	if s == nil || e.Total == 0 || !s.set(e.ID, e.Done) {
		return
	}
	if fetch := w.phases[api.PhaseFetch]; e.Phase == api.PhaseConvert && fetch.done[e.ID] < e.Done {
		fetch.set(e.ID, e.Done) // another pull has fetched it
	}
	ended := s.sum == s.total && !s.wasComplete
	s.wasComplete = s.sum == s.total
	if ended || time.Since(w.told) >= workPeriod {
		w.report()
	}
}

// set says how much of a layer is done; it is false for one that is no part of
// the work.
func (s *share) set(id string, done int64) bool {
	was, known := s.done[id]
	if known {
		s.done[id] = done
		s.sum += done - was
	}
	return known
}

func (w *work) report() {
	w.told = time.Now()
	var done, total int64
	for _, phase := range []string{api.PhaseFetch, api.PhaseConvert} {
		s := w.phases[phase]
		if s.total > 0 {
			w.progress.Count(phase, "", s.sum, s.total)
		}
		done, total = done+s.sum, total+s.total
	}
	w.progress.Count(api.PhaseTotal, "", done, total)
}

// waiting is the part of a phase in which it could do nothing but wait for bytes
// of a download.
func waiting(d time.Duration) api.Phase { return api.Phase{Name: "wait for the network", Duration: d} }

// timeline is how long each phase took: each lasts from the one before.
type timeline struct {
	last   time.Time
	phases []api.Phase
}

func newTimeline() *timeline { return &timeline{last: time.Now()} }

// mark ends a phase, of which or beside which the parts were that took any time.
func (t *timeline) mark(name string, parts ...api.Phase) {
	now := time.Now()
	t.phases = append(t.phases, api.Phase{Name: name, Duration: now.Sub(t.last)})
	t.last = now
	for _, p := range parts {
		if p.Part = true; p.Duration > 0 {
			t.phases = append(t.phases, p)
		}
	}
}

// add takes over phases that another has measured since the last mark. What they
// leave of the time is of the phase that comes next.
func (t *timeline) add(phases []api.Phase) {
	t.phases = append(t.phases, phases...)
	for _, p := range phases {
		if !p.Part {
			t.last = t.last.Add(p.Duration)
		}
	}
}
