package main

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/agent"
	"banger/internal/api"
)

// guest does what hosts ask for. It is the agent.Handler of both forms of PID 1.
type guest struct {
	cfg      agent.Config
	init     string
	phases   *phases
	children *children
	powerOff func(grace time.Duration)

	main *mainProcess // nil unless we are PID 1
}

// ready is called when the agent waits for a host.
func (g *guest) ready() {
	g.phases.mark(phaseAgent)
	if err := g.phases.write(phasesPath); err != nil {
		warn("write boot phases: %v", err)
	}
}

// Health implements agent.Handler.
func (g *guest) Health() agent.Info {
	return agent.Info{Version: fmt.Sprint(agent.Version), Init: g.init, Phases: g.phases.all(), Uptime: sinceBoot()}
}

// SetTime implements agent.Handler.
func (g *guest) SetTime(now time.Time) error {
	ts := unix.NsecToTimespec(now.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set clock: %w", err)
	}
	return nil
}

// PowerOff implements agent.Handler.
func (g *guest) PowerOff(grace time.Duration) { g.powerOff(grace) }

// Exec implements agent.Handler.
func (g *guest) Exec(call *agent.Call) error {
	j := g.job(call.ExecRequest)
	j.stdout, j.stderr = call.Stdout, call.Stderr
	j.resize, j.signals, j.gone = call.Resize, call.Signals, call.Gone
	if call.ExecRequest.Stdin {
		j.stdin = call.Stdin
	}
	if !call.Main {
		call.Exit(g.children.run("/", j))
		return nil
	}
	if g.main == nil {
		return fmt.Errorf("main process: PID 1 is %s: %w", g.init, api.ErrInvalid)
	}
	return g.main.run(g.children, j, call.Exit)
}

// job fills in what the request leaves to the image. The image's own working
// directory is there in every container, even if no layer has made it.
func (g *guest) job(r agent.ExecRequest) job {
	p := g.cfg.Process
	if r.Main && len(r.Args) == 0 {
		r.Args = p.Args
	}
	if r.User == "" {
		r.User = p.User
	}
	makeDir := r.Main || r.Dir == ""
	if r.Dir == "" {
		r.Dir = p.Dir
	}
	r.Env = mergeEnv(p.Env, r.Env)
	return job{ExecRequest: r, makeDir: makeDir}
}

// Wait implements agent.Handler.
func (g *guest) Wait(gone <-chan struct{}, exit func(agent.ExitStatus)) error {
	if g.main == nil {
		return fmt.Errorf("main process: PID 1 is %s: %w", g.init, api.ErrInvalid)
	}
	return g.main.wait(gone, exit)
}

// askInit asks an init of the image to end the machine.
func (g *guest) askInit(grace time.Duration) {
	sig := stopSignal(g.cfg.Process.StopSignal)
	if g.init == initSystemd {
		// As its own reboot would: on power off a machine without ACPI stays there,
		// halted. SIGRTMIN+5; systemd(1), SIGNALS.
		sig = syscall.Signal(34 + 5)
	}
	if err := syscall.Kill(1, sig); err != nil {
		warn("power off: %v", err)
	}
	if g.init != initSystemd {
		// What the others do with a signal is up to them, such as nothing.
		time.AfterFunc(grace, func() {
			settle()
			restart()
		})
	}
}
