package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"banger/internal/api"
	"banger/internal/vmm"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("QEMU_TEST_PARENT"); dir != "" {
		parent(dir)
	}
	os.Exit(m.Run())
}

// fake makes a driver whose QEMU is a shell script. In it, $accel is kvm or tcg,
// and descriptor 3 is the console. It also makes a /dev/kvm.
func fake(t *testing.T, script string) (*Driver, vmm.Machine) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	binary := write("qemu", `#!/bin/sh
while [ $# -gt 0 ]; do [ "$1" = -accel ] && accel=$2; shift; done
echo $accel >> tried
`+script+"\n", 0o755)
	d := &Driver{Binary: binary, StateDir: filepath.Join(dir, "state"), kvmDevice: write("kvm", "", 0o600)}
	return d, vmm.Machine{Name: "m", Arch: "amd64", CPUs: 1, MemoryMiB: 64, Kernel: write("vmlinux", "", 0o600), Dir: dir, RunDir: runDir(t)}
}

// runDir is short, unlike t.TempDir: a socket's path has at most 107 bytes.
func runDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "q")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// tried returns the accelerators that the fake was started with so far.
func tried(t *testing.T, m vmm.Machine) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(m.Dir, "tried"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(b))
}

func start(t *testing.T, d *Driver, m vmm.Machine) vmm.Instance {
	t.Helper()
	in, err := d.Start(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(t, in) })
	return in
}

func kill(t *testing.T, in vmm.Instance) {
	t.Helper()
	if err := in.Kill(); err != nil {
		t.Error(err)
	}
	if err := in.Wait(context.Background()); err != nil {
		t.Error(err)
	}
}

const alive = `echo hello >&3; exec sleep 60`

// The trap of this driver: /dev/kvm opens, QEMU runs, and the kernel says
// nothing for ever.
func TestAutoFallsBackFromSilentKVM(t *testing.T) {
	t.Parallel()
	d, m := fake(t, `[ $accel = kvm ] && exec sleep 60; `+alive)
	began := time.Now()
	in := start(t, d, m)
	if took := time.Since(began); took < trialPatience || took > trialPatience+2*time.Second {
		t.Errorf("fell back after %v, want %v", took, trialPatience)
	}
	info := in.Info()
	if info.Accel != "tcg" || len(info.Warnings) != 1 || !strings.Contains(info.Warnings[0], "printed nothing for 3s") {
		t.Errorf("got %+v; want tcg and a warning that says why", info)
	}
	if info.FirstOutput.Before(info.StartedAt) || info.StartedAt.Sub(began) < trialPatience {
		t.Errorf("got start %v and first byte %v; want those of the second QEMU", info.StartedAt.Sub(began), info.FirstOutput.Sub(began))
	}
	kill(t, in)

	// The verdict is kept: the next start loses no time, and still says it.
	in = start(t, d, m)
	if got, want := tried(t, m), []string{"kvm", "tcg", "tcg"}; !slices.Equal(got, want) {
		t.Errorf("tried %v, want %v", got, want)
	}
	if info := in.Info(); len(info.Warnings) != 1 {
		t.Errorf("got warnings %q, want one", info.Warnings)
	}
}

