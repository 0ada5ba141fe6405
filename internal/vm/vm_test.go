package vm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"banger/internal/agent"
	"banger/internal/api"
	"banger/internal/vmm"
)

// newHost returns a host whose supervisors run the fake driver in that mode.
func newHost(t *testing.T, mode string) *Host {
	t.Helper()
	run, err := os.MkdirTemp("", "v") // short, unlike t.TempDir: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := &Host{Dir: filepath.Join(t.TempDir(), "vms"), RunDir: run, Supervise: []string{self, "fake-supervise", mode}, BootTimeout: 10 * time.Second}
	t.Cleanup(func() {
		vms, err := h.List()
		for _, vm := range vms {
			err = errors.Join(err, h.Kill(context.Background(), vm.ID))
		}
		if err := errors.Join(err, os.RemoveAll(run)); err != nil {
			t.Error(err)
		}
	})
	return h
}

// image returns one of 1 MiB with a byte at each end.
func image(t *testing.T) api.Image {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rootfs.ext4")
	content := make([]byte, 1<<20)
	content[0], content[len(content)-1] = 'a', 'z'
	if err := os.WriteFile(path, content, 0o400); err != nil {
		t.Fatal(err)
	}
	return api.Image{
		ID: "0123456789ab", Name: "alpine", Platform: "linux/amd64", RootfsPath: path, KernelPath: "/boot/vmlinux", ModulesDir: "/boot/modules.ext4",
		Process: api.Process{Entrypoint: []string{"/entry"}, Cmd: []string{"one"}, Env: []string{"A=1"}, User: "nobody"},
	}
}

