package main

import (
	"testing"
	"testing/synctest"
	"time"

	"banger/internal/agent"
)

// A main process that starts by itself may be faster than the host: the machine
// stays until somebody knows how it ended.
func TestEarlyEndIsToldToTheHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMainProcess()
		begin := time.Now()
		m.awaitHost(time.Minute)
		if waited := time.Since(begin); waited != 0 {
			t.Errorf("waited %v for a main process that has not ended", waited)
		}
		m.status = agent.ExitStatus{Code: 4}
		close(m.ended)
		go func() {
			time.Sleep(3 * time.Second)
			if err := m.wait(nil, func(s agent.ExitStatus) {
				if s.Code != 4 {
					t.Errorf("the host was told %+v, want 4", s)
				}
			}); err != nil {
				t.Error(err)
			}
		}()
		m.awaitHost(time.Minute)
		if waited := time.Since(begin); waited != 3*time.Second {
			t.Errorf("waited %v, want until the host had asked", waited)
		}
		silent := newMainProcess()
		close(silent.ended)
		begin = time.Now()
		silent.awaitHost(time.Minute)
		if waited := time.Since(begin); waited != time.Minute {
			t.Errorf("waited %v for a host that never asks, want a minute", waited)
		}
	})
}
