// Package api holds the plain data that rows, the HTTP API and --json share:
// images, kernels, VMs, the requests and results of each verb, progress events
// and errors. It has no behaviour beyond turning an [Error] into text.
//
// Sizes are bytes in int64 unless the name says otherwise; times are RFC 3339
// in JSON.
package api

import "time"

// Image is a bootable disk in the store: what `image list` shows.
type Image struct {
	ID       string   `json:"id"`       // 12 lower-case hex digits, made at random
	Name     string   `json:"name"`     // the one it was asked for by, else its oldest; "" when it has lost all to newer images
	Names    []string `json:"names"`    // all, the oldest first; no two images share one
	Ref      string   `json:"ref"`      // what it was made from, normalized; "" when registered, "vm:<name>" when promoted
	Digest   string   `json:"digest"`   // manifest digest of the source; "" when it has none
	Platform string   `json:"platform"` // "linux/amd64"
	Managed  bool     `json:"managed"`  // the files are ours: rm deletes them

	RootfsPath string `json:"rootfs_path"`
	KernelRef  string `json:"kernel_ref"`  // name in the kernel store it was staged from; "" when by path or none
	KernelPath string `json:"kernel_path"` // "" until a kernel is known
	InitrdPath string `json:"initrd_path"`
	ModulesDir string `json:"modules_dir"` // path of modules.ext4; "" for none

	SizeBytes      int64     `json:"size_bytes"`      // apparent size of rootfs.ext4
	AllocatedBytes int64     `json:"allocated_bytes"` // blocks on the host's disk
	RootfsModTime  time.Time `json:"rootfs_mtime"`    // when the row was made
	CreatedAt      time.Time `json:"created_at"`

	Process  Process     `json:"process"`
	Source   Source      `json:"source"`
	Added    []AddedFile `json:"added,omitempty"` // what we put into it; missing too when an older build made it
	Warnings []Warning   `json:"warnings,omitempty"`
	Phases   []Phase     `json:"phases,omitempty"` // how long each step of making it took; not kept, only a pull says it
}

// Process is what an image runs and how, from the OCI image config
// (image-spec config.md: Entrypoint, Cmd, Env, User, WorkingDir, StopSignal).
type Process struct {
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	Env        []string `json:"env,omitempty"` // "KEY=value"
	User       string   `json:"user,omitempty"`
	WorkingDir string   `json:"working_dir,omitempty"`
	StopSignal string   `json:"stop_signal,omitempty"`
}

// Warning is something a conversion did that a careful user wants to know.
type Warning struct {
	Kind    string `json:"kind"`            // stable, such as "mtime-clamped"; the CLI shows one line for each
	Layer   string `json:"layer,omitempty"` // digest
	Path    string `json:"path,omitempty"`
	Message string `json:"message"`
}

// Kernel is a bootable kernel in the store: a directory with a manifest.
type Kernel struct {
	Name    string `json:"name"`
	Release string `json:"release"` // as uname -r prints it
	Arch    string `json:"arch"`    // "amd64"
	Source  string `json:"source"`  // "debian linux-image-6.1.0-40-cloud-amd64 6.1.153-1", "import /boot/vmlinuz"

	KernelPath string `json:"kernel_path"` // vmlinux
	InitrdPath string `json:"initrd_path"` // "" for none
	ModulesDir string `json:"modules_dir"` // path of modules.ext4; "" for none

	SHA256    map[string]string `json:"sha256"` // file name in the directory to hex digest
	SizeBytes int64             `json:"size_bytes"`
	Default   bool              `json:"default"`
	CreatedAt time.Time         `json:"created_at"`
}

// VMState is where a VM is in its life.
type VMState string

// The states of a VM.
const (
	VMCreated  VMState = "created"
	VMStarting VMState = "starting"
	VMRunning  VMState = "running" // the agent has answered
	VMStopping VMState = "stopping"
	VMStopped  VMState = "stopped"
	VMFailed   VMState = "failed" // Reason says why
)

// Live says whether s is of a VM that has a process.
func (s VMState) Live() bool { return s == VMStarting || s == VMRunning || s == VMStopping }

// VM is an owned, named machine.
type VM struct {
	ID        string  `json:"id"`   // 12 lower-case hex digits
	Name      string  `json:"name"` // unique
	ImageID   string  `json:"image_id"`
	ImageName string  `json:"image_name"`
	State     VMState `json:"state"`
	Reason    string  `json:"reason,omitempty"` // of a failed VM: the cause and the console's tail
	Ephemeral bool    `json:"ephemeral"`        // removed when it ends

	CPUs      int   `json:"cpus"`
	MemoryMiB int   `json:"memory_mib"`
	DiskBytes int64 `json:"disk_bytes"`

	Dir        string    `json:"dir"` // its directory: disk, console.log, state.json
	PID        int       `json:"pid,omitempty"`
	Accel      string    `json:"accel,omitempty"` // "kvm" or "tcg"
	Init       string    `json:"init,omitempty"`  // what is PID 1: "systemd", "banger" or a path
	ExitStatus *int      `json:"exit_status,omitempty"`
	Phases     []Phase   `json:"phases,omitempty"`
	CreatedAt  time.Time `json:"created_at"`
	StartedAt  time.Time `json:"started_at,omitzero"`
}

// Phase is one timed step of a boot or a pull.
type Phase struct {
	Name     string        `json:"name"`
	Duration time.Duration `json:"duration_ns"`
	Part     bool          `json:"part,omitempty"` // of, or beside, the last one before it that is not: no part of the sum
}
