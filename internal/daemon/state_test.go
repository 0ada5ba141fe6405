package daemon

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banger/internal/api"
	"banger/internal/client"
	"banger/internal/clone"
	"banger/internal/dirs"
)

// testConfig is a daemon's in a directory of its own.
func testConfig(t *testing.T) Config {
	t.Helper()
	home := t.TempDir()
	c := Config{
		Dirs: dirs.Dirs{
			Config: filepath.Join(home, "config"), State: filepath.Join(home, "state"),
			Cache: filepath.Join(home, "cache"), Run: filepath.Join(home, "run"),
		},
		Version: "1", Build: "test", Supervise: []string{"/bin/false"}, Log: slog.New(slog.DiscardHandler),
	}
	if err := os.MkdirAll(c.Dirs.Run, 0o700); err != nil {
		t.Fatal(err)
	}
	return c
}

// testDaemon is a daemon that serves, with a kernel called "k".
type testDaemon struct {
	*daemon
	*client.Client
	t         *testing.T
	src       string          // files to make images of
	described *apiDescription // what calls are held against, or nil
}

func newTestDaemon(t *testing.T) *testDaemon {
	t.Helper()
	d, free, err := open(t.Context(), testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(free)
	c, _ := serve(t, d.routes())
	td := &testDaemon{daemon: d, Client: c, t: t, src: t.TempDir()}
	kernel := filepath.Join(td.src, "Image")
	// What is an arm64 kernel by its magic (Documentation/arch/arm64/booting.rst).
	td.write(kernel, append(make([]byte, 56), "ARM\x64 Linux version 6.6.6-test (builder@host)"...))
	if _, err := d.kernels.Import(t.Context(), api.KernelImport{Path: kernel, Name: "k"}, nil); err != nil {
		t.Fatal(err)
	}
	return td
}

func (d *testDaemon) write(path string, content []byte) {
	d.t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// call makes a call that must succeed.
func (d *testDaemon) call(verb string, req, result any) {
	d.t.Helper()
	var raw json.RawMessage
	err := d.Call(d.t.Context(), verb, req, &raw)
	d.done(verb, req, raw, result, err)
}

// stream makes a call with progress that must succeed.
func (d *testDaemon) stream(verb string, req, result any) {
	d.t.Helper()
	var raw json.RawMessage
	err := d.Stream(d.t.Context(), verb, req, nil, &raw)
	d.done(verb, req, raw, result, err)
}

func (d *testDaemon) done(verb string, req any, raw json.RawMessage, result any, err error) {
	d.t.Helper()
	if err == nil && result != nil {
		err = json.Unmarshal(raw, result)
	}
	if err != nil {
		d.t.Fatalf("%s: %v; hint: %s", verb, err, api.HintOf(err))
	}
	if d.described != nil {
		d.described.exchange(verb, req, raw)
	}
}

// pull makes an image of one file, with the kernel.
func (d *testDaemon) pull(name string) api.Image {
	d.t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "etc/hostname", Mode: 0o644, Size: int64(len(name)), Typeflag: tar.TypeReg}); err != nil {
		d.t.Fatal(err)
	}
	if _, err := io.WriteString(w, name); err != nil {
		d.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		d.t.Fatal(err)
	}
	path := filepath.Join(d.src, name+".tar")
	d.write(path, b.Bytes())
	var img api.Image
	d.stream("image.pull", api.ImagePull{Ref: "tar:" + path, SizeBytes: 8 << 20, NoGuestFiles: true, KernelChoice: api.KernelChoice{KernelRef: "k"}}, &img)
	return img
}

func (d *testDaemon) create(name, image string) api.VM {
	d.t.Helper()
	var vm api.VM
	d.stream("vm.create", api.VMCreate{Name: name, Image: image, CPUs: 1, MemoryMiB: 64}, &vm)
	return vm
}

// problems checks the state.
func (d *testDaemon) problems(repair bool) []api.Problem {
	d.t.Helper()
	var found []api.Problem
	d.call("system.check", api.SystemCheck{Repair: repair}, &found)
	return found
}

func (d *testDaemon) sound() {
	d.t.Helper()
	if found := d.problems(false); len(found) != 0 {
		d.t.Errorf("check: %+v", found)
	}
}

