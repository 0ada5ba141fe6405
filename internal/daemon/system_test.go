package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banger/internal/api"
)

func names(pruned []api.Pruned) []string {
	var all []string
	for _, p := range pruned {
		all = append(all, p.Kind+" "+p.Name)
	}
	slices.Sort(all)
	return all
}

func TestPruneSystem(t *testing.T) {
	d := newTestDaemon(t)
	d.pull("used")
	unused := d.pull("unused")
	d.create("dev", "used")
	leftover := filepath.Join(d.images.Dir, "0123456789ab.staging")
	if err := os.Mkdir(leftover, 0o700); err != nil {
		t.Fatal(err)
	}
	blob := filepath.Join(d.cacheDir(), "blobs", "sha256", strings.Repeat("a", 64))
	if err := os.MkdirAll(filepath.Dir(blob), 0o700); err != nil {
		t.Fatal(err)
	}
	d.write(blob, []byte("blob"))
	prune := func(req api.Prune) []string {
		t.Helper()
		var pruned []api.Pruned
		d.stream("system.prune", req, &pruned)
		return names(pruned)
	}
	plain := []string{"blob " + filepath.Base(blob), "staging 0123456789ab.staging"}
	if got := prune(api.Prune{DryRun: true}); !slices.Equal(got, plain) {
		t.Errorf("dry run: %q, want %q", got, plain)
	}
	if got := prune(api.Prune{}); !slices.Equal(got, plain) {
		t.Errorf("pruned %q, want %q", got, plain)
	}
	if _, err := os.Stat(leftover); !os.IsNotExist(err) {
		t.Errorf("leftover: %v, want that it is gone", err)
	}

	var before []api.DiskUsage
	d.call("system.df", nil, &before)
	usage := map[string]api.DiskUsage{}
	for _, u := range before {
		usage[u.Kind] = u
	}
	if u := usage["images"]; u.Count != 2 || u.SizeBytes < 16<<20 || u.AllocatedBytes >= u.SizeBytes || u.ReclaimableBytes < unused.AllocatedBytes || u.ReclaimableBytes >= u.AllocatedBytes {
		t.Errorf("images: %+v", u)
	}
	if u := usage["kernels"]; u.Count != 1 || u.ReclaimableBytes != 0 {
		t.Errorf("kernels: %+v, want one that is used", u)
	}
	if u := usage["vms"]; u.Count != 1 || u.AllocatedBytes == 0 || u.ReclaimableBytes != 0 {
		t.Errorf("vms: %+v", u)
	}

	all := []string{"image unused"}
	if got := prune(api.Prune{All: true, DryRun: true}); !slices.Equal(got, all) {
		t.Errorf("dry run of all: %q, want %q", got, all)
	}
	if got := prune(api.Prune{All: true}); !slices.Equal(got, all) {
		t.Errorf("pruned %q, want %q", got, all)
	}
	d.call("image.rm", api.ImageRemove{Name: "used", Force: true}, nil)
	if got, want := prune(api.Prune{All: true}), []string{"kernel k"}; !slices.Equal(got, want) {
		t.Errorf("pruned %q, want %q", got, want)
	}
	d.sound()
}

// A dry run tells what the real one frees, of files that an image and its kernel
// share as well.
func TestPruneDryRunIsTrue(t *testing.T) {
	d := newTestDaemon(t)
	d.pull("only")
	var would, did []api.Pruned
	d.stream("system.prune", api.Prune{All: true, DryRun: true}, &would)
	d.stream("system.prune", api.Prune{All: true}, &did)
	if !slices.Equal(would, did) || len(did) != 2 || did[1].Kind != "kernel" || did[1].FreedBytes == 0 {
		t.Errorf("a dry run says %+v, the real one %+v; want the same image and kernel", would, did)
	}
}

