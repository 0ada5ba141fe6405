package vm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"banger/internal/agent"
	"banger/internal/vmm"
)

// link is the connection to a guest's agent, made again when it breaks.
type link struct {
	log    *slog.Logger
	exited func(agent.ExitStatus) // called when the guest's main process has ended

	keeper sync.WaitGroup

	mu      sync.Mutex // guards session
	session *agent.Session
}

// relinkInterval is how often an agent that is gone is looked for. A guest that
// is still in the old session needs 200 ms to notice its end.
const relinkInterval = 500 * time.Millisecond

// errNoAgent is of a guest whose agent is not up yet, or has died.
var errNoAgent = errors.New("the guest's agent does not answer")

// up waits for the agent, for as long as ctx allows, sets the guest's clock, and
// then keeps the link for as long as life lasts.
func (l *link) up(ctx, life context.Context, in vmm.Instance) (agent.Info, error) {
	s, info, err := meet(ctx, in)
	for err != nil && !errors.Is(err, errors.ErrUnsupported) {
		// It may be the machine that ends: ctx will tell, if we wait for it.
		select {
		case <-ctx.Done():
			return info, err
		case <-time.After(relinkInterval):
		}
		s, info, err = meet(ctx, in)
	}
	if err != nil {
		return info, err
	}
	l.set(s)
	l.keeper.Go(func() { l.keep(life, in, s) })
	return info, nil
}

// meet connects to the agent and greets it.
func meet(ctx context.Context, in vmm.Instance) (*agent.Session, agent.Info, error) {
	s, err := connect(ctx, in)
	if err != nil {
		return nil, agent.Info{}, err
	}
	info, err := greet(ctx, s)
	if err != nil {
		return nil, info, errors.Join(err, s.Close())
	}
	return s, info, nil
}

func connect(ctx context.Context, in vmm.Instance) (*agent.Session, error) {
	conn, err := in.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return agent.Connect(ctx, conn)
}

// greet sets the clock and asks how the guest is.
func greet(ctx context.Context, s *agent.Session) (agent.Info, error) {
	conn, err := s.Open(ctx)
	if err != nil {
		return agent.Info{}, err
	}
	if err := agent.SetTime(ctx, conn, time.Now()); err != nil {
		return agent.Info{}, err
	}
	if conn, err = s.Open(ctx); err != nil {
		return agent.Info{}, err
	}
	return agent.Health(ctx, conn)
}

// keep sees to it that there is a session until life ends, and listens on each
// for the end of the main process.
func (l *link) keep(life context.Context, in vmm.Instance, s *agent.Session) {
	for {
		var listener sync.WaitGroup
		listener.Go(func() { l.listen(life, s) })
		select {
		case <-life.Done():
		case <-s.Done():
		}
		l.set(nil)
		if err := s.Close(); err != nil {
			l.log.Warn("close the session", "error", err)
		}
		listener.Wait()
		for s = nil; s == nil; {
			select {
			case <-life.Done():
				return
			case <-time.After(relinkInterval):
			}
			var err error
			if s, err = connect(life, in); err != nil && life.Err() == nil {
				l.log.Warn("the agent is gone", "error", err)
			}
		}
		l.log.Info("the agent is back")
		l.set(s)
	}
}

// listen reports the end of the guest's main process. A guest whose PID 1 is not
// ours has none.
func (l *link) listen(life context.Context, s *agent.Session) {
	conn, err := s.Open(life)
	if err != nil {
		return
	}
	status, err := agent.Wait(life, conn)
	switch {
	case err == nil:
		l.exited(status)
	case life.Err() == nil && !errors.Is(err, errors.ErrUnsupported):
		l.log.Info("wait for the main process", "error", err)
	}
}

func (l *link) set(s *agent.Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.session = s
}

// open returns a stream to the agent.
func (l *link) open(ctx context.Context) (net.Conn, error) {
	l.mu.Lock()
	s := l.session
	l.mu.Unlock()
	if s == nil {
		return nil, errNoAgent
	}
	conn, err := s.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoAgent, err)
	}
	return conn, nil
}

// powerOff asks the guest to end.
func (l *link) powerOff(ctx context.Context, grace time.Duration) error {
	conn, err := l.open(ctx)
	if err != nil {
		return err
	}
	return agent.PowerOff(ctx, conn, grace)
}

// wait returns when nothing of the link is left. Its life must have ended.
func (l *link) wait() { l.keeper.Wait() }