func TestRemoveImage(t *testing.T) {
	d := newTestDaemon(t)
	img := d.pull("web")
	d.call("image.tag", api.ImageTag{Image: "web", Name: "alias"}, nil)
	d.create("dev", "alias")
	d.create("ci", "web")

	// A name of several may go at any time.
	var removed api.ImageRemoved
	d.call("image.rm", api.ImageRemove{Name: "web"}, &removed)
	if removed.Deleted || removed.Image.ID != img.ID {
		t.Errorf("removed a name: %+v", removed)
	}
	err := d.Call(t.Context(), "image.rm", api.ImageRemove{Name: "alias"}, nil)
	if !errors.Is(err, api.ErrInUse) || !strings.Contains(err.Error(), "dev") || !strings.Contains(err.Error(), "ci") {
		t.Errorf("the last name of an image that VMs use: got %v, want ErrInUse that names dev and ci", err)
	}
	d.sound()
	d.call("image.rm", api.ImageRemove{Name: "alias", Force: true}, &removed)
	slices.Sort(removed.VMs)
	if !removed.Deleted || !slices.Equal(removed.VMs, []string{"ci", "dev"}) {
		t.Errorf("forced: %+v, want it deleted with ci and dev", removed)
	}
	var vms []api.VM
	if d.call("vm.list", nil, &vms); len(vms) != 0 {
		t.Errorf("VMs are left: %+v", vms)
	}
	if _, err := os.Stat(filepath.Dir(img.RootfsPath)); !os.IsNotExist(err) {
		t.Errorf("the image's directory: %v, want that it is gone", err)
	}
	d.sound()
}

