package e2e

import (
	"strings"
	"testing"

	"banger/internal/api"
)

// TestPromote makes an image of what a VM has become: new VMs have its files and
// run what its image ran, also after that image is gone and its VM was killed.
func TestPromote(t *testing.T) {
	need(t, "qemu")
	h := newHost(t).withKernel(t)
	h.banger(t, "image", "pull", "--name", "sleeper", writeLayout(t, busybox(t, sleeper)))
	h.banger(t, "vm", "run", "--name", "one", "--detach", "--memory", "256M", "sleeper")
	h.banger(t, "vm", "exec", "one", "--", "sh", "-c", "echo installed >/etc/tool; id -u >/etc/who; busybox sync")
	if r := h.try(t, "image", "promote", "one"); r.code != 1 || !strings.Contains(r.stderr, "in use") {
		t.Errorf("promote a VM that runs: exit status %d, want 1\n%s", r.code, r.stderr)
	}
	if got := h.banger(t, "image", "tag", "sleeper", "alias"); got != "alias\n" {
		t.Errorf("image tag: got %q", got)
	}
	h.banger(t, "vm", "stop", "one")
	h.banger(t, "image", "promote", "one", "--name", "golden")
	base, golden := show[api.Image](t, h, "image", "sleeper"), show[api.Image](t, h, "image", "golden")
	if golden.Ref != "vm:one" || golden.KernelRef != base.KernelRef || golden.Process.Cmd[0] != "1000" || len(golden.Warnings) != 0 {
		t.Errorf("promoted: %+v", golden)
	}

	// The VM runs again and is killed with its image, under both names.
	h.banger(t, "vm", "start", "one")
	if r := h.try(t, "image", "rm", base.ID); r.code != 1 || !strings.Contains(r.stderr, "alias") {
		t.Errorf("rm of an ID with two names: exit status %d, want 1\n%s", r.code, r.stderr)
	}
	if r := h.try(t, "image", "rm", "--force", base.ID); r.code != 0 || !strings.Contains(r.stderr, "removed vm one") {
		t.Errorf("rm --force: exit status %d\n%s", r.code, r.stderr)
	}
	h.clean(t, "golden")

	if got := h.banger(t, "vm", "run", "--memory", "256M", "--init", "banger", "golden", "--", "1"); got != "" {
		t.Errorf("the image's own process: got %q", got)
	}
	h.banger(t, "vm", "run", "--name", "two", "--detach", "--memory", "256M", "golden")
	if got := h.banger(t, "vm", "exec", "two", "--", "cat", "/etc/tool", "/etc/who"); got != "installed\n0\n" {
		t.Errorf("in a VM of the promoted image: got %q", got)
	}
	h.banger(t, "vm", "rm", "--force", "two")
	h.banger(t, "system", "check")
	h.clean(t, "golden")
}