func TestVerdictIsOfOneKernelAndBoot(t *testing.T) {
	t.Parallel()
	d, m := fake(t, `[ $accel = kvm ] && exit 1; `+alive)
	kill(t, start(t, d, m))

	link := filepath.Join(m.Dir, "hard-link")
	if err := os.Link(m.Kernel, link); err != nil {
		t.Fatal(err)
	}
	if got := d.proof(link).read(); got != kvmFails {
		t.Errorf("verdict on a hard link: got %q, want %q", got, kvmFails)
	}
	if err := os.Chtimes(m.Kernel, time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if got := d.proof(m.Kernel).read(); got != kvmUnknown {
		t.Errorf("verdict on a changed kernel: got %q, want none", got)
	}

	// Verdicts of another boot of the host are not believed, and forgotten.
	boots := filepath.Join(d.StateDir, "kvm")
	entries, err := os.ReadDir(boots)
	if err != nil || len(entries) != 1 {
		t.Fatalf("got %v, %v; want the directory of this boot", entries, err)
	}
	if err := os.Rename(filepath.Join(boots, entries[0].Name()), filepath.Join(boots, "0-earlier-boot")); err != nil {
		t.Fatal(err)
	}
	if got := d.proof(m.Kernel).read(); got != kvmUnknown {
		t.Errorf("verdict of an earlier boot: got %q, want none", got)
	}
	kill(t, start(t, d, m))
	if after, err := os.ReadDir(boots); err != nil || len(after) != 1 || after[0].Name() != entries[0].Name() {
		t.Errorf("got %v, %v; want only the directory of this boot", after, err)
	}
}

// A QEMU that aborts under KVM at once (seen: "failed to set MSR 0x10a") is no
// reason to wait.
func TestAutoFallsBackFromDeadKVM(t *testing.T) {
	t.Parallel()
	d, m := fake(t, `[ $accel = kvm ] && { echo no MSR for you >&2; exit 1; }; `+alive)
	began := time.Now()
	in := start(t, d, m)
	if took := time.Since(began); took > trialPatience {
		t.Errorf("took %v, want no wait", took)
	}
	if w := in.Info().Warnings; len(w) != 1 || !strings.Contains(w[0], "no MSR for you") {
		t.Errorf("got warnings %q, want QEMU's own words", w)
	}
}

func TestAutoTakesKVMThatWorks(t *testing.T) {
	t.Parallel()
	d, m := fake(t, alive)
	in := start(t, d, m)
	if info := in.Info(); info.Accel != "kvm" || len(info.Warnings) != 0 {
		t.Errorf("got %+v, want kvm without a warning", info)
	}
	if got := d.proof(m.Kernel).read(); got != kvmUnknown {
		t.Errorf("verdict before the agent has answered: got %q, want none", got)
	}
	in.(vmm.Answerer).Answered()
	if got := d.proof(m.Kernel).read(); got != kvmWorks {
		t.Errorf("verdict after the agent has answered: got %q, want %q", got, kvmWorks)
	}
}

func TestTCGSaysNothingOfKVM(t *testing.T) {
	t.Parallel()
	d, m := fake(t, alive)
	m.Accel = "tcg"
	in := start(t, d, m)
	in.(vmm.Answerer).Answered()
	if got := d.proof(m.Kernel).read(); got != kvmUnknown {
		t.Errorf("got verdict %q, want none", got)
	}
	if got := tried(t, m); !slices.Equal(got, []string{"tcg"}) {
		t.Errorf("tried %v, want tcg only", got)
	}
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script string
		change func(*Driver, *vmm.Machine)
		want   string
		hint   string
		tried  []string
	}{
		"kvm never falls back": {
			`[ $accel = kvm ] && { echo broken >&2; exit 1; }; ` + alive,
			func(_ *Driver, m *vmm.Machine) { m.Accel = "kvm" },
			"with KVM: QEMU ended (exit status 1): broken", "--accel tcg",
			[]string{"kvm"},
		},
		"kvm without a device": {
			alive, func(d *Driver, m *vmm.Machine) { m.Accel, d.kvmDevice = "kvm", "/nonexistent" },
			"there is no /nonexistent", "", nil,
		},
		"QEMU refuses": {
			`echo bad option >&2; exit 2`, func(_ *Driver, m *vmm.Machine) { m.Accel = "tcg" },
			"QEMU ended (exit status 2): bad option", "",
			[]string{"tcg"},
		},
		"no QEMU": {
			alive, func(d *Driver, _ *vmm.Machine) { d.Binary = "/nonexistent/qemu" },
			"find QEMU", "apt-get install qemu-system-x86", nil,
		},
		"accelerator unknown": {alive, func(_ *Driver, m *vmm.Machine) { m.Accel = "hax" }, `invalid accelerator "hax"`, "", nil},
		"architecture":        {alive, func(_ *Driver, m *vmm.Machine) { m.Arch = "arm64" }, `"arm64"`, "", nil},
		"socket path too long": {
			alive, func(_ *Driver, m *vmm.Machine) { m.Accel, m.RunDir = "tcg", strings.Repeat("/long", 30) }, "invalid argument", "", nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, m := fake(t, c.script)
			c.change(d, &m)
			in, err := d.Start(t.Context(), m)
			if err == nil {
				kill(t, in)
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(api.HintOf(err), c.hint) {
				t.Errorf("got %q (hint %q), want %q (hint %q)", err, api.HintOf(err), c.want, c.hint)
			}
			if c.tried != nil && !slices.Equal(tried(t, m), c.tried) {
				t.Errorf("tried %v, want %v", tried(t, m), c.tried)
			}
		})
	}
}