func TestPromote(t *testing.T) {
	d := newTestDaemon(t)
	base := d.pull("web")
	vm := d.create("dev", "web")
	disk, err := os.OpenFile(filepath.Join(vm.Dir, "disk.ext4"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	const mark = "written by the guest"
	if _, err := disk.WriteAt([]byte(mark), 6<<20); err != nil {
		t.Fatal(err)
	}
	if err := disk.Close(); err != nil {
		t.Fatal(err)
	}
	var img api.Image
	d.stream("image.promote", api.ImagePromote{VM: "dev"}, &img)
	if img.Name != "dev" || img.Ref != "vm:dev" || !img.Managed || img.KernelRef != "k" || img.Platform != base.Platform || img.SizeBytes != vm.DiskBytes {
		t.Errorf("got %+v", img)
	}
	if h := img.Source.History; len(h) != 1 || !strings.Contains(h[0].CreatedBy, "promote dev") {
		t.Errorf("history: %+v", h)
	}
	b, err := os.ReadFile(img.RootfsPath)
	if err != nil || !bytes.Contains(b, []byte(mark)) {
		t.Errorf("the image has not what the guest wrote: %v", err)
	}
	d.sound()
	// It stands alone.
	d.call("image.rm", api.ImageRemove{Name: "web", Force: true}, nil)
	d.create("again", "dev")
	d.sound()

	err = d.Stream(t.Context(), "image.promote", api.ImagePromote{VM: "again", Name: "dev"}, nil, &img)
	if !errors.Is(err, api.ErrExists) || !strings.Contains(api.HintOf(err), "dev-2") {
		t.Errorf("a taken name: got %v, hint %q; want ErrExists and dev-2", err, api.HintOf(err))
	}
}

// The disk of a VM that was killed has a journal to replay: it is promoted, and
// said so; the next boot replays it.
func TestPromoteAKilledVM(t *testing.T) {
	d := newTestDaemon(t)
	d.pull("web")
	vm := d.create("dev", "web")
	disk, err := os.OpenFile(filepath.Join(vm.Dir, "disk.ext4"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	// s_feature_incompat, at 0x60 of the superblock, gets EXT4_FEATURE_INCOMPAT_RECOVER.
	const at, recover = 1024 + 0x60, 0x4
	b := make([]byte, 1)
	if _, err := disk.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] |= recover
	if _, err := disk.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	if err := disk.Close(); err != nil {
		t.Fatal(err)
	}
	var img api.Image
	d.stream("image.promote", api.ImagePromote{VM: "dev"}, &img)
	if len(img.Warnings) != 1 || img.Warnings[0].Kind != "unclean" {
		t.Errorf("warnings: %+v, want one that the disk is unclean", img.Warnings)
	}
	d.sound()
	err = d.Stream(t.Context(), "image.register", api.ImageRegister{Name: "x", RootfsPath: img.RootfsPath}, nil, &img)
	if !errors.Is(err, api.ErrInvalid) || !strings.Contains(api.HintOf(err), "e2fsck") {
		t.Errorf("register such a disk: got %v, hint %q; want ErrInvalid and e2fsck", err, api.HintOf(err))
	}
}

func TestRegister(t *testing.T) {
	d := newTestDaemon(t)
	base := d.pull("web")
	disk := filepath.Join(d.src, "disk.ext4")
	if err := clone.File(t.Context(), disk, base.RootfsPath, clone.Options{}, nil); err != nil {
		t.Fatal(err)
	}
	register := func(name string, cp bool) (img api.Image) {
		t.Helper()
		d.stream("image.register", api.ImageRegister{Name: name, RootfsPath: disk, Copy: cp, KernelChoice: api.KernelChoice{KernelRef: "k"}}, &img)
		return img
	}
	place, cp := register("place", false), register("copy", true)
	if place.Managed || place.RootfsPath != disk || !cp.Managed || cp.RootfsPath == disk {
		t.Errorf("in place: %+v\ncopy: %+v", place, cp)
	}
	if cp.AllocatedBytes > base.AllocatedBytes+64<<10 {
		t.Errorf("the copy takes %d bytes, the original %d: its holes were filled", cp.AllocatedBytes, base.AllocatedBytes)
	}
	d.sound()
	// The copy does not care what becomes of the file.
	if err := os.Truncate(disk, 9<<20); err != nil {
		t.Fatal(err)
	}
	d.create("one", "copy")
	err := d.Stream(t.Context(), "vm.create", api.VMCreate{Name: "two", Image: "place"}, nil, &api.VM{})
	if err == nil || !strings.Contains(err.Error(), "has changed") {
		t.Errorf("a VM of a file that has changed: got %v", err)
	}
	if found := d.problems(true); len(found) != 1 || found[0].Name != "place" || found[0].Repaired {
		t.Errorf("check: %+v, want one that place has changed", found)
	}
	d.call("image.rm", api.ImageRemove{Name: "place"}, nil)
	if _, err := os.Stat(disk); err != nil {
		t.Errorf("the file of an image in place is gone: %v", err)
	}
	d.sound()
}

// An image for another kind of machine is said to be one when it is pulled, and
// no VM is made of it.
func TestImageOfAnotherMachine(t *testing.T) {
	d := newTestDaemon(t)
	d.pull("web")
	var warnings []string
	req := api.ImagePull{Ref: "tar:" + filepath.Join(d.src, "web.tar"), Name: "foreign", Platform: "linux/riscv64", SizeBytes: 8 << 20, NoGuestFiles: true}
	var img api.Image
	err := d.Stream(t.Context(), "image.pull", req, func(e api.Event) {
		if e.Warning {
			warnings = append(warnings, e.Message)
		}
	}, &img)
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "riscv64") {
		t.Errorf("pull: got %v and warnings %q, want one of riscv64", err, warnings)
	}
	err = d.Stream(t.Context(), "vm.create", api.VMCreate{Name: "dev", Image: "foreign", CPUs: 1, MemoryMiB: 64}, nil, &api.VM{})
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "riscv64") || !strings.Contains(api.HintOf(err), "--platform") {
		t.Errorf("a VM of it: got %v, hint %q", err, api.HintOf(err))
	}
	d.create("ours", "web")
	d.sound()
}

func TestPromoteWantsAStoppedVM(t *testing.T) {
	d := newTestDaemon(t)
	d.pull("web")
	vm := d.create("dev", "web")
	_, release, err := d.vms.Hold(vm.ID) // as its supervisor does
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var img api.Image
	if err := d.Stream(ctx, "image.promote", api.ImagePromote{VM: "dev"}, nil, &img); !errors.Is(err, api.ErrInUse) {
		t.Errorf("got %v, want ErrInUse", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	d.sound()
}

func TestKernelInUse(t *testing.T) {
	d := newTestDaemon(t)
	img := d.pull("web")
	err := d.Call(t.Context(), "kernel.rm", api.KernelRemove{Name: "k"}, nil)
	if !errors.Is(err, api.ErrInUse) || !strings.Contains(err.Error(), "web") {
		t.Errorf("got %v, want ErrInUse that names web", err)
	}
	d.call("kernel.rm", api.KernelRemove{Name: "k", Force: true}, nil)
	if _, err := os.Stat(img.KernelPath); err != nil {
		t.Errorf("the image's copy: %v", err)
	}
	if err := d.Call(t.Context(), "kernel.show", api.Named{Name: "k"}, nil); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	d.sound()
}
