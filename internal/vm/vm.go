// Package vm makes, starts and finds VMs. A VM is a directory: its disk, what it
// is made of (spec.json), how it is (state.json), its console and its
// supervisor's log. [Host] works on these directories from outside; [Supervise]
// is the body of the one process that each running VM has.
//
// The supervisor owns the VMM process, the connection to the guest's agent and a
// control socket. It is a session leader of its own and needs no daemon: that
// one may end, be killed or replaced, and finds its VMs again by their
// directories. When the supervisor is killed the kernel kills the VMM too.
//
//	<Dir>/<id>/            the VM
//	<Dir>/.staging-<id>/   one that is being made, or never was
//	<Dir>/.removing-<id>/  one that is being removed
//	<RunDir>/vm-<id>/      sockets of a VM that runs
//
// state.json names the supervisor by pid, start time and the host's boot, so a
// state is never believed of a process that is gone: see [Host.Status].
package vm

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"banger/internal/agent"
	"banger/internal/api"
	"banger/internal/clone"
	"banger/internal/dirs"
	"banger/internal/vmm"
)

// Host is this machine as far as VMs are concerned. Errors about a VM that is
// given by its ID leave it to the caller, who knows its name, to say which.
type Host struct {
	Dir    string // one directory for each VM
	RunDir string // of sockets: at most 75 bytes, for the names in it are up to 28 more

	// Supervise is the command that calls [Supervise]; "--dir" and the VM's
	// directory are added.
	Supervise []string

	// BootTimeout is how long a guest may take until its agent answers; 0 is
	// [DefaultBootTimeout].
	BootTimeout time.Duration
}

// DefaultBootTimeout is generous: two busy cores without KVM boot systemd in 20 s.
const DefaultBootTimeout = 3 * time.Minute

// Spec is what a VM is made of.
type Spec struct {
	api.VMCreate           // CPUs, MemoryMiB and DiskBytes of 0 are chosen
	Image        api.Image // with a kernel
}

// Names in a VM's directory.
const (
	specFile       = "spec.json"
	stateFile      = "state.json"
	diskFile       = "disk.ext4"
	initramfsFile  = "initramfs"
	lockFile       = "lock"
	supervisorFile = "supervisor.log"
)

const (
	stagingPrefix  = ".staging-"
	removingPrefix = ".removing-"
	runPrefix      = "vm-"
	controlSocket  = "control.sock"
)

func (h *Host) dir(id string) string    { return filepath.Join(h.Dir, id) }
func (h *Host) runDir(id string) string { return filepath.Join(h.RunDir, runPrefix+id) }

// Create makes a VM that does not run yet. What it makes is there as a whole or
// not at all.
func (h *Host) Create(ctx context.Context, s Spec, p api.Progress) (api.VM, error) {
	vm, err := h.create(ctx, s, p)
	if err != nil {
		return api.VM{}, fmt.Errorf("create vm %s: %w", s.Name, err)
	}
	return vm, nil
}

func (h *Host) create(ctx context.Context, s Spec, p api.Progress) (vm api.VM, err error) {
	if err := api.CheckName("vm", s.Name); err != nil {
		return vm, err
	}
	if s.Image.KernelPath == "" {
		return vm, api.Hint(fmt.Errorf("%w: image %s has no kernel", api.ErrInvalid, s.Image.Name), "banger kernel pull debian")
	}
	if s.Init != "" && s.Init != "banger" && !strings.HasPrefix(s.Init, "/") {
		return vm, fmt.Errorf(`%w init %q: want "banger" or an absolute path in the image`, api.ErrInvalid, s.Init)
	}
	if err := size(&s, p); err != nil {
		return vm, err
	}
	id, machineID := randomHex(6), randomHex(16)
	dir, staging := h.dir(id), filepath.Join(h.Dir, stagingPrefix+id)
	vm = api.VM{
		ID: id, Name: s.Name, ImageID: s.Image.ID, ImageName: s.Image.Name, State: api.VMCreated, Ephemeral: s.Ephemeral,
		CPUs: s.CPUs, MemoryMiB: s.MemoryMiB, DiskBytes: s.DiskBytes, Dir: dir, CreatedAt: time.Now(),
	}
	if err := os.MkdirAll(h.Dir, 0o700); err != nil {
		return vm, err
	}
	if err := os.Mkdir(staging, 0o700); err != nil {
		return vm, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(staging))
		}
	}()
	began := time.Now()
	o := clone.Options{Size: s.DiskBytes, Sync: !s.Ephemeral}
	if err := clone.File(ctx, filepath.Join(staging, diskFile), s.Image.RootfsPath, o, p); err != nil {
		return vm, err
	}
	if err := identify(filepath.Join(staging, diskFile), s.Image, o.Sync); err != nil {
		return vm, err
	}
	vm.Phases = []api.Phase{{Name: "clone", Duration: time.Since(began)}}
	timeout := h.BootTimeout
	if timeout == 0 {
		timeout = DefaultBootTimeout
	}
	spec := spec{
		VM: vm, Machine: machine(s, dir, h.runDir(id)), Config: config(s, machineID),
		Modules: s.Image.ModulesDir, Initrd: s.Image.InitrdPath, BootTimeout: timeout,
	}
	if err := errors.Join(
		writeJSON(filepath.Join(staging, specFile), spec, true),
		writeJSON(filepath.Join(staging, stateFile), state{State: api.VMCreated, Phases: vm.Phases}, true),
		os.WriteFile(filepath.Join(staging, lockFile), nil, 0o600),
	); err != nil {
		return vm, err
	}
	if err := os.Rename(staging, dir); err != nil {
		return vm, err
	}
	return vm, dirs.Sync(h.Dir)
}

