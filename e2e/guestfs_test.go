package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"banger/ext4"
	"banger/internal/guest"
	"banger/internal/vmm"
	"banger/internal/vmm/qemu"
)

// TestGuestGrowsFileSystem has a guest's kernel grow one of our file systems from
// 1 to 64 GiB while it is written to (only a guest has CAP_SYS_RESOURCE here).
func TestGuestGrowsFileSystem(t *testing.T) {
	t.Parallel()
	g := newGuestFS(t, 64<<30)
	console := g.boot(t, "task=grow")
	m := regexp.MustCompile(`GREW from (\d+) to (\d+) bytes, (\d+) files synced meanwhile`).FindStringSubmatch(console)
	if m == nil || !strings.Contains(console, "DONE") {
		t.Fatalf("the guest said:\n%s", console)
	}
	if from, to := number(t, m[1]), number(t, m[2]); from > 1<<30 || to < 62<<30 {
		t.Errorf("grew from %d to %d bytes, want from 1 to 64 GiB but for metadata", from, to)
	}
	t.Log(m[0])
	if number(t, m[3]) == 0 {
		t.Error("nothing was written while it grew: no load")
	}
	g.verify(t)
}

// TestGuestReplaysJournal kills a machine whose guest writes, and has the guest's
// kernel replay the journal that is left: what had been synced is there.
func TestGuestReplaysJournal(t *testing.T) {
	t.Parallel()
	need(t, "dumpe2fs")
	g := newGuestFS(t, 4<<30)
	in := g.start(t, "task=write")
	synced := regexp.MustCompile(`(?m)^synced (\d) (\d+)\r?$`)
	last := map[string]string{}
	for deadline := time.Now().Add(commandTimeout); ; time.Sleep(5 * time.Millisecond) {
		all := synced.FindAllStringSubmatch(g.console(t), -1)
		for _, m := range all {
			last[m[1]] = m[2]
		}
		if len(all) > 100 && len(last) == 3 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the guest said:\n%s", g.console(t))
		}
	}
	if err := in.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := in.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if super := tool(t, "dumpe2fs", "-h", g.disk); !strings.Contains(super, "needs_recovery") {
		t.Fatalf("the journal is clean: this proves nothing\n%s", super)
	}
	console := g.boot(t, fmt.Sprintf("task=check synced=%s,%s,%s", last["0"], last["1"], last["2"]))
	if !strings.Contains(console, "recovery complete") || !strings.Contains(console, "DONE") {
		t.Fatalf("the guest said:\n%s", console)
	}
	g.verify(t)
}

// guestFS is a file system of ours and a machine that does nothing but use it.
type guestFS struct {
	disk    string
	machine vmm.Machine
	init    []byte // testdata/guestfs
	modules string // the kernel's modules.ext4
}

// oldFiles is how many files the file system has before a guest sees it.
const oldFiles = 3000

// newGuestFS writes a file system of 1 GiB at the start of a disk of that size.
func newGuestFS(t *testing.T, size int64) *guestFS {
	t.Helper()
	need(t, "e2fsck")
	h := newHost(t).withKernel(t)
	kernel := filepath.Join(h.home, "state", "kernels", "debian")
	dir, err := os.MkdirTemp("", "banger-e2e-fs-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	g := &guestFS{disk: filepath.Join(dir, "disk"), modules: filepath.Join(kernel, "modules.ext4"), init: buildStatic(t, "./testdata/guestfs")}
	f, err := os.Create(g.disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := writeOldFiles(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	g.machine = vmm.Machine{
		Name: "guestfs", Arch: "amd64", CPUs: 2, MemoryMiB: 256, Accel: os.Getenv("BANGER_ACCEL"),
		Kernel: filepath.Join(kernel, "vmlinux"), Disks: []vmm.Disk{{Path: g.disk, Serial: "test"}},
		Dir: dir, RunDir: dir,
	}
	return g
}

// writeOldFiles makes the file system: 1 GiB, with an indexed directory.
func writeOldFiles(f *os.File) error {
	w, err := ext4.NewWriter(f, ext4.Options{Size: 1 << 30, UUID: [16]byte{1}, HashSeed: [16]byte{2}})
	if err != nil {
		return err
	}
	parent, err := w.Create(ext4.Root, "old", &ext4.Header{Mode: fs.ModeDir | 0o755})
	if err != nil {
		return err
	}
	for i := range oldFiles {
		text := oldText(i)
		content, err := w.WriteContent(strings.NewReader(text), int64(len(text)))
		if err != nil {
			return err
		}
		if _, err := w.Create(parent, strconv.Itoa(i), &ext4.Header{Mode: 0o644, Content: content}); err != nil {
			return err
		}
	}
	return w.Close()
}

func oldText(i int) string { return strings.Repeat(fmt.Sprintf("old %d\n", i), i%2000) }

// start boots the machine with these kernel parameters.
func (g *guestFS) start(t *testing.T, parameters string) vmm.Instance {
	t.Helper()
	f, err := os.Open(g.modules)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	modules, err := ext4.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	var initramfs bytes.Buffer
	if err := guest.Initramfs(&initramfs, guest.Spec{Agent: g.init, Modules: modules}); err != nil {
		t.Fatal(err)
	}
	g.machine.Initramfs = filepath.Join(g.machine.Dir, "initramfs")
	if err := os.WriteFile(g.machine.Initramfs, initramfs.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	g.machine.Cmdline = strings.Fields(parameters)
	in, err := (&qemu.Driver{}).Start(t.Context(), g.machine)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := in.Kill(); err != nil {
			t.Error(err)
		}
	})
	return in
}

// boot starts the machine, waits for its end and returns what it said.
func (g *guestFS) boot(t *testing.T, parameters string) string {
	t.Helper()
	in := g.start(t, parameters)
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	if err := in.Wait(ctx); err != nil {
		t.Fatalf("%v; the guest said:\n%s", err, g.console(t))
	}
	return g.console(t)
}

func (g *guestFS) console(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(g.machine.Dir, vmm.ConsoleLog))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}

// verify holds the disk against e2fsck, and the files that it had at first
// against what they held.
func (g *guestFS) verify(t *testing.T) {
	t.Helper()
	tool(t, "e2fsck", "-fn", g.disk)
	f, err := os.Open(g.disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fsys, err := ext4.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	for i := range oldFiles {
		r, err := fsys.Open("old/" + strconv.Itoa(i))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil || string(b) != oldText(i) {
			t.Fatalf("old/%d: %d bytes, %v; want %d", i, len(b), err, len(oldText(i)))
		}
	}
}

// buildStatic builds a program for guests.
func buildStatic(t *testing.T, pkg string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if r := run(t, cmd); r.code != 0 {
		t.Fatalf("go build %s: %s", pkg, r.stderr)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
