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

	Disks   []Disk `json:"disks"`
	Network bool   `json:"network"` // one user-mode network card

	Dir    string `json:"dir"`     // the VM's directory: console.log and the driver's own files
	RunDir string `json:"run_dir"` // short path for sockets
}

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
	// Start runs m. Cancelling ctx after Start has returned does nothing.
	Start(ctx context.Context, m Machine) (Instance, error)
}

// Instance is a running machine.
type Instance interface {
	// Dial connects to the agent's port, the guest's end of which may not be
	// listening yet. Only one connection at a time makes sense.
	Dial(ctx context.Context) (net.Conn, error)
	// Kill ends the machine at once. Killing a dead one is no error.
	Kill() error
	// Wait returns when the machine is gone; it may be called by several.
	Wait(ctx context.Context) error
	// Info says how it runs.
	Info() Info
}

// Info is how an instance runs.
type Info struct {
	PID       int       // of the VMM process
	Accel     string    // "kvm" or "tcg"
	StartedAt time.Time // when the VMM process was started that now runs
	Warnings  []string  // fallbacks taken, for the user
}

// Answerer is implemented by instances that want to know that the guest's agent
// has answered: the proof that the accelerator works with this kernel.
type Answerer interface{ Answered() }