func machine(s Spec, dir, runDir string) vmm.Machine {
	m := vmm.Machine{
		Name: s.Name, Arch: architecture(s.Image.Platform), CPUs: s.CPUs, MemoryMiB: s.MemoryMiB,
		Kernel: s.Image.KernelPath, Initramfs: filepath.Join(dir, initramfsFile),
		Disks:   []vmm.Disk{{Path: filepath.Join(dir, diskFile), Serial: agent.RootSerial}},
		Network: true,
		Dir:     dir, RunDir: runDir,
	}
	if s.Image.ModulesDir != "" {
		m.Disks = append(m.Disks, vmm.Disk{Path: s.Image.ModulesDir, Serial: agent.ModulesSerial, ReadOnly: true})
	}
	return m
}

// config is what the guest is told. A command replaces the image's CMD, as with
// any container engine; its ENTRYPOINT stays.
func config(s Spec, machineID string) agent.Config {
	process := s.Image.Process
	cmd := process.Cmd
	if len(s.Cmd) > 0 {
		cmd = s.Cmd
	}
	first := func(a, b string) string {
		if a != "" {
			return a
		}
		return b
	}
	return agent.Config{
		Hostname: s.Name, MachineID: machineID, Init: s.Init,
		Network: &agent.Network{Address: vmm.GuestAddress, Gateway: vmm.GuestGateway, DNS: []string{vmm.GuestDNS}},
		Process: agent.Process{
			Args:       append(append([]string(nil), process.Entrypoint...), cmd...),
			Env:        append(append([]string(nil), process.Env...), s.Env...),
			User:       first(s.User, process.User),
			Dir:        first(s.WorkDir, process.WorkingDir),
			StopSignal: process.StopSignal,
		},
	}
}

// architecture is the second part of "os/arch[/variant]".
func architecture(platform string) string {
	if part := strings.Split(platform, "/"); len(part) > 1 {
		return part[1]
	}
	return platform
}

// Runs returns an error when an image of that platform cannot run on this host.
func Runs(platform string) error {
	arch := architecture(platform)
	if platform == "" || arch == runtime.GOARCH {
		return nil
	}
	return api.Hint(fmt.Errorf("it is for %s, and this host is %s: %w", arch, runtime.GOARCH, errors.ErrUnsupported),
		"there may be one for this host: --platform linux/"+runtime.GOARCH)
}

// Status returns the VM as it is now.
func (h *Host) Status(id string) (api.VM, error) {
	sp, err := readSpec(h.dir(id))
	if err != nil {
		return api.VM{}, err
	}
	st, err := readState(h.dir(id))
	if err != nil {
		return api.VM{}, err
	}
	return st.settled().of(sp.VM), nil
}

// List returns all VMs as they are now.
func (h *Host) List() ([]api.VM, error) {
	entries, err := os.ReadDir(h.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list vms: %w", err)
	}
	var vms []api.VM
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		vm, err := h.Status(e.Name())
		if errors.Is(err, api.ErrNotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		vms = append(vms, vm)
	}
	return vms, nil
}

// Remove removes a VM that does not run, else [api.ErrInUse]. One that is not
// there is no error. Before anything goes, and when nobody can start the VM any
// more, forget is called, if it is not nil: an error of it ends the removal.
func (h *Host) Remove(id string, forget func() error) error {
	lock, err := acquire(h.dir(id))
	gone := errors.Is(err, fs.ErrNotExist)
	if err != nil && !gone {
		return err
	}
	if !gone {
		defer lock.Close() // its file is removed below; only the lock counts
	}
	if forget != nil {
		if err := forget(); err != nil {
			return err
		}
	}
	if gone {
		return nil
	}
	removing := filepath.Join(h.Dir, removingPrefix+id)
	err = os.Rename(h.dir(id), removing)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // somebody else did so while we waited for the lock
	}
	if err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(removing), os.RemoveAll(h.runDir(id)))
}

// Clean removes what a crash has left: VMs half made or half removed, and the
// sockets of dead supervisors. Call it when nothing else uses h yet.
func (h *Host) Clean() error {
	entries, err := os.ReadDir(h.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), stagingPrefix) || strings.HasPrefix(e.Name(), removingPrefix) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(h.Dir, e.Name())))
		}
	}
	sockets, globErr := filepath.Glob(filepath.Join(h.RunDir, runPrefix+"*"))
	err = errors.Join(err, globErr)
	for _, dir := range sockets {
		id := strings.TrimPrefix(filepath.Base(dir), runPrefix)
		lock, lockErr := acquire(h.dir(id))
		if errors.Is(lockErr, api.ErrInUse) {
			continue
		}
		err = errors.Join(err, os.RemoveAll(dir))
		if lockErr == nil {
			err = errors.Join(err, lock.Close())
		}
	}
	if err != nil {
		return fmt.Errorf("clean up vms: %w", err)
	}
	return nil
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}