func TestAutoWithoutDeviceSaysSo(t *testing.T) {
	t.Parallel()
	d, m := fake(t, alive)
	d.kvmDevice = "/nonexistent"
	in := start(t, d, m)
	if w := in.Info().Warnings; len(w) != 1 || !strings.Contains(w[0], "there is no /nonexistent: using software emulation") {
		t.Errorf("got warnings %q", w)
	}
}

func TestInstanceLife(t *testing.T) {
	t.Parallel()
	d, m := fake(t, alive)
	m.Accel = "tcg"
	ctx, cancel := context.WithCancel(t.Context())
	in, err := d.Start(ctx, m)
	if err != nil {
		t.Fatal(err)
	}
	cancel() // does nothing any more
	short, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if err := in.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait for a running machine: got %v, want the deadline", err)
	}
	c, err := in.Dial(t.Context())
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	kill(t, in)
	kill(t, in) // twice is no error
	if left, err := os.ReadDir(m.RunDir); err != nil || len(left) != 0 {
		t.Errorf("left in the run directory: %v, %v", left, err)
	}
	if b, err := os.ReadFile(filepath.Join(m.Dir, vmm.ConsoleLog)); err != nil || string(b) != "hello\n" {
		t.Errorf("console log: got %q, %v", b, err)
	}
}

func TestWaitReportsACrash(t *testing.T) {
	t.Parallel()
	d, m := fake(t, `echo hello >&3; sleep 0.2; echo out of luck >&2; kill -ABRT $$`)
	m.Accel = "tcg"
	in, err := d.Start(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), "aborted") || !strings.Contains(err.Error(), "out of luck") {
		t.Errorf("got %v, want the signal and QEMU's last words", err)
	}
}

func TestCancelDuringStartLeavesNothing(t *testing.T) {
	t.Parallel()
	d, m := fake(t, `echo $$ > pid; exec sleep 60`)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := d.Start(ctx, m); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want the deadline", err)
	}
	if got := tried(t, m); !slices.Equal(got, []string{"kvm"}) {
		t.Errorf("tried %v, want no second try", got)
	}
	if pid := readPID(t, m.Dir); running(pid) {
		t.Errorf("process %d still runs", pid)
	}
}

// When the supervisor is killed, QEMU must not run on with nobody to stop it.
func TestQEMUDiesWithItsParent(t *testing.T) {
	t.Parallel()
	_, m := fake(t, `echo $$ > pid; `+alive)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "QEMU_TEST_PARENT="+m.Dir, "QEMU_TEST_RUN="+m.RunDir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fscanln(out, new(string)); err != nil {
		t.Fatalf("parent did not start: %v", err)
	}
	pid := readPID(t, m.Dir)
	if !running(pid) {
		t.Fatalf("process %d does not run", pid)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // "signal: killed"
	for deadline := time.Now().Add(5 * time.Second); running(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlives its parent", pid)
		}
	}
}

// parent is the process that TestQEMUDiesWithItsParent kills.
func parent(dir string) {
	d := &Driver{Binary: filepath.Join(dir, "qemu")}
	_, err := d.Start(context.Background(), vmm.Machine{Arch: "amd64", Accel: "tcg", Dir: dir, RunDir: os.Getenv("QEMU_TEST_RUN")})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("started")
	select {}
}

func readPID(t *testing.T, dir string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// running says whether the process is there and no zombie.
func running(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && syscall.Kill(pid, 0) == nil && !strings.Contains(string(b), ") Z ")
}
