package progress

import (
	"sync"
	"time"

	"banger/internal/api"
)

// board is what is known of a call.
type board struct {
	mu     *sync.Mutex // guards all below
	counts map[key]*count
	order  []key // as they came
	doing  string
	since  time.Time // when it was begun
}

// key is what a count is of.
type key struct{ phase, id string }

// count is how far something has come.
type count struct {
	done, total int64
	rate        rate
	sum         bool // it adds up those of its phase that have an ID
}

func newBoard(what string, now time.Time) board {
	return board{mu: new(sync.Mutex), counts: map[key]*count{}, doing: what, since: now}
}

// add takes an event in. It returns the count that the event is of.
func (b *board) add(e api.Event, now time.Time) *count {
	b.mu.Lock()
	defer b.mu.Unlock()
	doing := e.Phase // what is counted is being done, also when it is all done
	if e.Total <= 0 {
		doing = e.Message
	}
	if doing != "" && doing != b.doing && doing != api.PhaseTotal && !e.Note && !e.Warning {
		b.doing, b.since = doing, now
	}
	if e.Total <= 0 {
		return nil
	}
	c := b.set(key{e.Phase, e.ID}, e.Done, e.Total, now)
	if whole := b.counts[key{e.Phase, ""}]; e.ID != "" && (whole == nil || whole.sum) {
		var done, total int64
		for k, one := range b.counts {
			if k.phase == e.Phase && k.id != "" {
				done, total = done+one.done, total+one.total
			}
		}
		b.set(key{e.Phase, ""}, done, total, now).sum = true
	}
	return c
}

func (b *board) set(k key, done, total int64, now time.Time) *count {
	c := b.counts[k]
	if c == nil {
		c = &count{}
		b.counts[k] = c
		b.order = append(b.order, k)
	}
	if done < c.done {
		c.rate = rate{} // from the start
	}
	c.done, c.total = done, total
	c.rate.add(now, done)
	return c
}

// left returns how long a count takes at this rate until it ends; 0 when that
// cannot be said.
func (c *count) left(perSecond float64) time.Duration {
	const most = 100 * time.Hour // nobody believes more
	if rest := float64(c.total - c.done); rest > 0 && rest < perSecond*most.Seconds() {
		return time.Duration(rest / perSecond * float64(time.Second))
	}
	return 0
}

// active returns the things with an ID that are being worked at: of each the
// first phase that is under way.
func (b *board) active() []key {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []key
	at := map[string]int{} // by ID
	for _, k := range b.order {
		if c := b.counts[k]; k.id == "" || c.done >= c.total {
			continue
		}
		if i, known := at[k.id]; !known {
			at[k.id] = len(all)
			all = append(all, k)
		} else if k.phase == api.PhaseFetch {
			all[i] = k
		}
	}
	return all
}

// status is what can be said in one line, of a call or of a part of it.
type status struct {
	what        string
	done, total int64   // total 0: it is not counted
	rate        float64 // bytes per second, or unknown
	percent     int
	left        time.Duration // 0: cannot be said
	lasted      time.Duration // of what is not counted
}

// of returns the status of one thing.
func (b *board) of(k key, now time.Time) status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.counts[k].status(k.phase, now)
}

func (c *count) status(what string, now time.Time) status {
	perSecond := c.rate.perSecond(now)
	return status{
		what: what, done: c.done, total: c.total, rate: perSecond,
		percent: int(float64(c.done) / float64(c.total) * 100), left: c.left(perSecond),
	}
}

// status returns that of the call: of what is counted now, and else of what is
// being done. While layers are fetched and converted at once, the fetching is
// what one looks at, but percents and the time left are of both.
func (b *board) status(now time.Time) status {
	b.mu.Lock()
	defer b.mu.Unlock()
	var current key
	for _, k := range b.order {
		c := b.counts[k]
		if k.id != "" || k.phase == api.PhaseTotal || c.done >= c.total {
			continue
		}
		current = k
		if k.phase == api.PhaseFetch {
			break
		}
	}
	if current.phase == "" {
		return status{what: b.doing, lasted: now.Sub(b.since)}
	}
	s := b.counts[current].status(current.phase, now)
	if all := b.counts[key{api.PhaseTotal, ""}]; all != nil && (current.phase == api.PhaseFetch || current.phase == api.PhaseConvert) {
		whole := all.status("", now)
		s.percent, s.left = whole.percent, whole.left
	}
	return s
}

// rateWindow is how far back a rate looks.
const rateWindow = 5 * time.Second

// unknown is the rate of what has only begun.
const unknown = -1

// rate is how fast a count has grown of late.
type rate struct {
	marks []mark // oldest first; the first one may be older than the window
}

type mark struct {
	at   time.Time
	done int64
}

func (r *rate) add(at time.Time, done int64) {
	r.marks = append(r.marks, mark{at, done})
	for len(r.marks) > 2 && at.Sub(r.marks[1].at) >= rateWindow {
		r.marks = r.marks[1:]
	}
}

// perSecond returns the bytes per second, or unknown; 0 is a rate as well, of what
// has not moved for the whole window.
func (r *rate) perSecond(now time.Time) float64 {
	marks := r.marks
	for len(marks) > 1 && now.Sub(marks[1].at) >= rateWindow {
		marks = marks[1:]
	}
	first, last := marks[0], marks[len(marks)-1]
	took := now.Sub(first.at)
	if took < 250*time.Millisecond || len(marks) == 1 && took < rateWindow {
		return unknown
	}
	return float64(last.done-first.done) / took.Seconds()
}
