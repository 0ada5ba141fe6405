package e2e

import (
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"banger/internal/api"
)

// TestBusybox boots an image that has no init: ours runs what the image says,
// as whom and where it says, and its end is the VM's end.
func TestBusybox(t *testing.T) {
	need(t, "qemu")
	h := newHost(t).withKernel(t)
	ref := writeLayout(t, busybox(t, inquisitive))
	h.banger(t, "image", "pull", "--name", "box", ref)

	r := h.try(t, "vm", "run", "box")
	want := "args one two words\nid 1234 2345\ndir /home/app\nenv hello there\nparent is 1: 1\n"
	if r.stdout != want || r.code != 3 {
		t.Errorf("vm run box: got %q and exit status %d, want %q and 3\n%s", r.stdout, r.code, want, r.stderr)
	}

	r = h.try(t, "vm", "run", "box", "--", "other")
	if want := strings.Replace(want, "one two words", "other", 1); r.stdout != want || r.code != 3 {
		t.Errorf("vm run box -- other: got %q and exit status %d, want %q and 3\n%s", r.stdout, r.code, want, r.stderr)
	}
	h.clean(t, "box")
}

// TestNamedVM keeps a VM: it is listed, takes commands while it runs, keeps its
// disk when it stops, and holds its image.
func TestNamedVM(t *testing.T) {
	need(t, "qemu")
	h := newHost(t).withKernel(t)
	h.banger(t, "image", "pull", "--name", "sleeper", writeLayout(t, busybox(t, sleeper)))
	h.banger(t, "vm", "run", "--name", "one", "--detach", "--cpus", "1", "--memory", "300M", "--disk", "2G", "sleeper")

	vms := list[api.VM](t, h, "vm")
	if len(vms) != 1 || vms[0].Name != "one" || vms[0].State != api.VMRunning || vms[0].MemoryMiB != 300 || vms[0].DiskBytes != 2<<30 {
		t.Errorf("vm list: got %+v, want one running VM of 300 MiB with a disk of 2 GiB", vms)
	}
	for _, c := range []struct {
		command string
		stdout  string
		code    int
	}{
		{"echo hello; exit 7", "hello\n", 7},
		{"kill -9 $$", "", 128 + 9},
		{"true", "", 0},
		{`[ $(df -m / | { read a; read a b c; echo $b; }) -gt 1500 ] && echo grown`, "grown\n", 0},
		{"echo kept >/home/app/file", "", 0},
	} {
		if r := h.try(t, "vm", "exec", "one", "--", "sh", "-c", c.command); r.stdout != c.stdout || r.code != c.code {
			t.Errorf("exec %s: got %q and %d, want %q and %d\n%s", c.command, r.stdout, r.code, c.stdout, c.code, r.stderr)
		}
	}
	if r := h.try(t, "image", "rm", "sleeper"); r.code != 1 || !strings.Contains(r.stderr, "one") {
		t.Errorf("image rm of an image in use: exit status %d, want 1 and the VM's name\n%s", r.code, r.stderr)
	}
	if r := h.try(t, "vm", "run", "--name", "one", "sleeper"); r.code != 125 || !strings.Contains(r.stderr, "exists already") {
		t.Errorf("vm run with a name that is taken: exit status %d, want 125\n%s", r.code, r.stderr)
	}

	h.banger(t, "daemon", "stop")
	if got := h.banger(t, "vm", "exec", "one", "--", "cat", "/home/app/file"); got != "kept\n" {
		t.Errorf("after the daemon's restart: got %q, want %q", got, "kept\n")
	}
	h.banger(t, "vm", "stop", "one")
	if vms := list[api.VM](t, h, "vm"); len(vms) != 1 || vms[0].State != api.VMStopped {
		t.Errorf("after stop: %+v, want one stopped VM", vms)
	}
	h.banger(t, "vm", "start", "one")
	if got := h.banger(t, "vm", "exec", "one", "--", "cat", "/home/app/file"); got != "kept\n" {
		t.Errorf("after stop and start: got %q, want %q", got, "kept\n")
	}
	if logs := h.banger(t, "vm", "logs", "one"); logs == "" {
		t.Error("vm logs: the console is empty")
	}
	h.banger(t, "vm", "rm", "--force", "one")
	h.clean(t, "sleeper")
	h.banger(t, "image", "rm", "sleeper")
	h.clean(t)
}

// TestKilledClient kills vm run where the command is not the main process and
// its end alone would end nothing: the VM goes all the same.
func TestKilledClient(t *testing.T) {
	need(t, "qemu")
	h := newHost(t).withKernel(t)
	h.banger(t, "image", "pull", "--name", "box", writeLayout(t, busybox(t, sleeper)))
	client := h.command(t.Context(), "vm", "run", "--init", "/bin/init", "box", "--", "sh", "-c", "echo up; sleep 1000")
	out, err := client.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("up\n"))); err != nil {
		t.Fatal(err)
	}
	if vms := list[api.VM](t, h, "vm"); len(vms) != 1 || vms[0].State != api.VMRunning || vms[0].Init != "/bin/init" {
		t.Fatalf("vm list: got %+v, want one that runs /bin/init", vms)
	}
	if err := client.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = client.Wait() // it was killed
	for deadline := time.Now().Add(time.Minute); len(list[api.VM](t, h, "vm")) > 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the VM outlives its owner")
		}
	}
	h.clean(t, "box")
}

// TestScratch boots an image of one static program: no shell, no passwd, and
// no directory for WORKDIR, which then is made.
func TestScratch(t *testing.T) {
	need(t, "qemu")
	h := newHost(t).withKernel(t)
	r := h.try(t, "vm", "run", writeLayout(t, scratchImage(t)))
	if r.code != 5 {
		t.Fatalf("exit status %d, want 5\n%s%s", r.code, r.stdout, r.stderr)
	}
	var got struct {
		Args, Env []string
		UID, GID  int
		PID       int
		Dir       string
	}
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
		t.Fatalf("%v: %s", err, r.stdout)
	}
	if want := []string{"/report", "--flag", "a b"}; !slices.Equal(got.Args, want) {
		t.Errorf("args are %q, want %q", got.Args, want)
	}
	if got.UID != 4321 || got.GID != 8765 {
		t.Errorf("runs as %d:%d, want 4321:8765", got.UID, got.GID)
	}
	if got.Dir != "/made/for/it" {
		t.Errorf("runs in %s, want /made/for/it", got.Dir)
	}
	if !slices.Contains(got.Env, "ONLY=this") {
		t.Errorf("environment is %q, want ONLY=this in it", got.Env)
	}
	if got.PID == 1 {
		t.Error("runs as PID 1, which is the agent's")
	}
}
