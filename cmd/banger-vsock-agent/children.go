package main

import (
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// children starts processes and collects those that end. PID 1 also gets what
// others leave behind, so there is one place that calls wait4 for any process;
// os/exec would lose its own to it.
type children struct {
	mu    sync.Mutex // guards alive; held while a process is started or collected
	alive map[int]chan<- syscall.WaitStatus
}

// newChildren returns a collector that runs until stop is called.
func newChildren() (c *children, stop func()) {
	c = &children{alive: map[int]chan<- syscall.WaitStatus{}}
	ended, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(ended, syscall.SIGCHLD)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-ended:
				c.collect()
			case <-done:
				return
			}
		}
	})
	return c, func() {
		signal.Stop(ended)
		close(done)
		wg.Wait()
	}
}

// start runs a program; its end is sent on the channel.
func (c *children) start(file string, args []string, attr *syscall.ProcAttr) (pid int, ended <-chan syscall.WaitStatus, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer lendOOMScore()()
	pid, err = syscall.ForkExec(file, args, attr)
	if err != nil {
		return 0, nil, err
	}
	status := make(chan syscall.WaitStatus, 1)
	c.alive[pid] = status
	return pid, status, nil
}

// lendOOMScore lets a child start without the agent's own protection from the
// OOM killer, which it would inherit.
func lendOOMScore() (restore func()) {
	const score = "/proc/self/oom_score_adj"
	own, err := os.ReadFile(score)
	if err != nil || len(own) == 0 || own[0] != '-' || os.WriteFile(score, []byte("0"), 0) != nil {
		return func() {}
	}
	return func() {
		if err := os.WriteFile(score, own, 0); err != nil {
			warn("protect from the OOM killer: %v", err)
		}
	}
}

// signal sends sig to the process group that pid leads, if pid still runs.
func (c *children) signal(pid int, sig syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.alive[pid]; ok {
		_ = syscall.Kill(-pid, sig) // ESRCH: it has just ended
	}
}

// collect takes in every process that has ended, and reports whether none is
// left.
func (c *children) collect() (none bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil: // ECHILD
			return true
		case pid == 0:
			return false
		}
		if ended, ok := c.alive[pid]; ok {
			delete(c.alive, pid)
			ended <- status
		}
	}
}

// endAll ends every process of the machine: by SIGTERM, and those that are left
// after grace by SIGKILL. Only for PID 1.
func (c *children) endAll(grace time.Duration) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if c.collect() {
			return
		}
		signals := []syscall.Signal{sig}
		if sig == syscall.SIGTERM { // a shell ends by SIGHUP only, a stopped process when it goes on
			signals = append(signals, syscall.SIGHUP, syscall.SIGCONT)
		}
		for _, s := range signals {
			_ = syscall.Kill(-1, s) // all but PID 1; ESRCH: they have just ended
		}
		for deadline := time.Now().Add(grace); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
			if c.collect() {
				return
			}
		}
	}
}
