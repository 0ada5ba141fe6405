// Package agent is the protocol between host and guest, and both its ends
// except for what a guest does with its own kernel.
//
// The host connects a raw byte pipe to the guest ([Connect]) and opens streams
// on it ([Session.Open]); each stream carries one request. The verbs ([Exec],
// [Health], ...) work on any net.Conn that leads to such a stream, so the
// daemon and the supervisor in between only copy bytes. No verb needs a
// half-closed connection.
//
// In the guest a [Server] answers one host at a time and leaves the work to its
// [Handler].
//
// On the wire, all numbers big-endian:
//
//	pipe     lines     host  "\nbanger hello VERSION ID\n", repeated until acknowledged
//	                   guest "\nbanger ack VERSION ID\n", once for each ID
//	                   host  "\nbanger go ID\n"; whatever else came before it is skipped
//	         then      yamux; only the host opens streams
//	stream   frames    type (1 byte), length (4 bytes), payload
//	         first     a request in JSON, from the host
//	         then      what the verb needs; see frame.go
//
// ID is new for each connection: bytes of an earlier one that are still on
// their way can neither start a session nor end up in one. VERSION is 1.
package agent

import "time"

// PortName is the virtio-serial port that the guest looks for in
// /sys/class/virtio-ports/*/name.
const PortName = "banger.agent"

// Version is the protocol's. Host and guest come from the same build, but for
// a VM that was running when the host's part was replaced.
const Version = 1

// ConfigPath is where the initramfs holds the [Config] of this boot, as JSON.
const ConfigPath = "/banger/config.json"

// Serial numbers by which the guest finds its disks in /sys/block/*/serial.
const (
	RootSerial    = "banger-root"
	ModulesSerial = "banger-modules"
)

// Config is what one boot needs to know. It travels in the initramfs.
type Config struct {
	Hostname  string    `json:"hostname"`
	MachineID string    `json:"machine_id"` // 32 hex digits
	Time      time.Time `json:"time"`       // the host's clock when the VM was started

	// Modules are the kernel modules to load before the disks are there, in
	// order: paths in the initramfs. None means the modules of the user's initrd,
	// if it has any.
	Modules []string `json:"modules,omitempty"`

	// Init is "" for the rule of the image, "banger" for ours, or the absolute
	// path of a program in the image that becomes PID 1.
	Init string `json:"init,omitempty"`

	Network *Network `json:"network,omitempty"`
	Process Process  `json:"process"`

	// Detached starts Process at boot with its output on the console. Otherwise
	// the agent waits for an [ExecRequest] with Main set. Ours as PID 1 only.
	Detached bool `json:"detached,omitempty"`

	// Runtime files are put under the guest's /run before an init of the image
	// takes over: units, links and masks.
	Runtime []File `json:"runtime,omitempty"`
}

// File is one file or symbolic link to make in the guest, owned by root.
type File struct {
	Path    string `json:"path"`
	Mode    uint32 `json:"mode,omitempty"`    // permission bits of a regular file
	Content []byte `json:"content,omitempty"` // of a regular file
	Link    string `json:"link,omitempty"`    // target; then it is a symbolic link
}

// Network is the static address of the guest's one card.
type Network struct {
	Address string   `json:"address"` // CIDR
	Gateway string   `json:"gateway"`
	DNS     []string `json:"dns"`
}

// Process is a command and its surroundings, as the OCI image config has them.
type Process struct {
	Args []string `json:"args,omitempty"` // ENTRYPOINT and CMD joined
	Env  []string `json:"env,omitempty"`
	User string   `json:"user,omitempty"` // user[:group], names or numbers, resolved in the guest
	Dir  string   `json:"dir,omitempty"`

	// StopSignal asks the command to end: "SIGTERM", "TERM" or "15"; "" is SIGTERM.
	StopSignal string `json:"stop_signal,omitempty"`
}

// Info is the agent's answer to a health request.
type Info struct {
	Version string        `json:"version"` // of the protocol
	Init    string        `json:"init"`    // PID 1: "systemd", "banger" or a path
	Phases  []Phase       `json:"phases"`
	Uptime  time.Duration `json:"uptime_ns"`
}

// Phase is a point on the guest's way up, by its monotonic clock since the
// kernel started.
type Phase struct {
	Name string        `json:"name"` // "init", "modules", "root", "network", "handoff", "agent"
	At   time.Duration `json:"at_ns"`
}
