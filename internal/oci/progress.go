package oci

import (
	"sync"
	"time"

	"banger/internal/api"
)

// progressPeriod is the least time between two reports of one count.
const progressPeriod = 200 * time.Millisecond

// meter reports a count of bytes: its start, and then not too often.
type meter struct {
	progress    api.Progress
	phase, id   string
	done, total int64
	last        time.Time
}

func newMeter(p api.Progress, phase, id string, total int64) *meter {
	return &meter{progress: p, phase: phase, id: id, total: total}
}

func (m *meter) add(n int64) {
	m.done += n
	if now := time.Now(); now.Sub(m.last) >= progressPeriod {
		m.last = now
		m.progress.Count(m.phase, m.id, m.done, m.total)
	}
}

// end makes the last report.
func (m *meter) end() { m.progress.Count(m.phase, m.id, m.done, m.total) }

// stopwatch measures how long something has lasted in all.
type stopwatch struct {
	mu    sync.Mutex // guards all below
	since time.Time  // when it was started; zero when it does not run
	total time.Duration
}

func (w *stopwatch) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since = time.Now()
}

func (w *stopwatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.total, w.since = w.total+time.Since(w.since), time.Time{}
}

// read returns the time in all, also while it runs.
func (w *stopwatch) read() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since.IsZero() {
		return w.total
	}
	return w.total + time.Since(w.since)
}
