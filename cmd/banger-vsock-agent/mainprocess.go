package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/agent"
	"banger/internal/api"
)

// mainProcess is the one process whose end is the machine's.
type mainProcess struct {
	ended chan struct{} // closed when status is set
	told  chan struct{} // closed when one who waited has been told so

	mu      sync.Mutex // guards all below
	taken   bool
	pid     int // 0 when it does not run
	status  agent.ExitStatus
	closed  bool           // nobody reports any more
	once    sync.Once      // closes told
	reports sync.WaitGroup // under way, of how it ended
}

func newMainProcess() *mainProcess {
	return &mainProcess{ended: make(chan struct{}), told: make(chan struct{})}
}

// run runs the main process and reports its end by exit.
func (m *mainProcess) run(c *children, j job, exit func(agent.ExitStatus)) error {
	if err := m.report(func() error {
		if m.taken {
			return fmt.Errorf("main process: %w", api.ErrInUse)
		}
		m.taken = true
		return nil
	}); err != nil {
		return err
	}
	defer m.reports.Done()
	j.started = func(pid int) {
		m.mu.Lock()
		m.pid = pid
		m.mu.Unlock()
	}
	status := c.run("/", j)
	m.mu.Lock()
	m.pid, m.status = 0, status
	m.mu.Unlock()
	close(m.ended)
	exit(status)
	return nil
}

// wait reports how the main process ended.
func (m *mainProcess) wait(gone <-chan struct{}, exit func(agent.ExitStatus)) error {
	if err := m.report(func() error { return nil }); err != nil {
		return err
	}
	defer m.reports.Done()
	select {
	case <-m.ended:
		exit(m.status)
		m.once.Do(func() { close(m.told) })
	case <-gone:
	}
	return nil
}

// awaitHost waits until somebody has been told how the main process ended, but
// not longer than limit. One that started by itself may end before the host has
// asked for the first time.
func (m *mainProcess) awaitHost(limit time.Duration) {
	select {
	case <-m.ended:
	default:
		return // it is the machine that ends
	}
	select {
	case <-m.told:
	case <-time.After(limit):
	}
}

// report begins a report, unless it is too late or allowed says no.
func (m *mainProcess) report(allowed func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return errors.New("the machine is going down")
	}
	if err := allowed(); err != nil {
		return err
	}
	m.reports.Add(1)
	return nil
}

// stop ends the main process if it runs: by sig, and after grace by SIGKILL.
func (m *mainProcess) stop(sig syscall.Signal, grace time.Duration) {
	if !m.signal(sig) {
		return
	}
	select {
	case <-m.ended:
	case <-time.After(grace):
		m.signal(syscall.SIGKILL)
		<-m.ended
	}
}

// signal sends sig to the main process; false when there is none.
func (m *mainProcess) signal(sig syscall.Signal) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pid != 0 && syscall.Kill(m.pid, sig) == nil
}

// close waits until all who ask know how the main process ended, but not
// longer than limit. Of one that was never started nobody will know anything.
func (m *mainProcess) close(limit time.Duration) {
	m.mu.Lock()
	m.closed = true
	taken := m.taken
	m.mu.Unlock()
	if !taken {
		return
	}
	done := make(chan struct{})
	go func() {
		m.reports.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}

// stopSignal is what an image's StopSignal means: "SIGTERM", "TERM" or "15".
func stopSignal(name string) syscall.Signal {
	if n, err := strconv.Atoi(name); err == nil && n > 0 && n <= 64 {
		return syscall.Signal(n)
	}
	if sig := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(name), "SIG")); sig != 0 {
		return sig
	}
	return syscall.SIGTERM
}
