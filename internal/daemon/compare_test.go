package daemon

import (
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"banger/internal/api"
	"banger/internal/oci"
)

// debugfs runs commands of debugfs(8) on a disk.
func debugfs(t *testing.T, disk, commands string) {
	t.Helper()
	if _, err := exec.LookPath("debugfs"); err != nil {
		if require := os.Getenv("BANGER_REQUIRE"); require == "all" || slices.Contains(strings.Split(require, ","), "debugfs") {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	cmd := exec.CommandContext(t.Context(), "debugfs", "-w", "-f", "-", disk)
	cmd.Stdin = strings.NewReader(commands + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("debugfs: %v\n%s", err, out)
	}
}

// verify also sees that what is counted comes to its end.
func (d *testDaemon) verify(name string) (v api.ImageVerified, err error) {
	d.t.Helper()
	var last api.Event
	err = d.Stream(d.t.Context(), "image.verify", api.ImageVerify{Name: name}, func(e api.Event) {
		if e.Phase == api.PhaseVerify && e.Total > 0 {
			if e.Done < last.Done {
				d.t.Errorf("the count goes back from %d to %d", last.Done, e.Done)
			}
			last = e
		}
	}, &v)
	if err == nil && (last.Total == 0 || last.Done != last.Total) {
		d.t.Errorf("the last count is %d of %d", last.Done, last.Total)
	}
	return v, err
}

func TestVerify(t *testing.T) {
	d := newTestDaemon(t)
	img := d.pull("web")
	if v, err := d.verify("web"); err != nil || !v.Equal || v.Paths != 2 || v.Bytes != 3 || v.Digest != img.Digest || v.Differences == nil {
		t.Errorf("got %+v, %v; want 2 equal paths and 3 bytes", v, err)
	}
	debugfs(t, img.RootfsPath, "sif /etc/hostname mode 0100600")
	if v, err := d.verify("web"); err != nil || v.Equal || len(v.Differences) != 1 || v.Differences[0] != (api.Difference{Path: "/etc/hostname", What: "mode", Want: "0644", Got: "0600"}) {
		t.Errorf("after a change got %+v, %v", v, err)
	}

	tar := filepath.Join(d.src, "web.tar")
	b, err := os.ReadFile(tar)
	if err != nil {
		t.Fatal(err)
	}
	d.write(tar, append(b, 0))
	if _, err := d.verify("web"); !errors.Is(err, api.ErrNotFound) || !strings.Contains(err.Error(), "has changed") || !strings.Contains(api.HintOf(err), tar) {
		t.Errorf("its tar is another one: got %v, hint %q", err, api.HintOf(err))
	}
	if err := os.Remove(tar); err != nil {
		t.Fatal(err)
	}
	if _, err := d.verify("web"); err == nil || !strings.Contains(err.Error(), tar) || !strings.Contains(api.HintOf(err), "layers") {
		t.Errorf("its tar is gone: got %v, hint %q", err, api.HintOf(err))
	}
}

func TestVerifyWithoutLayers(t *testing.T) {
	d := newTestDaemon(t)
	img := d.pull("web")
	d.create("dev", "web")
	d.stream("image.promote", api.ImagePromote{VM: "dev"}, nil)
	d.stream("image.register", api.ImageRegister{Name: "registered", RootfsPath: img.RootfsPath}, nil)
	bundle, recipe := img, img
	bundle.ID, bundle.Name, bundle.Ref, bundle.Source = "0123456789ab", "bundle", "catalog:debian", api.Source{}
	recipe.ID, recipe.Name, recipe.Ref = "0123456789ac", "recipe", "catalog:debian"
	for _, img := range []api.Image{bundle, recipe} {
		if err := d.rows.PutImage(t.Context(), img); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"dev": "disk of VM dev", "registered": "registered as a disk", "bundle": "came as a bundle", "recipe": "by the recipe debian"} {
		_, err := d.verify(name)
		if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "no layers") {
			t.Errorf("%s: got %v, want ErrInvalid and %q", name, err, want)
		}
	}
}

// The layers are those that the image was made of: from the cache while they are
// there, else from the registry, where the tag means something else by now.
func TestVerifyByDigest(t *testing.T) {
	d := newTestDaemon(t)
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer srv.Close()
	text := strings.TrimPrefix(srv.URL, "http://") + "/i:tag"
	ref, err := name.ParseReference(text)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		img, err := random.Image(1000, 2)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, img); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			d.stream("image.pull", api.ImagePull{Ref: text, Name: "web", SizeBytes: 8 << 20, NoGuestFiles: true}, nil)
		}
	}
	check := func(when string) {
		t.Helper()
		if v, err := d.verify("web"); err != nil || !v.Equal || v.Bytes != 2000 {
			t.Errorf("%s: got %+v, %v; want it equal", when, v, err)
		}
	}
	check("cached")
	if _, _, err := oci.Prune(d.cacheDir(), func(string) bool { return false }, false); err != nil {
		t.Fatal(err)
	}
	check("from the registry")
	srv.Close()
	check("cached again")
	if _, _, err := oci.Prune(d.cacheDir(), func(string) bool { return false }, false); err != nil {
		t.Fatal(err)
	}
	if _, err := d.verify("web"); err == nil || api.HintOf(err) == "" {
		t.Errorf("nowhere: got %v, hint %q", err, api.HintOf(err))
	}
}

