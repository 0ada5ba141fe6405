package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/agent"
)

// The phases of a boot, in order.
const (
	phaseInit    = "init"    // the kernel has started us
	phaseModules = "modules" // kernel modules are loaded
	phaseRoot    = "root"    // the root disk is mounted and as large as its device
	phaseNetwork = "network" // identity is written, addresses are set
	phaseHandoff = "handoff" // PID 1 is about to begin its work
	phaseAgent   = "agent"   // the agent waits for a host
)

// phases is the record of this boot.
type phases struct {
	mu   sync.Mutex // guards list
	list []agent.Phase
}

// sinceBoot is the time since the kernel started.
func sinceBoot() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0 // before Linux 2.6.39
	}
	return time.Duration(now.Nano())
}

// mark records that name has been reached, the first time.
func (p *phases) mark(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, phase := range p.list {
		if phase.Name == name {
			return
		}
	}
	p.list = append(p.list, agent.Phase{Name: name, At: sinceBoot()})
}

func (p *phases) all() []agent.Phase {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]agent.Phase(nil), p.list...)
}

// write leaves the record for people and for the agent that takes over.
func (p *phases) write(file string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%-10s %12s %12s\n", "phase", "since boot", "took")
	last := time.Duration(0)
	for _, phase := range p.all() {
		fmt.Fprintf(&b, "%-10s %12s %12s\n", phase.Name, phase.At.Round(10*time.Microsecond), (phase.At - last).Round(10*time.Microsecond))
		last = phase.At
	}
	return os.WriteFile(file, []byte(b.String()), 0o644)
}

// readPhases reads what write has left. A file that is not there has no phases.
func readPhases(file string) *phases {
	p := &phases{}
	text, err := os.ReadFile(file)
	if err != nil {
		return p
	}
	for line := range strings.Lines(string(text)) {
		field := strings.Fields(line)
		if len(field) != 3 {
			continue // the header
		}
		if at, err := time.ParseDuration(field[1]); err == nil {
			p.list = append(p.list, agent.Phase{Name: field[0], At: at})
		}
	}
	return p
}
