package main

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/agent"
)

const (
	// reportLimit is how long the end of the main process may take to reach
	// those who asked. It is a little longer than the protocol waits.
	reportLimit = 1200 * time.Millisecond

	// hostLimit is how long a host may take to ask for the first time: a busy one
	// that emulates us is slow, too.
	hostLimit = 30 * time.Second

	// lastGrace is what processes have that the main process left behind.
	lastGrace = 2 * time.Second
)

// stay is PID 1 for images without an init. It returns only with an error.
func stay(cfg agent.Config, record *phases) error {
	mountForPrograms()
	likeContainers()
	device, err := findPort()
	if err != nil {
		return err
	}
	collector, stop := newChildren()
	defer stop()
	off := make(chan time.Duration, 1)
	g := &guest{
		cfg: cfg, init: initBanger, phases: record, children: collector, main: newMainProcess(),
		powerOff: func(grace time.Duration) {
			select {
			case off <- grace:
			default: // it is going down already
			}
		},
	}
	record.mark(phaseHandoff)
	go servePort(&agent.Server{Handler: g}, device, g.ready) // ends with the machine
	if cfg.Detached {
		go g.runDetached()
	}
	g.live(off)

	if cfg.Detached {
		g.main.awaitHost(hostLimit)
	}
	g.main.close(reportLimit)
	collector.endAll(lastGrace)
	settle()
	restart()
	return nil
}

// runDetached runs the image's command with its output on the console.
func (g *guest) runDetached() {
	j := g.job(agent.ExecRequest{Main: true})
	j.stdout, j.stderr = os.Stdout, os.Stderr
	err := g.main.run(g.children, j, func(status agent.ExitStatus) {
		if status.Reason != "" {
			warn("main process: %s", status.Reason)
		}
	})
	if err != nil {
		warn("%v", err)
	}
}

// live passes signals on to the main process until that ends or the machine is
// asked to. In a container the main process is PID 1, and programs made for one
// send it signals as such; those it cannot get mean the machine.
func (g *guest) live(off <-chan time.Duration) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGPWR)
	defer signal.Stop(signals)
	stop := stopSignal(g.cfg.Process.StopSignal)
	for {
		select {
		case <-g.main.ended:
			return
		case grace := <-off:
			g.main.stop(stop, grace)
			return
		case s := <-signals:
			switch sig := s.(syscall.Signal); {
			case g.main.signal(sig):
			case sig == syscall.SIGTERM, sig == syscall.SIGINT, sig == syscall.SIGPWR, sig == syscall.SIGUSR1, sig == syscall.SIGUSR2:
				return
			}
		}
	}
}

// likeContainers sets what container engines set for their programs: limits as
// systemd has them, ports below 1024 and ping for everyone.
func likeContainers() {
	if err := syscall.Setrlimit(unix.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 1024, Max: 512 << 10}); err != nil {
		warn("init: limit open files: %v", err)
	}
	for name, value := range map[string]string{
		"ip_unprivileged_port_start": "0",
		"ping_group_range":           "0 2147483647",
	} {
		if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0); err != nil && !os.IsNotExist(err) {
			warn("init: set %s: %v", name, err)
		}
	}
}
