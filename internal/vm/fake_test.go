package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"banger/internal/agent"
	"banger/internal/vmm"
)

// The test binary is also the supervisor: "vm.test fake-supervise MODE --dir DIR".
func TestMain(m *testing.M) {
	if len(os.Args) == 5 && os.Args[1] == "fake-supervise" {
		log := slog.New(slog.NewTextHandler(os.Stderr, nil))
		if os.Args[2] == "broken" {
			fmt.Fprintln(os.Stderr, "no such thing as a supervisor")
			os.Exit(2)
		}
		initramfs := func(w io.Writer, s spec) error {
			_, err := fmt.Fprintf(w, "initramfs of %s", s.Config.Hostname)
			return err
		}
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := inherit(ctx, os.Args[4], &fakeDriver{os.Args[2]}, log, initramfs); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// fakeDriver runs no VMM: the guest is a goroutine that answers as an agent
// does. The mode says what is wrong with it:
//
//	ok         nothing
//	mute       the agent never answers
//	dies       the machine ends before the agent answers
//	fails      the VMM does not start
//	stubborn   it does not power off
type fakeDriver struct{ mode string }

func (d *fakeDriver) Probe(context.Context) error { return nil }

func (d *fakeDriver) Start(_ context.Context, m vmm.Machine) (vmm.Instance, error) {
	initramfs, err := os.ReadFile(m.Initramfs)
	if err != nil {
		return nil, err
	}
	if d.mode == "fails" {
		return nil, errors.New("bad hardware")
	}
	l, err := net.Listen("unix", filepath.Join(m.RunDir, "agent.sock"))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	g := &fakeGuest{
		machine: m, mode: d.mode, listener: l, done: make(chan struct{}), mainEnded: make(chan struct{}),
		info: vmm.Info{PID: os.Getpid(), Accel: "tcg", StartedAt: now, FirstOutput: now, Warnings: []string{"no KVM here"}},
	}
	if err := g.print(fmt.Sprintf("booting with %s\n", initramfs)); err != nil {
		return nil, err
	}
	switch d.mode {
	case "mute": // connections wait in the backlog
	case "dies":
		time.AfterFunc(50*time.Millisecond, func() { g.end(errors.New("out of luck")) })
	default:
		go g.serve()
	}
	return g, nil
}

// fakeGuest is a machine and its main process.
type fakeGuest struct {
	machine  vmm.Machine
	mode     string
	listener net.Listener
	info     vmm.Info

	mu    sync.Mutex // guards conn, clock
	conn  net.Conn
	clock time.Time

	once      sync.Once
	done      chan struct{}
	err       error
	mainOnce  sync.Once
	mainEnded chan struct{}
}

func (g *fakeGuest) serve() {
	for {
		conn, err := g.listener.Accept()
		if err != nil {
			return
		}
		g.mu.Lock()
		g.conn = conn
		g.mu.Unlock()
		_ = (&agent.Server{Handler: fakeAgent{g}}).Serve(conn)
	}
}

func (g *fakeGuest) end(err error) {
	g.once.Do(func() {
		g.err = err
		_ = g.listener.Close()
		g.mu.Lock()
		if g.conn != nil {
			_ = g.conn.Close()
		}
		g.mu.Unlock()
		close(g.done)
	})
}

func (g *fakeGuest) print(text string) error {
	f, err := os.OpenFile(filepath.Join(g.machine.Dir, vmm.ConsoleLog), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func (g *fakeGuest) Dial(ctx context.Context) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", g.listener.Addr().String())
}

func (g *fakeGuest) Kill() error { g.end(nil); return nil }

func (g *fakeGuest) Wait(ctx context.Context) error {
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *fakeGuest) Info() vmm.Info { return g.info }

// fakeAgent is the agent in a fakeGuest.
type fakeAgent struct{ *fakeGuest }

func (fakeAgent) Health() agent.Info {
	return agent.Info{Init: "banger", Uptime: 760 * time.Millisecond, Phases: []agent.Phase{
		{Name: "init", At: 500 * time.Millisecond}, {Name: "root", At: 700 * time.Millisecond}, {Name: "agent", At: 750 * time.Millisecond},
	}}
}

func (g fakeAgent) SetTime(now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.clock = now
	return nil
}

func (g fakeAgent) PowerOff(time.Duration) {
	if g.mode != "stubborn" {
		time.AfterFunc(20*time.Millisecond, func() { g.end(nil) })
	}
}

// Exec knows a few commands.
func (g fakeAgent) Exec(call *agent.Call) error {
	switch call.Args[0] {
	case "clock": // prints the time that was set, and returns 3
		g.mu.Lock()
		defer g.mu.Unlock()
		fmt.Fprint(call.Stdout, g.clock.Format(time.RFC3339Nano))
		call.Exit(agent.ExitStatus{Code: 3})
	case "exit": // ends the main process
		g.mainOnce.Do(func() { close(g.mainEnded) })
		call.Exit(agent.ExitStatus{})
	case "break": // ends the session
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.conn.Close()
	case "panic":
		g.PowerOff(0)
		return g.print("Kernel panic - not syncing: Attempted to kill init!\n")
	}
	return nil
}

// Wait is that for the main process, which ends with 7.
func (g fakeAgent) Wait(gone <-chan struct{}, exit func(agent.ExitStatus)) error {
	select {
	case <-gone:
	case <-g.mainEnded:
		exit(agent.ExitStatus{Code: 7})
		g.PowerOff(0)
	}
	return nil
}