func TestCheckSystem(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(d *testDaemon, img api.Image, vm api.VM) error
		kind   string
		says   string
		fixed  bool
	}{
		{"disk is gone", func(_ *testDaemon, img api.Image, _ api.VM) error { return os.Remove(img.RootfsPath) }, "image", "no such file", false},
		{"disk was cut", func(_ *testDaemon, img api.Image, _ api.VM) error { return os.Truncate(img.RootfsPath, 4096) }, "image", "has changed", false},
		{"kernel is gone", func(_ *testDaemon, img api.Image, _ api.VM) error {
			return os.Rename(img.KernelPath, img.KernelPath+".old")
		}, "image", "Image", false},
		{"file too many", func(d *testDaemon, img api.Image, _ api.VM) error {
			return os.WriteFile(filepath.Join(d.images.Dir, img.ID, "modules.ext4"), nil, 0o600)
		}, "image", "modules.ext4", true},
		{"image without a row", func(d *testDaemon, _ api.Image, _ api.VM) error {
			return os.Mkdir(filepath.Join(d.images.Dir, "0123456789ab"), 0o700)
		}, "image", "does not know", true},
		{"half an image", func(d *testDaemon, _ api.Image, _ api.VM) error {
			return os.Mkdir(filepath.Join(d.images.Dir, "0123456789ab.staging"), 0o700)
		}, "staging", "never made", true},
		{"not ours", func(d *testDaemon, _ api.Image, _ api.VM) error {
			return os.Mkdir(filepath.Join(d.images.Dir, "backup"), 0o700)
		}, "image", "not ours", false},
		{"VM is gone", func(_ *testDaemon, _ api.Image, vm api.VM) error { return os.RemoveAll(vm.Dir) }, "vm", "is gone", true},
		{"VM without a row", func(d *testDaemon, _ api.Image, vm api.VM) error {
			return d.rows.DeleteVM(d.t.Context(), vm.ID)
		}, "vm", "does not know", true},
		{"half a VM", func(d *testDaemon, _ api.Image, _ api.VM) error {
			return os.Mkdir(filepath.Join(d.vms.Dir, ".staging-1"), 0o700)
		}, "staging", "never made", true},
		{"disk of a VM was cut", func(_ *testDaemon, _ api.Image, vm api.VM) error {
			return os.Truncate(filepath.Join(vm.Dir, "disk.ext4"), 4096)
		}, "vm", "disk.ext4", false},
		{"torn spec of a VM", func(_ *testDaemon, _ api.Image, vm api.VM) error {
			return os.WriteFile(filepath.Join(vm.Dir, "spec.json"), []byte("{"), 0o600)
		}, "vm", "spec.json", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newTestDaemon(t)
			img := d.pull("web")
			vm := d.create("dev", "web")
			d.sound()
			if err := tt.damage(d, img, vm); err != nil {
				t.Fatal(err)
			}
			if found := d.problems(false); len(found) == 0 || found[0].Repaired || (found[0].Repair != "") != tt.fixed {
				t.Errorf("found %+v, want one that can be repaired: %v", found, tt.fixed)
			}
			found := d.problems(true)
			if len(found) == 0 || found[0].Kind != tt.kind || !strings.Contains(found[0].Message, tt.says) || found[0].Repaired != tt.fixed {
				t.Errorf("found %+v, want one of kind %s that says %q, repaired: %v", found, tt.kind, tt.says, tt.fixed)
			}
			if tt.fixed {
				d.sound()
			}
		})
	}
}

// A VM that is damaged is seen as such; the others, and the daemon, live.
func TestDamagedVM(t *testing.T) {
	d := newTestDaemon(t)
	d.pull("web")
	d.create("good", "web")
	bad := d.create("bad", "web")
	d.write(filepath.Join(bad.Dir, "spec.json"), []byte("{"))
	var vms []api.VM
	d.call("vm.list", nil, &vms)
	states := map[string]api.VMState{}
	for _, vm := range vms {
		states[vm.Name] = vm.State
	}
	if states["good"] != api.VMCreated || states["bad"] != api.VMFailed {
		t.Errorf("got %v, want bad to have failed", states)
	}
	if err := d.adoptVMs(t.Context()); err != nil {
		t.Errorf("the next daemon: %v", err)
	}
	d.call("vm.rm", api.VMRemove{Name: "bad"}, nil)
	d.sound()
}

func TestSecondDaemonIsTold(t *testing.T) {
	c := testConfig(t)
	_, free, err := open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = open(t.Context(), c)
	pid := fmt.Sprint("pid ", os.Getpid())
	if !errors.Is(err, api.ErrInUse) || !strings.Contains(err.Error(), pid) || !strings.Contains(err.Error(), c.Dirs.State) {
		t.Errorf("a second daemon: got %v, want ErrInUse that names %s and the directory", err, pid)
	}
	free()
	_, free, err = open(t.Context(), c)
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	free()
}
