package vm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/agent"
	"banger/internal/api"
	"banger/internal/dirs"
	"banger/internal/vmm"
)

// spec is spec.json: all that the supervisor needs.
type spec struct {
	VM          api.VM        `json:"vm"` // as it was created
	Machine     vmm.Machine   `json:"machine"`
	Config      agent.Config  `json:"config"`  // without Time and Modules
	Modules     string        `json:"modules"` // path of modules.ext4, "" for none
	Initrd      string        `json:"initrd"`  // the user's, "" for none
	BootTimeout time.Duration `json:"boot_timeout_ns"`
}

// state is state.json, which only the supervisor writes once the VM is made.
type state struct {
	State      api.VMState `json:"state"`
	Reason     string      `json:"reason,omitempty"`
	Supervisor process     `json:"supervisor"`
	PID        int         `json:"pid,omitempty"` // of the VMM
	Accel      string      `json:"accel,omitempty"`
	Init       string      `json:"init,omitempty"`
	ExitStatus *int        `json:"exit_status,omitempty"`
	Phases     []api.Phase `json:"phases,omitempty"`
	StartedAt  time.Time   `json:"started_at,omitzero"`
}

// settled is what the state has become if its supervisor is gone.
func (s state) settled() state {
	if !s.State.Live() || s.Supervisor.alive() {
		return s
	}
	s.PID = 0
	if boot, err := bootID(); s.State == api.VMStopping || err == nil && boot != s.Supervisor.BootID {
		s.State = api.VMStopped
		return s
	}
	s.Reason = fmt.Sprintf("its supervisor (pid %d) died while it was %s", s.Supervisor.PID, s.State)
	s.State = api.VMFailed
	return s
}

// of puts the state into a VM.
func (s state) of(vm api.VM) api.VM {
	vm.State, vm.Reason, vm.PID, vm.Accel, vm.Init = s.State, s.Reason, s.PID, s.Accel, s.Init
	vm.ExitStatus, vm.Phases, vm.StartedAt = s.ExitStatus, s.Phases, s.StartedAt
	return vm
}

func readSpec(dir string) (spec, error) {
	var s spec
	return s, readJSON(filepath.Join(dir, specFile), &s)
}

// readState forgives a state that a power cut has torn: then nothing runs.
func readState(dir string) (state, error) {
	var s state
	err := readJSON(filepath.Join(dir, stateFile), &s)
	if errors.Is(err, errTorn) {
		return state{State: api.VMStopped}, nil
	}
	return s, err
}

// errTorn is of a file that is no JSON.
var errTorn = errors.New("torn")

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", api.ErrNotFound, err)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s: %w: %w", path, errTorn, err)
	}
	return nil
}

// writeJSON replaces the file as a whole: a reader, and whoever comes after a
// kill, finds the old one or the new; durable, also after a power cut.
func writeJSON(path string, v any, durable bool) (err error) {
	b, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if durable {
		err = errors.Join(err, f.Sync())
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if durable {
		return dirs.Sync(filepath.Dir(path))
	}
	return nil
}

// acquire takes the VM's directory for one process, which may hand the file on.
// The lock is the kernel's (flock(2)): it ends with the last holder of the file.
// A supervisor whose VM has ended is waited for: it is about to end too.
func acquire(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(endOfSupervisor); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(os.NewSyscallError("flock", err), f.Close())
		}
		st, err := readState(dir)
		if err != nil || st.settled().State.Live() || time.Now().After(deadline) {
			inUse := api.Hint(fmt.Errorf("%w: it runs", api.ErrInUse), "stop it with: banger vm stop")
			return nil, errors.Join(inUse, err, f.Close())
		}
	}
}

// endOfSupervisor is how long one may take from its last word to its end.
const endOfSupervisor = 5 * time.Second
