package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"banger/internal/api"
)

// TestOrdinaryUser does the whole way as a user without any privilege: convert,
// pull a kernel, pull, run.
func TestOrdinaryUser(t *testing.T) {
	need(t, "qemu", "kernel")
	h := newHost(t).ordinary(t)
	ref := writeLayout(t, busybox(t, inquisitive))

	h.banger(t, "convert", ref, "-o", "disk.ext4")
	h.banger(t, "kernel", "pull", "debian")
	h.banger(t, "image", "pull", "--name", "box", ref)
	r := h.try(t, "vm", "run", "box")
	if r.code != 3 || !strings.HasPrefix(r.stdout, "args one two words\nid 1234 2345\n") {
		t.Errorf("vm run: exit status %d and %q\n%s", r.code, r.stdout, r.stderr)
	}

	h.banger(t, "image", "pull", "--name", "sleeper", writeLayout(t, busybox(t, sleeper)))
	h.banger(t, "vm", "run", "--name", "one", "--detach", "sleeper")
	uid := os.Getuid()
	if h.cred != nil {
		uid = int(h.cred.Uid)
	}
	pid := show[api.VM](t, h, "vm", "one").PID
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf("\nUid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d\n", uid),
		"\nCapPrm:\t0000000000000000\n",
		"\nCapEff:\t0000000000000000\n",
	} {
		if !strings.Contains(string(status), want) {
			t.Errorf("process %d: want %q in\n%s", pid, want, status)
		}
	}
	h.banger(t, "vm", "rm", "--force", "one")
	h.clean(t, "box", "sleeper")
}
