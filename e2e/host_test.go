package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"banger/internal/api"
)

// host is one installation of banger: a home, and the user it belongs to.
type host struct {
	home string
	env  []string
	cred *syscall.Credential // nil: whoever runs the test
}

// newHost makes an empty home. At the end of the test its VMs are removed and
// its daemon is stopped, and nothing of it may be left running.
func newHost(t *testing.T) *host {
	t.Helper()
	need(t, "banger")
	// Not t.TempDir: its long names are a problem for sockets, and other users
	// cannot enter it.
	home, err := os.MkdirTemp("", "banger-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	return newHostIn(t, home)
}

// newHostIn makes the home in a directory, which is removed at the end.
func newHostIn(t *testing.T, home string) *host {
	t.Helper()
	accel := os.Getenv("BANGER_ACCEL")
	if accel == "" {
		accel = "tcg"
	}
	h := &host{home: home, env: []string{
		"BANGER_HOME=" + home, "BANGER_ACCEL=" + accel, "HOME=" + home, "PATH=" + os.Getenv("PATH"),
	}}
	t.Cleanup(func() { h.close(t) })
	return h
}

// ordinary gives the host to a user who has no privilege at all: made when the
// test runs as root, else the one who runs it.
func (h *host) ordinary(t *testing.T) *host {
	t.Helper()
	if os.Getuid() != 0 {
		return h
	}
	const name = "banger-test"
	u, err := user.Lookup(name)
	if err != nil {
		tool(t, "useradd", "--system", "--no-create-home", "--shell", "/bin/sh", name)
		if u, err = user.Lookup(name); err != nil {
			t.Fatal(err)
		}
	}
	uid, gid := number(t, u.Uid), number(t, u.Gid)
	if err := os.Chown(h.home, uid, gid); err != nil {
		t.Fatal(err)
	}
	h.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return h
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// setenv sets a variable for the commands that follow, and so for a daemon that
// they start.
func (h *host) setenv(name, value string) {
	h.env = append(h.env, name+"="+value) // the last one counts
}

func (h *host) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Dir = h.env, h.home
	if h.cred != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: h.cred}
	}
	return cmd
}

// try runs banger.
func (h *host) try(t *testing.T, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	return run(t, h.command(ctx, args...))
}

// banger runs banger, which must succeed, and returns its standard output.
func (h *host) banger(t *testing.T, args ...string) string {
	t.Helper()
	r := h.try(t, args...)
	if r.code != 0 {
		t.Fatalf("banger %s: exit status %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// list runs a command that lists things, as JSON.
func list[T any](t *testing.T, h *host, noun string) []T {
	t.Helper()
	var v []T
	out := h.banger(t, noun, "list", "--json")
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("banger %s list --json: %v\n%s", noun, err, out)
	}
	return v
}

// show runs a command that shows one thing, as JSON.
func show[T any](t *testing.T, h *host, noun, name string) (v T) {
	t.Helper()
	out := h.banger(t, noun, "show", "--json", name)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("banger %s show --json %s: %v\n%s", noun, name, err, out)
	}
	return v
}

// clean fails the test unless the host has exactly these images and no VM, and
// no file that a row does not name.
func (h *host) clean(t *testing.T, images ...string) {
	t.Helper()
	var dirs []string
	var names []string
	for _, img := range list[api.Image](t, h, "image") {
		names, dirs = append(names, img.Name), append(dirs, img.ID)
	}
	slices.Sort(names)
	if !slices.Equal(names, images) {
		t.Errorf("images are %q, want %q", names, images)
	}
	if vms := list[api.VM](t, h, "vm"); len(vms) != 0 {
		t.Errorf("there are VMs left: %+v", vms)
	}
	for dir, want := range map[string][]string{"images": dirs, "vms": nil} {
		entries, err := os.ReadDir(filepath.Join(h.home, "state", dir))
		if err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
		for _, e := range entries {
			if !slices.Contains(want, e.Name()) {
				t.Errorf("left behind: %s/%s", dir, e.Name())
			}
		}
	}
	err := filepath.WalkDir(h.home, func(path string, d fs.DirEntry, err error) error {
		if err == nil && (strings.HasSuffix(path, ".tmp") || strings.HasSuffix(path, ".staging")) {
			t.Errorf("left behind: %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if p := h.processes(t, "qemu"); len(p) != 0 {
		t.Errorf("left running: %q", p)
	}
}

// processes returns the command lines with text in them of the processes that
// belong to this home, by their arguments or their environment.
func (h *host) processes(t *testing.T, text string) (found []string) {
	t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, proc := range procs {
		args, err := os.ReadFile(filepath.Join(proc, "cmdline"))
		env, envErr := os.ReadFile(filepath.Join(proc, "environ"))
		if err != nil || envErr != nil {
			continue // it has ended, or is another user's
		}
		line := string(bytes.ReplaceAll(args, []byte{0}, []byte{' '}))
		if strings.Contains(line+string(env), h.home) && strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// close ends whatever runs in this home and removes it. A failed test shows the
// daemon's log.
func (h *host) close(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	var vms []api.VM
	if out, err := h.command(ctx, "vm", "list", "--json").Output(); err == nil {
		if err := json.Unmarshal(out, &vms); err != nil {
			t.Error(err)
		}
	}
	for _, vm := range vms {
		if out, err := h.command(ctx, "vm", "rm", "--force", vm.ID).CombinedOutput(); err != nil {
			t.Errorf("remove VM %s: %v: %s", vm.Name, err, out)
		}
	}
	if out, err := h.command(ctx, "daemon", "stop").CombinedOutput(); err != nil {
		t.Errorf("stop the daemon: %v: %s", err, out)
	}
	if p := h.processes(t, ""); len(p) != 0 {
		t.Errorf("left running: %q", p)
	}
	if t.Failed() {
		if log, err := os.ReadFile(filepath.Join(h.home, "state", "daemon.log")); err == nil {
			t.Logf("the daemon's log:\n%s", log)
		}
	}
	if err := os.RemoveAll(h.home); err != nil {
		t.Error(err)
	}
}

// kernels holds the kernel that the hosts of this run share.
var kernels struct {
	once sync.Once
	dir  string // a store's directory; "" when it could not be pulled
	err  string
}

// withKernel puts Debian's kernel into the host's store. It is pulled once.
func (h *host) withKernel(t *testing.T) *host {
	t.Helper()
	need(t, "kernel", "qemu")
	kernels.once.Do(func() {
		dir, err := os.MkdirTemp(filepath.Dir(program), "kernel-")
		if err != nil {
			kernels.err = err.Error()
			return
		}
		donor := &host{home: dir, env: append(slices.Clone(h.env), "BANGER_HOME="+dir)}
		r := donor.try(t, "kernel", "pull", "debian")
		donor.try(t, "daemon", "stop")
		if r.code != 0 {
			kernels.err = r.stderr
			return
		}
		kernels.dir = filepath.Join(dir, "state", "kernels")
	})
	if kernels.dir == "" {
		t.Fatalf("pull a kernel: %s", kernels.err)
	}
	state := filepath.Join(h.home, "state")
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	tool(t, "cp", "-al", kernels.dir, state) // kernels are only read, so links do
	return h
}
