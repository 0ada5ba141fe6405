package oci

import (
	"time"

	"banger/internal/api"
)

// progressPeriod is the least time between two reports of one count.
const progressPeriod = 200 * time.Millisecond

// meter reports a count of bytes, not too often.
type meter struct {
	progress    api.Progress
	phase, id   string
	done, total int64
	last        time.Time
}

func newMeter(p api.Progress, phase, id string, total int64) *meter {
	return &meter{progress: p, phase: phase, id: id, total: total, last: time.Now()}
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
