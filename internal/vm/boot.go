package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"banger/internal/agent"
	"banger/internal/api"
	"banger/internal/vmm"
)

// boot starts the machine and waits for its agent. After an error nothing runs.
func (s *supervisor) boot(ctx context.Context) (vmm.Instance, error) {
	limit := s.spec.BootTimeout
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the guest's agent did not answer within %v", limit))
	defer cancel()
	in, err := s.tryBoot(ctx)
	if err != nil && context.Cause(ctx) != nil {
		err = context.Cause(ctx)
	}
	// The VMM has read it, and the next start makes its own.
	if err := os.Remove(s.spec.Machine.Initramfs); err != nil {
		s.log.Warn("remove the initramfs", "error", err)
	}
	return in, err
}

func (s *supervisor) tryBoot(ctx context.Context) (vmm.Instance, error) {
	t := timeline{board: s.board, last: time.Now()}
	if err := s.writeInitramfs(); err != nil {
		return nil, err
	}
	t.mark("initramfs", time.Now())
	if err := s.driver.Probe(ctx); err != nil {
		return nil, err
	}
	in, err := s.driver.Start(ctx, s.spec.Machine)
	if err != nil {
		return nil, err
	}
	how := in.Info()
	for _, w := range how.Warnings {
		s.board.add(api.Event{Phase: "boot", Message: w, Warning: true})
	}
	t.mark("accelerator", how.StartedAt) // the choice of one, with what was tried in vain
	if !how.FirstOutput.IsZero() {
		t.mark("vmm", how.FirstOutput)
	}
	if err := s.board.set(func(st *state) { st.PID, st.Accel = how.PID, how.Accel }); err != nil {
		return nil, errors.Join(err, destroy(in))
	}
	info, err := s.answer(ctx, in)
	if err != nil {
		return nil, errors.Join(err, destroy(in))
	}
	if a, ok := in.(vmm.Answerer); ok {
		a.Answered()
	}
	t.guest(info, time.Now())
	err = s.board.set(func(st *state) {
		if st.State == api.VMStarting { // and not stopping
			st.State = api.VMRunning
		}
		st.Init, st.Phases = info.Init, append(st.Phases, t.phases...)
	})
	if err != nil {
		return nil, errors.Join(err, destroy(in))
	}
	return in, nil
}

// answer waits for the agent's first answer, or for the end of the machine.
func (s *supervisor) answer(ctx context.Context, in vmm.Instance) (agent.Info, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := in.Wait(ctx)
		if ctx.Err() != nil {
			return
		}
		early := errors.New("the machine ended before its agent had answered")
		if err != nil {
			early = fmt.Errorf("%w: %w", early, err)
		}
		cancel(early)
	}()
	info, err := s.link.up(ctx, s.life, in)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	cancel(nil)
	<-ended
	return info, err
}

// mainEnded keeps the exit status of the guest's main process.
func (s *supervisor) mainEnded(status agent.ExitStatus) {
	if err := s.board.set(func(st *state) { st.ExitStatus = &status.Code }); err != nil {
		s.log.Warn("write state", "error", err)
	}
}

func (s *supervisor) writeInitramfs() error {
	f, err := os.OpenFile(s.spec.Machine.Initramfs, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(s.initramfs(f, s.spec), f.Close()); err != nil {
		return fmt.Errorf("make the initramfs: %w", err)
	}
	return nil
}

// timeline turns points in time into phases: each lasts from the one before.
type timeline struct {
	board  *board
	last   time.Time
	phases []api.Phase
}

func (t *timeline) mark(name string, at time.Time) {
	t.phases = append(t.phases, api.Phase{Name: name, Duration: at.Sub(t.last)})
	t.last = at
}

// guest adds the phases of the guest, whose clock begins some time after its
// kernel (timekeeping_init); how long, the answer tells that came just now.
func (t *timeline) guest(info agent.Info, answered time.Time) {
	before := -max(0, answered.Sub(t.last)-info.Uptime)
	for i, p := range info.Phases {
		name := p.Name
		if i == 0 {
			name = "kernel" // until the first of our code runs
		}
		t.phases = append(t.phases, api.Phase{Name: name, Duration: p.At - before})
		before = p.At
	}
	t.phases = append(t.phases, api.Phase{Name: "answer", Duration: info.Uptime - before})
}
