package oci

import "sync"

// lines counts the connections by which the blobs of one pull come. Each blob
// under way has one; a large blob takes more while fewer than max are in use.
type lines struct {
	max int

	mu   sync.Mutex // guards used
	used int
}

// join takes a connection that a blob cannot do without.
func (l *lines) join() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used++
}

// joinSpare takes a connection if one is to spare.
func (l *lines) joinSpare() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.used >= l.max {
		return false
	}
	l.used++
	return true
}

// crowded says that another blob needs what was to spare.
func (l *lines) crowded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.used > l.max
}

func (l *lines) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used--
}
