package vm

import (
	"sync"

	"banger/internal/api"
)

// board is where a supervisor makes known how its VM is: in state.json and to
// whoever watches.
type board struct {
	path string // of state.json

	mu      sync.Mutex // guards all below
	state   state
	events  []api.Event   // all of this start
	changed chan struct{} // closed, and replaced, at each change
}

func newBoard(path string, s state) *board {
	return &board{path: path, state: s, changed: make(chan struct{})}
}

// set changes the state.
func (b *board) set(change func(*state)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.state)
	b.wake()
	// Written under the lock, so that an older state never overwrites a newer.
	return writeJSON(b.path, b.state, false)
}

// add reports an event.
func (b *board) add(e api.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, e)
	b.wake()
}

func (b *board) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// look returns the state, the events after the first n, and a channel that is
// closed when there is more.
func (b *board) look(n int) (state, []api.Event, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state, b.events[n:], b.changed
}