func (d *testDaemon) diff(name string) (string, error) {
	d.t.Helper()
	var changes []api.Change
	err := d.Stream(d.t.Context(), "image.diff", api.ImageDiff{Name: name}, nil, &changes)
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(changes)
	return string(b), err
}

func TestDiff(t *testing.T) {
	d := newTestDaemon(t)
	d.pull("web")
	vm := d.create("dev", "web")
	disk := filepath.Join(vm.Dir, "disk.ext4")
	for _, name := range []string{"web", "dev", vm.ID} {
		if got, err := d.diff(name); err != nil || got != "[]" {
			t.Errorf("%s as it was made: got %s, %v", name, got, err)
		}
	}
	debugfs(t, disk, "rm /etc/hostname\nmkdir /new\ncd /new\nmknod \xff p")
	const want = `[{"kind":"D","path":"/etc/hostname"},{"kind":"A","path":"/new"},{"kind":"A","path":"/new/\\xff"}]`
	if got, err := d.diff("vm:dev"); err != nil || got != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
	debugfs(t, disk, "rmdir /etc\nfeature needs_recovery")
	if _, err := d.diff("dev"); err == nil || !strings.Contains(api.HintOf(err), "banger vm start dev && banger vm stop dev") {
		t.Errorf("killed: got %v, hint %q", err, api.HintOf(err))
	}
	debugfs(t, disk, "feature -needs_recovery")
	if got, err := d.diff("dev"); err != nil || !strings.HasPrefix(got, `[{"kind":"D","path":"/etc"},{"kind":"A"`) {
		t.Errorf("a directory is gone: got %s, %v; want it once", got, err)
	}

	_, release, err := d.vms.Hold(vm.ID) // as its supervisor does
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.diff("dev"); !errors.Is(err, api.ErrInUse) || !strings.Contains(api.HintOf(err), "banger vm stop") {
		t.Errorf("it runs: got %v, hint %q; want ErrInUse", err, api.HintOf(err))
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	d.create("web", "web")
	if _, err := d.diff("web"); !errors.Is(err, api.ErrInvalid) || !strings.Contains(api.HintOf(err), "image:web or vm:web") {
		t.Errorf("a name of both: got %v, hint %q", err, api.HintOf(err))
	}
	if got, err := d.diff("image:web"); err != nil || got != "[]" {
		t.Errorf("image:web: got %s, %v", got, err)
	}
	for _, name := range []string{"none", "vm:none", "image:none"} {
		if _, err := d.diff(name); !errors.Is(err, api.ErrNotFound) || api.HintOf(err) == "" {
			t.Errorf("%s: got %v, hint %q; want ErrNotFound", name, err, api.HintOf(err))
		}
	}
}
