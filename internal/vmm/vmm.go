// Package vmm says what a virtual machine monitor must do for us. A [Machine]
// is hardware as data; a [Driver] turns it into a running [Instance]. The
// drivers live in the packages below this one.
package vmm

import (
	"context"
	"net"
	"time"
)

// Machine is the hardware of one VM and what it boots.
type Machine struct {
	Name      string `json:"name"`
	Arch      string `json:"arch"` // "amd64"
	CPUs      int    `json:"cpus"`
	MemoryMiB int    `json:"memory_mib"`

	Kernel    string   `json:"kernel"`    // path of a vmlinux
	Initramfs string   `json:"initramfs"` // path of a cpio
	Cmdline   []string `json:"cmdline"`   // beyond what the driver needs for its console and clock

	Accel string `json:"accel"` // "kvm", "tcg", or "auto": the first of them that works; "" is "auto"

	Disks   []Disk `json:"disks"`
	Network bool   `json:"network"` // one user-mode network card: see [GuestAddress]

	Dir    string `json:"dir"`     // the VM's directory: console.log, as [ConsoleLog], is written there
	RunDir string `json:"run_dir"` // this VM's own directory for sockets; a short path
}

// ConsoleLog is the file in Machine.Dir that holds what the guest wrote to its
// console since it was started. A full one, and that of the start before, moves
// to ConsoleLog + ".1".
const ConsoleLog = "console.log"

// Addresses on the network of a machine with Network set: the same in every
// machine, for each has a network of its own.
const (
	GuestAddress = "10.0.2.15/24"
	GuestGateway = "10.0.2.2"
	GuestDNS     = "10.0.2.3"
)

// Disk is one raw block device. The guest finds it by Serial, not by order.
type Disk struct {
	Path     string `json:"path"`
	Serial   string `json:"serial"` // at most 20 bytes (virtio-blk VIRTIO_BLK_ID_BYTES)
	ReadOnly bool   `json:"read_only"`
}

// Driver runs machines with one VMM program.
type Driver interface {
	// Probe says whether the driver can work on this host. The error says what
	// is missing and how to get it.
	Probe(ctx context.Context) error
	// Start runs m, and returns when its console has shown a first sign of life
	// or the driver has no reason to wait for one. Cancelling ctx after Start has
	// returned does nothing.
	Start(ctx context.Context, m Machine) (Instance, error)
}

// Instance is a running machine.
type Instance interface {
	// Dial connects to the agent's port, the guest's end of which may not be
	// listening yet. Only one connection at a time makes sense.
	Dial(ctx context.Context) (net.Conn, error)
	// Kill ends the machine at once. Killing a dead one is no error.
	Kill() error
	// Wait returns when the machine is gone; it may be called by several. The
	// error says why the VMM failed; a guest that powers off and a machine that
	// was killed by Kill are no failures.
	Wait(ctx context.Context) error
	// Info says how it runs.
	Info() Info
}

// Info is how an instance runs.
type Info struct {
	PID         int       // of the VMM process
	Accel       string    // "kvm" or "tcg"
	StartedAt   time.Time // when the VMM process was started that now runs
	FirstOutput time.Time // when the first byte came from its console; zero: none yet
	Warnings    []string  // fallbacks taken, for the user
}

// Answerer is implemented by instances that want to know that the guest's agent
// has answered: the proof that the accelerator works with this kernel.
type Answerer interface{ Answered() }
