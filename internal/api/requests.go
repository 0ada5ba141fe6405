package api

// KernelChoice names a kernel by reference or by path: the same for pull and
// register. The zero value means the store's default.
type KernelChoice struct {
	KernelRef  string `json:"kernel_ref,omitempty"`  // name in the store; then there are no paths
	KernelPath string `json:"kernel_path,omitempty"` // vmlinux, vmlinuz, Image, or a linux-image package
	InitrdPath string `json:"initrd_path,omitempty"` // goes with KernelPath
	ModulesDir string `json:"modules_dir,omitempty"` // directory /lib/modules/<release>; goes with KernelPath
}

// ImagePull is the request of image.pull.
type ImagePull struct {
	Ref  string `json:"ref"`
	Name string `json:"name,omitempty"` // derived from Ref when empty
	KernelChoice
	SizeBytes    int64  `json:"size_bytes,omitempty"`     // 0: from the content
	Platform     string `json:"platform,omitempty"`       // "os/arch[/variant]"; "": linux on the host's architecture
	Insecure     bool   `json:"insecure,omitempty"`       // plain HTTP to any registry
	NoGuestFiles bool   `json:"no_guest_files,omitempty"` // the image alone, nothing of ours
	Limits       Limits `json:"limits,omitzero"`          // what it may cost
}

// Limits are what an image may cost before it is refused as an attack. They are
// far from what images need: who trusts one that needs more can allow it.
type Limits struct {
	Bytes         int64 `json:"bytes,omitempty"`          // of all layers uncompressed, and of all files; 0: 64 GiB
	Ratio         int64 `json:"ratio,omitempty"`          // of a layer's uncompressed bytes beyond 4 GiB to its stored ones; 0: 200
	Entries       int64 `json:"entries,omitempty"`        // in all layers; 0: 5,000,000
	MetadataBytes int64 `json:"metadata_bytes,omitempty"` // of names, symlinks and extended attributes; 0: 1 GiB
}

// ImageRegister is the request of image.register.
type ImageRegister struct {
	Name       string `json:"name"`
	RootfsPath string `json:"rootfs_path"`    // a file that holds an ext4 file system
	Copy       bool   `json:"copy,omitempty"` // into the store; else it is used where it is
	KernelChoice
}

// ImagePromote is the request of image.promote.
type ImagePromote struct {
	VM   string `json:"vm"`             // name or ID of one that does not run
	Name string `json:"name,omitempty"` // of the VM when empty
}

// ImageTag is the request of image.tag.
type ImageTag struct {
	Image string `json:"image"` // name or ID
	Name  string `json:"name"`  // one more
}

// ImageRemove is the request of image.rm.
type ImageRemove struct {
	Name  string `json:"name"`            // or ID
	Force bool   `json:"force,omitempty"` // remove the VMs that use it first, and all of its names
}

// ImageRemoved is the result of image.rm.
type ImageRemoved struct {
	Image   Image    `json:"image"`         // as it was
	Deleted bool     `json:"deleted"`       // false: only the name went, the image has others
	VMs     []string `json:"vms,omitempty"` // removed with it
}

// Prune is the request of image.prune and system.prune.
type Prune struct {
	All    bool `json:"all,omitempty"` // what nothing uses, not only what nothing names
	DryRun bool `json:"dry_run,omitempty"`
}

// Named is the request of the verbs that take one name or ID.
type Named struct {
	Name string `json:"name"` // or ID, of what has one
}

// KernelPull is the request of kernel.pull.
type KernelPull struct {
	Source string `json:"source"`         // "debian"
	Name   string `json:"name,omitempty"` // when empty Source, with the architecture if that is not the host's
	Arch   string `json:"arch,omitempty"` // "amd64" or "arm64"; the host's when empty
}

// KernelImport is the request of kernel.import.
type KernelImport struct {
	Path       string `json:"path"` // vmlinuz or vmlinux
	ModulesDir string `json:"modules_dir,omitempty"`
	InitrdPath string `json:"initrd_path,omitempty"`
	Name       string `json:"name,omitempty"` // the release when empty
	Replace    bool   `json:"replace,omitempty"`
}

// KernelDefault is the request of kernel.default.
type KernelDefault struct {
	Name string `json:"name,omitempty"` // becomes the default; empty: only tell
}

// KernelRemove is the request of kernel.rm.
type KernelRemove struct {
	Name  string `json:"name"`
	Force bool   `json:"force,omitempty"` // although images were made with it; they keep their copies
}

// SystemCheck is the request of system.check.
type SystemCheck struct {
	Repair bool `json:"repair,omitempty"`
}

// VMCreate is the request of vm.create: a VM that does not run yet.
type VMCreate struct {
	Name      string   `json:"name,omitempty"`       // made up when empty
	Image     string   `json:"image"`                // name or ID
	CPUs      int      `json:"cpus,omitempty"`       // 0: 2, or as many as there are
	MemoryMiB int      `json:"memory_mib,omitempty"` // 0: 1024, or a quarter of what there is
	DiskBytes int64    `json:"disk_bytes,omitempty"` // 0: that of the image
	Ephemeral bool     `json:"ephemeral,omitempty"`  // removed when it stops
	Init      string   `json:"init,omitempty"`       // "", "banger" or an absolute path in the image
	Cmd       []string `json:"cmd,omitempty"`        // replaces the image's CMD
	Env       []string `json:"env,omitempty"`        // added to the image's ENV
	User      string   `json:"user,omitempty"`       // user[:group] instead of the image's
	WorkDir   string   `json:"workdir,omitempty"`    // instead of the image's
}

// VMStart is the request of vm.start.
type VMStart struct {
	Name   string `json:"name"`
	Accel  string `json:"accel,omitempty"`  // "auto", "kvm" or "tcg"
	Detach bool   `json:"detach,omitempty"` // the main process starts by itself, its output on the console
}

// VMExec is the request of vm.exec.
type VMExec struct {
	Name  string `json:"name"`
	Owner bool   `json:"owner,omitempty"` // an ephemeral VM is removed when this stream ends
}

// VMStop is the request of vm.stop.
type VMStop struct {
	Name           string `json:"name"`
	TimeoutSeconds int    `json:"timeout_seconds,omitempty"` // then it is killed; 0: 10
}

// VMRemove is the request of vm.rm.
type VMRemove struct {
	Name  string `json:"name"`
	Force bool   `json:"force,omitempty"` // kill it first
}

// VMLogs is the request of vm.logs.
type VMLogs struct {
	Name   string `json:"name"`
	Follow bool   `json:"follow,omitempty"`
}

// Version is the result of version.
type Version struct {
	Version   string `json:"version"`
	Build     string `json:"build"` // digest of the executable: CLI and daemon of different builds do not mix
	PID       int    `json:"pid,omitempty"`
	Socket    string `json:"socket,omitempty"`
	StateDir  string `json:"state_dir,omitempty"`
	VMs       int    `json:"vms"`        // running
	BusyCalls int    `json:"busy_calls"` // under way now
}

// Protocol is what interactive verbs upgrade their connection to.
const Protocol = "banger-stream"
