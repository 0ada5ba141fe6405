package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/api"
)

// verifyDebian holds the image "debian" against its layers: as it was pulled,
// after the cache was emptied, and with its disk changed; and exports it for umoci
// to read, which must make of it what it makes of the original, want.
func verifyDebian(t *testing.T, h *host, want map[string]node) {
	t.Helper()
	need(t, "skopeo", "debugfs")
	verified := func() (v api.ImageVerified, code int) {
		t.Helper()
		r := h.try(t, "image", "verify", "--json", "debian")
		if err := json.Unmarshal([]byte(r.stdout), &v); err != nil {
			t.Fatalf("image verify: exit status %d, %v\n%s", r.code, err, r.stderr)
		}
		return v, r.code
	}
	for _, when := range []string{"as it was pulled", "without the cache"} {
		if v, code := verified(); code != 0 || !v.Equal || len(v.Added) != len(guestFiles) || len(v.Replaced) != 0 || v.Paths < 5000 || v.Bytes < 50<<20 {
			t.Errorf("%s: exit status %d, %+v; want it equal", when, code, v)
		}
		if err := os.RemoveAll(filepath.Join(h.home, "cache")); err != nil {
			t.Fatal(err)
		}
	}
	changes := h.banger(t, "image", "diff", "debian")
	for path := range guestFiles {
		if !strings.Contains(changes, "A /"+path+"\n") {
			t.Errorf("image diff lacks %s:\n%s", path, changes)
		}
	}
	if n := strings.Count(changes, "\n"); n != len(guestFiles) {
		t.Errorf("image diff has %d lines, want %d:\n%s", n, len(guestFiles), changes)
	}

	archive := filepath.Join(h.home, "debian.oci")
	h.banger(t, "image", "export", "--no-guest-files", "debian", "-o", archive)
	var config struct{ Config struct{ Env []string } }
	if err := json.Unmarshal([]byte(tool(t, "skopeo", "inspect", "--config", "oci-archive:"+archive)), &config); err != nil || strings.Join(config.Config.Env, " ") != "IMAGE_SAYS=hello" {
		t.Errorf("skopeo inspect: %+v, %v", config, err)
	}
	unpacked := t.TempDir()
	tool(t, "tar", "-C", unpacked, "-xf", archive)
	tool(t, "umoci", "unpack", "--image", unpacked+":debian", filepath.Join(unpacked, "exported"))
	diffTrees(t, hostTree(t, filepath.Join(unpacked, "exported", "rootfs")), want)

	disk := show[api.Image](t, h, "image", "debian").RootfsPath
	debugfs(t, disk, "sif /usr/bin/passwd mode 0100755\nrm /srv/kinds/link-a")
	v, code := verified()
	got := ""
	for _, d := range v.Differences {
		got += d.Path + " " + d.What + "\n"
	}
	if damage := "/srv/kinds/link-a missing\n/usr/bin/passwd mode\n"; code != 1 || v.Equal || got != damage {
		t.Errorf("changed: exit status %d,\n%s, want\n%s", code, got, damage)
	}
}

// debugfs runs commands of debugfs(8) on a disk.
func debugfs(t *testing.T, disk, commands string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "debugfs", "-w", "-f", "-", disk)
	cmd.Stdin = strings.NewReader(commands + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("debugfs: %v\n%s", err, out)
	}
}

// TestDiffVM sees what a guest has done to its disk, and says when it cannot.
func TestDiffVM(t *testing.T) {
	need(t, "qemu")
	h := newHost(t).withKernel(t)
	h.banger(t, "image", "pull", "--name", "sleeper", writeLayout(t, busybox(t, sleeper)))
	h.banger(t, "vm", "run", "--name", "one", "--detach", "--memory", "256M", "sleeper")
	h.banger(t, "vm", "exec", "one", "--", "sh", "-c", `
		busybox mkdir /new && echo x >'/new/a
b' && echo app2:x:1:1::/: >>/etc/passwd && busybox rm /etc/group && busybox chmod 0711 /tmp && busybox ln /etc/passwd /etc/again
		busybox rm -r /home && busybox sync`)
	if r := h.try(t, "image", "diff", "one"); r.code != 1 || !strings.Contains(r.stderr, "in use") || !strings.Contains(r.stderr, "vm stop") {
		t.Errorf("a VM that runs: exit status %d\n%s", r.code, r.stderr)
	}
	if err := unix.Kill(show[api.VM](t, h, "vm", "one").PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); show[api.VM](t, h, "vm", "one").State.Live(); time.Sleep(100 * time.Millisecond) {
		if time.Since(start) > 30*time.Second {
			t.Fatal("the VM was killed and lives")
		}
	}
	r := h.try(t, "image", "diff", "one")
	if r.code != 1 || !strings.Contains(r.stderr, "journal") || !strings.Contains(r.stderr, "hint: it was not shut down") {
		t.Errorf("a VM that was killed: exit status %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	h.banger(t, "vm", "start", "one")
	h.banger(t, "vm", "stop", "one")
	got := h.banger(t, "image", "diff", "one")
	for _, line := range []string{"A /etc/again", "D /etc/group", "C /etc/passwd", "D /home", "A /new", `A /new/a\nb`, "C /tmp"} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("image diff lacks %q:\n%s", line, got)
		}
	}
	h.banger(t, "vm", "rm", "one")
	h.clean(t, "sleeper")
}
