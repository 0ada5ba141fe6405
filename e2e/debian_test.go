package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banger/internal/api"
)

// TestDebianDisk pulls a Debian image of several layers from a registry and
// compares the disk with what umoci unpacks, path by path.
func TestDebianDisk(t *testing.T) {
	need(t, "root", "umoci", "e2fsck")
	h := newHost(t)
	ref, layout := pushDebian(t)

	bundle := filepath.Join(t.TempDir(), "bundle")
	tool(t, "umoci", "unpack", "--image", layout+":debian", bundle)
	want := hostTree(t, filepath.Join(bundle, "rootfs"))

	pure := filepath.Join(h.home, "pure.ext4")
	h.banger(t, "convert", "--no-guest-files", ref, "-o", pure)
	fsck(t, pure)
	got := diskTree(t, pure)
	diffTrees(t, got, want)
	for _, path := range mustHave {
		if _, ok := got[path]; !ok {
			t.Errorf("%s is missing: the image is not what this test is for", path)
		}
	}

	h.banger(t, "image", "pull", "--name", "debian", ref)
	disk := show[api.Image](t, h, "image", "debian").RootfsPath
	fsck(t, disk)
	pulled := diskTree(t, disk)
	diffTrees(t, takeGuestFiles(t, pulled), got)
	verifyDebian(t, h, want)
}

// mustHave are paths of the image that the comparison is about.
var mustHave = []string{
	"usr/bin/less", "usr/bin/passwd", "usr/local/bin/capable", "srv/kinds/deep/link-b", "srv/kinds/char",
	"srv/kinds/acl", "srv/kinds/sparse", "srv/to-file", "srv/opaque/below/new", "srv/survives-its-other-name",
}

// guestFiles are what a pull adds: mode and, of links, the target.
var guestFiles = map[string]struct {
	mode   fs.FileMode
	target string
}{
	"usr/local/bin/banger-vsock-agent":                                      {mode: 0o755},
	"usr/local/libexec":                                                     {mode: 0o755 | fs.ModeDir},
	"usr/local/libexec/banger-network-bootstrap":                            {mode: 0o755},
	"etc/systemd/system/banger-network.service":                             {mode: 0o644},
	"etc/systemd/system/banger-vsock-agent.service":                         {mode: 0o644},
	"etc/modules-load.d/banger-vsock.conf":                                  {mode: 0o644},
	"etc/systemd/system/multi-user.target.wants/banger-network.service":     {mode: 0o777 | fs.ModeSymlink},
	"etc/systemd/system/multi-user.target.wants/banger-vsock-agent.service": {mode: 0o777 | fs.ModeSymlink},
}

// takeGuestFiles checks the guest files of a tree and returns it without them.
func takeGuestFiles(t *testing.T, tree map[string]node) map[string]node {
	t.Helper()
	tree = maps.Clone(tree)
	for path, want := range guestFiles {
		got, ok := tree[path]
		if !ok || got.mode != want.mode || got.uid != 0 || got.gid != 0 {
			t.Errorf("%s: got %+v, want mode %v of root", path, got, want.mode)
		}
		if want.mode&fs.ModeSymlink != 0 && filepath.Base(got.target) != filepath.Base(path) {
			t.Errorf("%s points to %s", path, got.target)
		}
		delete(tree, path)
	}
	return tree
}

// TestSameBytes converts the same image twice, at another time, into another
// directory, with another cache: the disk is the same.
func TestSameBytes(t *testing.T) {
	layout := "oci:" + debianLayout(t) + ":debian"
	var sums []string
	for range 2 {
		h := newHost(t)
		disk := filepath.Join(h.home, "disk.ext4")
		h.banger(t, "convert", layout, "-o", disk)
		sums = append(sums, digest(t, disk))
		// The clock must show another second, or this proves nothing.
		time.Sleep(1100 * time.Millisecond)
	}
	if sums[0] != sums[1] {
		t.Errorf("digests are %s and %s, want the same", sums[0], sums[1])
	}
}

// TestDebianBoots boots it: systemd reaches multi-user, our units run, sshd
// answers, ownership is right, commands end with their own status.
func TestDebianBoots(t *testing.T) {
	need(t, "qemu")
	h := newHost(t).withKernel(t)
	h.banger(t, "image", "pull", "--name", "debian", "oci:"+debianLayout(t)+":debian")
	h.banger(t, "vm", "run", "--name", "deb", "--detach", "--timing", "debian")
	if init := show[api.VM](t, h, "vm", "deb").Init; init != "systemd" {
		t.Errorf("PID 1 is %q, want systemd", init)
	}
	for _, c := range []struct {
		command string
		stdout  string
		code    int
	}{
		{"systemctl is-system-running --wait", "running\n", 0},
		{"systemctl is-active multi-user.target banger-network.service banger-vsock-agent.service ssh.service", "active\nactive\nactive\nactive\n", 0},
		{"exec 3<>/dev/tcp/127.0.0.1/22; head -c 8 <&3", "SSH-2.0-", 0},
		{"stat -c '%u %a' /usr/bin/passwd", "0 4755\n", 0},
		{"cat /proc/1/comm", "systemd\n", 0},
		{"findmnt -no FSTYPE /", "ext4\n", 0},
		{"echo $IMAGE_SAYS; pwd", "hello\n/srv/kinds\n", 0},
		{"setpriv --reuid 4000000000 --clear-groups cat far-owner", "far\n", 0},
		{"test $(stat -c %h capable) = 3", "", 0},
		{"true", "", 0},
		{"exit 7", "", 7},
		{"kill -9 $$", "", 128 + 9},
		{"cat", "", 0},
	} {
		r := h.try(t, "vm", "exec", "deb", "--", "bash", "-c", c.command)
		if r.stdout != c.stdout || r.code != c.code {
			t.Errorf("exec %s: got %q and %d, want %q and %d\n%s", c.command, r.stdout, r.code, c.stdout, c.code, r.stderr)
		}
	}
	if t.Failed() {
		t.Log(h.try(t, "vm", "exec", "deb", "--", "systemctl", "--failed", "--no-pager").stdout)
		t.Log(h.banger(t, "vm", "logs", "deb"))
	}
	h.banger(t, "vm", "stop", "deb")
	disk := filepath.Join(show[api.VM](t, h, "vm", "deb").Dir, "disk.ext4")
	fsck(t, disk)
	h.banger(t, "vm", "rm", "deb")
	h.clean(t, "debian")
}

// fsck wants e2fsck to find nothing to say about a file system.
func fsck(t *testing.T, disk string) {
	t.Helper()
	need(t, "e2fsck")
	cmd := exec.CommandContext(t.Context(), "e2fsck", "-fn", disk)
	if out, err := cmd.CombinedOutput(); err != nil || strings.Count(string(out), "\n") > 7 {
		t.Errorf("e2fsck -fn %s: %v\n%s", disk, err, out)
	}
}

func digest(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}