func create(t *testing.T, h *Host, change func(*Spec)) api.VM {
	t.Helper()
	s := Spec{VMCreate: api.VMCreate{Name: "dev", CPUs: 1, MemoryMiB: 64}, Image: image(t)}
	if change != nil {
		change(&s)
	}
	vm, err := h.Create(t.Context(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func started(t *testing.T, h *Host) api.VM {
	t.Helper()
	vm := create(t, h, nil)
	if err := h.Start(t.Context(), vm.ID, Boot{}, nil); err != nil {
		t.Fatal(err)
	}
	return status(t, h, vm.ID)
}

func status(t *testing.T, h *Host, id string) api.VM {
	t.Helper()
	vm, err := h.Status(id)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

// ask runs a command of the fake guest.
func ask(t *testing.T, h *Host, id, command string) (string, agent.ExitStatus, error) {
	t.Helper()
	conn, err := h.Dial(t.Context(), id)
	if err != nil {
		return "", agent.ExitStatus{}, err
	}
	var out bytes.Buffer
	code, err := agent.Exec(t.Context(), conn, agent.ExecRequest{Args: []string{command}}, agent.IO{Stdout: &out})
	return out.String(), code, err
}

// eventually fails the test if ok stays false.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out: %s", what)
		}
	}
}

func TestCreate(t *testing.T) {
	t.Parallel()
	h := newHost(t, "ok")
	vm := create(t, h, func(s *Spec) {
		s.DiskBytes, s.Cmd, s.Env, s.Init = 2<<20-1, []string{"two"}, []string{"B=2"}, "banger"
	})
	if got := status(t, h, vm.ID); got.State != api.VMCreated || got.DiskBytes != 2<<20 || len(got.Phases) != 1 {
		t.Errorf("got %+v; want created, 2 MiB, one phase", got)
	}
	disk, err := os.ReadFile(filepath.Join(vm.Dir, diskFile))
	if err != nil {
		t.Fatal(err)
	}
	if len(disk) != 2<<20 || disk[0] != 'a' || disk[1<<20-1] != 'z' {
		t.Errorf("disk has %d bytes, %q and %q", len(disk), disk[0], disk[1<<20-1])
	}
	s, err := readSpec(vm.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.Config.Process.Args, []string{"/entry", "two"}; !slices.Equal(got, want) {
		t.Errorf("got command %q, want %q", got, want)
	}
	if got, want := s.Config.Process.Env, []string{"A=1", "B=2"}; !slices.Equal(got, want) {
		t.Errorf("got environment %q, want %q", got, want)
	}
	if s.Config.Process.User != "nobody" || s.Config.Init != "banger" || len(s.Config.MachineID) != 32 || s.Config.Hostname != "dev" {
		t.Errorf("got configuration %+v", s.Config)
	}
	want := []vmm.Disk{
		{Path: filepath.Join(vm.Dir, diskFile), Serial: agent.RootSerial},
		{Path: "/boot/modules.ext4", Serial: agent.ModulesSerial, ReadOnly: true},
	}
	if !slices.Equal(s.Machine.Disks, want) {
		t.Errorf("got disks %+v, want %+v", s.Machine.Disks, want)
	}
}

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	h := newHost(t, "ok")
	for name, c := range map[string]struct {
		change func(*Spec)
		want   string
	}{
		"disk smaller than the image": {func(s *Spec) { s.DiskBytes = 4096 }, "needs 1048576"},
		"more CPUs than there are":    {func(s *Spec) { s.CPUs = 10000 }, "this host has"},
		"more memory than there is":   {func(s *Spec) { s.MemoryMiB = 1 << 30 }, "this host has"},
		"too little memory":           {func(s *Spec) { s.MemoryMiB = 1 }, "want at least 64"},
		"no kernel":                   {func(s *Spec) { s.Image.KernelPath = "" }, "no kernel"},
		"a name that is a path":       {func(s *Spec) { s.Name = "../x" }, "name"},
		"a relative init":             {func(s *Spec) { s.Init = "sbin/init" }, "absolute path"},
		"an image that is gone":       {func(s *Spec) { s.Image.RootfsPath += "x" }, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			s := Spec{VMCreate: api.VMCreate{Name: "dev", CPUs: 1, MemoryMiB: 64}, Image: image(t)}
			c.change(&s)
			if _, err := h.Create(t.Context(), s, nil); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if left, err := filepath.Glob(filepath.Join(h.Dir, "*")); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestCreateChoosesAndSays(t *testing.T) {
	t.Parallel()
	h := newHost(t, "ok")
	var said []string
	vm, err := h.Create(t.Context(), Spec{VMCreate: api.VMCreate{Name: "dev"}, Image: image(t)}, func(e api.Event) { said = append(said, e.Message) })
	if err != nil {
		t.Fatal(err)
	}
	if vm.CPUs < 1 || vm.CPUs > defaultCPUs || vm.MemoryMiB < minMemoryMiB || vm.MemoryMiB > defaultMemoryMiB || vm.DiskBytes != 1<<20 {
		t.Errorf("got %+v", vm)
	}
	if all := strings.Join(said, "\n"); !strings.Contains(all, "MiB of memory") || !strings.Contains(all, "image's blocks") && !strings.Contains(all, "copied") {
		t.Errorf("said %q; want the resources and how the disk was cloned", all)
	}
}

func TestLifeOfAVM(t *testing.T) {
	t.Parallel()
	h := newHost(t, "ok")
	vm := create(t, h, nil)
	var warnings []string
	began := time.Now()
	if err := h.Start(t.Context(), vm.ID, Boot{Accel: "tcg", Detach: true}, func(e api.Event) {
		if e.Warning {
			warnings = append(warnings, e.Message)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(warnings, []string{"no KVM here"}) {
		t.Errorf("got warnings %q, want the driver's", warnings)
	}
	if s, err := readSpec(vm.Dir); err != nil || s.Machine.Accel != "tcg" || !s.Config.Detached {
		t.Errorf("got %+v, %v; want what Boot says", s, err)
	}
	vm = status(t, h, vm.ID)
	if vm.State != api.VMRunning || vm.Accel != "tcg" || vm.Init != "banger" || vm.PID == 0 || vm.StartedAt.Before(began) {
		t.Errorf("got %+v, want a running VM", vm)
	}
	var phases []string
	for _, p := range vm.Phases {
		phases = append(phases, p.Name)
		want := map[string]time.Duration{"root": 200 * time.Millisecond, "answer": 10 * time.Millisecond}
		if d, ok := want[p.Name]; ok && p.Duration != d {
			t.Errorf("phase %s: got %v, want %v", p.Name, p.Duration, d)
		}
	}
	if want := []string{"clone", "initramfs", "accelerator", "vmm", "kernel", "root", "agent", "answer"}; !slices.Equal(phases, want) {
		t.Errorf("got phases %v, want %v", phases, want)
	}

	out, code, err := ask(t, h, vm.ID, "clock")
	if err != nil || code.Code != 3 {
		t.Errorf("exec: got %+v, %v; want 3", code, err)
	}
	if clock, err := time.Parse(time.RFC3339Nano, out); err != nil || clock.Before(began) || clock.After(time.Now()) {
		t.Errorf("guest's clock: got %q, %v; want the host's at the start", out, err)
	}

	// Another daemon finds it.
	other := &Host{Dir: h.Dir, RunDir: h.RunDir, Supervise: h.Supervise}
	if err := other.Clean(); err != nil {
		t.Error(err)
	}
	if _, code, err := ask(t, other, vm.ID, "clock"); err != nil || code.Code != 3 {
		t.Errorf("exec by another daemon: got %+v, %v", code, err)
	}
	if err := other.Start(t.Context(), vm.ID, Boot{}, nil); !errors.Is(err, api.ErrInUse) {
		t.Errorf("start of a running VM: got %v, want in use", err)
	}
	if err := other.Remove(vm.ID, nil); !errors.Is(err, api.ErrInUse) {
		t.Errorf("remove of a running VM: got %v, want in use", err)
	}

	if err := h.Stop(t.Context(), vm.ID, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if got := status(t, h, vm.ID); got.State != api.VMStopped || got.PID != 0 || got.Reason != "" {
		t.Errorf("after stop: got %+v", got)
	}
	if err := h.Stop(t.Context(), vm.ID, time.Second); err != nil {
		t.Errorf("stop of a stopped VM: %v", err)
	}
	if _, err := h.Dial(t.Context(), vm.ID); err == nil || api.HintOf(err) == "" {
		t.Errorf("dial of a stopped VM: got %v, want an error with a hint", err)
	}

	// At once again, though the supervisor may be about to end.
	if err := h.Start(t.Context(), vm.ID, Boot{}, nil); err != nil {
		t.Fatal(err)
	}
	if err := h.Kill(t.Context(), vm.ID); err != nil {
		t.Fatal(err)
	}
	if err := h.Remove(vm.ID, nil); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{h.Dir, h.RunDir} {
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("left in %s: %v, %v", dir, left, err)
		}
	}
	if err := h.Remove(vm.ID, nil); err != nil {
		t.Errorf("remove again: %v", err)
	}
	if _, err := h.Status(vm.ID); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("status of a removed VM: got %v, want not found", err)
	}
}

func TestStartFails(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string]string{
		"mute":   "did not answer within 300ms\nend of the console:\nbooting with initramfs of dev",
		"dies":   "the machine ended before its agent had answered: out of luck\nend of the console:\nbooting",
		"fails":  "bad hardware",
		"broken": "supervisor died at once: no such thing as a supervisor",
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, mode)
			if mode == "mute" {
				h.BootTimeout = 300 * time.Millisecond
			}
			vm := create(t, h, nil)
			err := h.Start(t.Context(), vm.ID, Boot{}, nil)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
			if got := status(t, h, vm.ID); mode != "broken" && (got.State != api.VMFailed || !strings.Contains(got.Reason, want)) {
				t.Errorf("got %s, %q; want failed, %q", got.State, got.Reason, want)
			}
			if err := h.Remove(vm.ID, nil); err != nil {
				t.Error(err)
			}
		})
	}
	for ephemeral, want := range map[bool]string{false: "vm logs dev", true: "--name"} {
		h := newHost(t, "dies")
		vm := create(t, h, func(s *Spec) { s.Ephemeral = ephemeral })
		if got := api.HintOf(h.Start(t.Context(), vm.ID, Boot{}, nil)); !strings.Contains(got, want) {
			t.Errorf("ephemeral %v: got hint %q, want %q in it", ephemeral, got, want)
		}
	}
	h := newHost(t, "ok")
	if err := h.Start(t.Context(), "nothing", Boot{}, nil); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("start of a VM that is not there: got %v, want not found", err)
	}
}

func TestCancelledStartLeavesNothingRunning(t *testing.T) {
	t.Parallel()
	h := newHost(t, "mute")
	vm := create(t, h, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := h.Start(ctx, vm.ID, Boot{}, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
	if got := status(t, h, vm.ID); got.State != api.VMStopped {
		t.Errorf("got %s, want stopped", got.State)
	}
}

// Nobody is left to write what happened, and yet the state tells it.
func TestKilledSupervisor(t *testing.T) {
	t.Parallel()
	h := newHost(t, "ok")
	vm := started(t, h)
	st, err := readState(vm.Dir)
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() {
		vm, err := h.Wait(context.Background(), vm.ID)
		if err == nil && vm.State != api.VMFailed {
			err = errors.New("state is " + string(vm.State))
		}
		waited <- err
	}()
	if err := syscall.Kill(st.Supervisor.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "state failed", func() bool { return status(t, h, vm.ID).State == api.VMFailed })
	if got := status(t, h, vm.ID); !strings.Contains(got.Reason, "died while it was running") || got.PID != 0 {
		t.Errorf("got %+v", got)
	}
	if err := <-waited; err != nil {
		t.Errorf("wait: %v", err)
	}
	if err := h.Kill(t.Context(), vm.ID); err != nil {
		t.Errorf("kill of a dead VM: %v", err)
	}
	if err := h.Clean(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(h.RunDir); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v; want the sockets of the dead removed", left, err)
	}
	if err := h.Start(t.Context(), vm.ID, Boot{}, nil); err != nil {
		t.Errorf("start again: %v", err)
	}
}

// A supervisor that is told to end, as at the host's shutdown, lets the guest
// power off.
func TestTerminatedSupervisorStopsTheVM(t *testing.T) {
	t.Parallel()
	h := newHost(t, "ok")
	vm := started(t, h)
	st, err := readState(vm.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(st.Supervisor.PID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got, err := h.Wait(t.Context(), vm.ID); err != nil || got.State != api.VMStopped {
		t.Errorf("got %s, %v; want stopped", got.State, err)
	}
}

func TestStopKillsTheStubborn(t *testing.T) {
	t.Parallel()
	h := newHost(t, "stubborn")
	vm := started(t, h)
	began := time.Now()
	if err := h.Stop(t.Context(), vm.ID, 300*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("killed after %v, want 300ms", took)
	}
	if got := status(t, h, vm.ID); got.State != api.VMStopped {
		t.Errorf("got %s, want stopped", got.State)
	}
}

func TestWaitForTheMainProcess(t *testing.T) {
	t.Parallel()
	h := newHost(t, "ok")
	vm := create(t, h, func(s *Spec) { s.Ephemeral = true })
	if err := h.Start(t.Context(), vm.ID, Boot{}, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ask(t, h, vm.ID, "exit"); err != nil {
		t.Fatal(err)
	}
	got, err := h.Wait(t.Context(), vm.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got.State != api.VMStopped || got.ExitStatus == nil || *got.ExitStatus != 7 {
		t.Errorf("got %+v; want stopped with exit status 7", got)
	}
	if _, err := os.Stat(filepath.Join(vm.Dir, diskFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("disk of an ephemeral VM that has ended: got %v, want none", err)
	}
	if got, err := h.Wait(t.Context(), vm.ID); err != nil || got.State != api.VMStopped {
		t.Errorf("wait again: got %s, %v", got.State, err)
	}
}

func TestKernelPanicIsAFailure(t *testing.T) {
	t.Parallel()
	h := newHost(t, "ok")
	vm := started(t, h)
	if _, _, err := ask(t, h, vm.ID, "panic"); err == nil {
		t.Error("the command of a guest that panicked has returned")
	}
	got, err := h.Wait(t.Context(), vm.ID)
	if err != nil || got.State != api.VMFailed || !strings.Contains(got.Reason, "Attempted to kill init") {
		t.Errorf("got %+v, %v; want failed with the console's tail", got, err)
	}
}

func TestBrokenSessionIsMadeAgain(t *testing.T) {
	t.Parallel()
	h := newHost(t, "ok")
	vm := started(t, h)
	if _, _, err := ask(t, h, vm.ID, "break"); err == nil {
		t.Error("exec in a session that broke: no error")
	}
	eventually(t, "another session", func() bool {
		_, code, err := ask(t, h, vm.ID, "clock")
		return err == nil && code.Code == 3
	})
	if got := status(t, h, vm.ID); got.State != api.VMRunning {
		t.Errorf("got %s, want running", got.State)
	}
}

func TestCleanRemovesWhatACrashLeft(t *testing.T) {
	t.Parallel()
	h := newHost(t, "ok")
	vm := create(t, h, nil)
	for _, dir := range []string{
		filepath.Join(h.Dir, stagingPrefix+"0"), filepath.Join(h.Dir, removingPrefix+"1"),
		h.runDir(vm.ID), h.runDir("gone"), filepath.Join(h.RunDir, "another's"),
	} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Clean(); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{h.Dir: vm.ID, h.RunDir: "another's"} {
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 1 || left[0].Name() != want {
			t.Errorf("%s: got %v, %v; want only %s", dir, left, err, want)
		}
	}
}

func TestLogsFollowAcrossRotation(t *testing.T) {
	t.Parallel()
	h := newHost(t, "ok")
	vm := started(t, h)
	console := filepath.Join(vm.Dir, vmm.ConsoleLog)
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := h.Logs(context.Background(), vm.ID, true, w)
		w.Close()
		done <- err
	}()
	want := func(text string) {
		t.Helper()
		got := make([]byte, len(text))
		if _, err := io.ReadFull(r, got); err != nil || string(got) != text {
			t.Errorf("got %q, %v; want %q", got, err, text)
		}
	}
	add := func(text string) {
		t.Helper()
		f, err := os.OpenFile(console, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	want("booting with initramfs of dev\n")
	add("one\n")
	want("one\n")
	add("two\n")
	if err := os.Rename(console, console+".1"); err != nil {
		t.Fatal(err)
	}
	add("three\n")
	want("two\nthree\n")
	if err := h.Kill(t.Context(), vm.ID); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(r); err != nil || len(rest) != 0 {
		t.Errorf("rest: got %q, %v", rest, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
