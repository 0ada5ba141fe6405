// Package qemu runs machines with QEMU: the microvm board on x86-64, with KVM
// where that works and with QEMU's software emulation (TCG) where it does not.
// [Driver] is the way in.
//
// A /dev/kvm that opens proves nothing: nested and sandboxed hosts have one
// under which QEMU aborts, or under which a real kernel never prints a byte
// while QEMU says that it runs. So "auto" believes in KVM only when a boot of
// the same kernel has been answered by its agent since the host was started.
// Until then the kernel gets three seconds to print something, and a machine
// that stays silent is killed and started again under TCG. The kernel command
// line therefore begins with earlyprintk, before quiet: the kernel's first lines
// are printed within milliseconds.
//
// QEMU has no privileges beyond its user's, a seccomp filter that denies it new
// processes and privileges, and no monitor but QMP on a socket that only this
// driver has. It dies with the process that started it.
//
// The guest's network is QEMU's user-mode one. The guest reaches what the host's
// user reaches, and the host's loopback through 10.0.2.2: do not run a hostile
// guest with a network where that matters. Nothing reaches the guest.
package qemu

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"time"

	"banger/internal/api"
	"banger/internal/vmm"
)

// Driver runs x86-64 machines. The zero value works.
type Driver struct {
	Binary   string       // path or name in $PATH; "" is qemu-system-x86_64
	StateDir string       // what is known of KVM on this host is kept here; "": it is tried anew each time
	Log      *slog.Logger // nil is silent

	kvmDevice string // "" is /dev/kvm
}

// How long a kernel may take to its first byte on the console. Under KVM it is
// some 50 ms, under TCG 300 ms on an idle host.
const (
	trialPatience = 3 * time.Second  // of a KVM that has not proved itself
	kvmPatience   = 15 * time.Second // of a KVM the user insists on
)

// Probe implements [vmm.Driver].
func (d *Driver) Probe(context.Context) error {
	_, err := d.binary()
	return err
}

func (d *Driver) binary() (string, error) {
	name := d.Binary
	if name == "" {
		name = "qemu-system-x86_64"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", api.Hint(fmt.Errorf("find QEMU: %w", err), "apt-get install qemu-system-x86")
	}
	return path, nil
}

// Start implements [vmm.Driver].
func (d *Driver) Start(ctx context.Context, m vmm.Machine) (vmm.Instance, error) {
	if m.Arch != "amd64" {
		return nil, fmt.Errorf("start machine %s: QEMU guests of architecture %q: %w", m.Name, m.Arch, errors.ErrUnsupported)
	}
	binary, err := d.binary()
	if err != nil {
		return nil, err
	}
	if err := rotateConsoleLog(m.Dir); err != nil {
		return nil, fmt.Errorf("start machine %s: %w", m.Name, err)
	}
	in, err := d.start(ctx, launch{binary: binary, machine: m, log: d.log()})
	if err != nil {
		return nil, fmt.Errorf("start machine %s: %w", m.Name, err)
	}
	return in, nil
}

func (d *Driver) start(ctx context.Context, l launch) (*instance, error) {
	proof := d.proof(l.machine.Kernel)
	switch l.machine.Accel {
	case "tcg":
		return l.tcg(ctx)
	case "kvm":
		if err := d.kvmUsable(); err != nil {
			return nil, err
		}
		in, err := l.kvm(ctx, kvmPatience)
		if err != nil {
			return nil, api.Hint(fmt.Errorf("with KVM: %w", err), "--accel tcg works without KVM, slower")
		}
		in.proof = proof
		return in, nil
	case "", "auto":
		return d.auto(ctx, l, proof)
	}
	return nil, fmt.Errorf("%w accelerator %q: want auto, kvm or tcg", api.ErrInvalid, l.machine.Accel)
}

// auto takes KVM when it works and says why when it does not.
func (d *Driver) auto(ctx context.Context, l launch, proof proof) (*instance, error) {
	fallback := func(why string) (*instance, error) {
		in, err := l.tcg(ctx)
		if in != nil {
			in.warnings = append(in.warnings, why)
			d.log().Warn("software emulation", "machine", l.machine.Name, "reason", why)
		}
		return in, err
	}
	if err := d.kvmUsable(); err != nil {
		why := err.Error() + ": using software emulation, which is slower"
		if hint := api.HintOf(err); hint != "" {
			why += "; " + hint
		}
		return fallback(why)
	}
	patience := trialPatience
	switch proof.read() {
	case kvmFails:
		return fallback("KVM has not booted this kernel since the host was started: using software emulation, which is slower; --accel kvm tries again")
	case kvmWorks:
		patience = kvmPatience
	}
	in, err := l.kvm(ctx, patience)
	switch {
	case err == nil:
		in.proof = proof
		return in, nil
	case ctx.Err() != nil:
		return nil, err
	}
	in, tcgErr := fallback("KVM does not work on this host (" + firstLine(err) + "): using software emulation, which is slower")
	if tcgErr != nil {
		return nil, tcgErr // most likely it was not KVM's fault
	}
	if !in.firstOutput().IsZero() {
		if err := proof.write(kvmFails); err != nil {
			d.log().Warn("KVM will be tried again", "error", err)
		}
	}
	return in, nil
}

func (d *Driver) log() *slog.Logger {
	if d.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return d.Log
}
