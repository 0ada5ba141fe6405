package store

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banger/internal/api"
)

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "a dir?with %odd#name.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func image(id, name string) api.Image {
	return api.Image{
		ID: id, Name: name, Names: []string{name}, Ref: "docker.io/library/debian:bookworm", Digest: "sha256:12", Platform: "linux/amd64",
		Managed: true, RootfsPath: "/i/" + id + "/rootfs.ext4", KernelRef: "debian", KernelPath: "/i/vmlinux",
		InitrdPath: "/i/initrd", ModulesDir: "/i/modules.ext4", SizeBytes: 1 << 30,
		RootfsModTime: time.Unix(5, 6).UTC(), CreatedAt: time.Unix(7, 8).UTC(),
		Process: api.Process{Entrypoint: []string{"/e"}, Cmd: []string{"c"}, Env: []string{"A=b"}, User: "u", WorkingDir: "/w"},
		Source: api.Source{
			ConfigDigest: "sha256:34", Created: time.Unix(9, 0).UTC(), Labels: map[string]string{"l": "v"},
			Layers:  []api.SourceLayer{{Digest: "sha256:56", DiffID: "sha256:78", Size: 9}},
			History: []api.History{{CreatedBy: "RUN true", EmptyLayer: true}},
		},
		Added:    []api.AddedFile{{Path: "/a", Mode: "0755", SHA256: "ab"}, {Path: "/l", Link: "a"}},
		Warnings: []api.Warning{{Kind: "k", Layer: "l", Path: "p", Message: "m"}},
	}
}

func TestImageRoundTrip(t *testing.T) {
	s := open(t)
	want := image("0123456789ab", "debian-bookworm")
	if err := s.PutImage(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{want.Name, want.ID} {
		got, err := s.Image(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("Image(%s) differs (-want +got):\n%s", key, d)
		}
	}
	if _, err := s.Image(t.Context(), "nothing"); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("Image of no such name: got %v, want ErrNotFound", err)
	}
}

func TestReplacedImageStaysWhileUsed(t *testing.T) {
	s, ctx := open(t), t.Context()
	put := func(id string) {
		t.Helper()
		if err := s.PutImage(ctx, image(id, "web")); err != nil {
			t.Fatal(err)
		}
	}
	unused := func() (ids []string) {
		t.Helper()
		images, err := s.UnusedImages(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, img := range images {
			ids = append(ids, img.ID)
		}
		return ids
	}
	put("old")
	vm := api.VM{ID: "vm1", Name: "dev", ImageID: "old", ImageName: "web", CreatedAt: time.Unix(1, 0).UTC()}
	if err := s.AddVM(ctx, vm); err != nil {
		t.Fatal(err)
	}
	put("new")
	if got := unused(); !slices.Equal(got, []string{"new"}) {
		t.Errorf("unused: %v, want new", got)
	}
	if got, err := s.Image(ctx, "web"); err != nil || got.ID != "new" {
		t.Errorf("web is %q, %v; want new", got.ID, err)
	}
	if got, err := s.Image(ctx, "old"); err != nil || got.Name != "" || len(got.Names) != 0 {
		t.Errorf("the replaced image has the names %q, %v; want none", got.Names, err)
	}
	if got, err := s.VM(ctx, "dev"); err != nil || got.ImageName != "" {
		t.Errorf("the VM's image is called %q, %v; want no name", got.ImageName, err)
	}
	if err := s.DeleteVM(ctx, vm.ID); err != nil {
		t.Fatal(err)
	}
	if got := unused(); len(got) != 2 {
		t.Errorf("unused after the VM: %v, want both", got)
	}
}

func TestNamesOfAnImage(t *testing.T) {
	s, ctx := open(t), t.Context()
	for _, id := range []string{"1", "2"} {
		if err := s.PutImage(ctx, image(id, "web"+id)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.AddName(ctx, "1", "alias"); err != nil {
		t.Fatal(err)
	}
	if err := s.AddName(ctx, "2", "alias"); !errors.Is(err, api.ErrExists) {
		t.Errorf("a name of another image: got %v, want ErrExists", err)
	}
	if err := s.AddName(ctx, "3", "none"); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("a name for no image: got %v, want ErrNotFound", err)
	}
	check := func(key, wantName string, wantNames ...string) {
		t.Helper()
		got, err := s.Image(ctx, key)
		if err != nil || got.Name != wantName || !slices.Equal(got.Names, wantNames) {
			t.Errorf("image %s is %q of %q, %v; want %q of %q", key, got.Name, got.Names, err, wantName, wantNames)
		}
	}
	check("1", "web1", "web1", "alias")
	check("alias", "alias", "web1", "alias")
	if got := s.FreeImageName(ctx, "web"); got != "web-2" {
		t.Errorf("free name: got %q, want web-2", got)
	}

	// A new image takes the oldest name of another: that one keeps the rest.
	if err := s.PutImage(ctx, image("3", "web1")); err != nil {
		t.Fatal(err)
	}
	check("1", "alias", "alias")
	check("web1", "web1", "web1")

	if err := s.RemoveName(ctx, "alias"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Image(ctx, "alias"); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("a removed name: got %v, want ErrNotFound", err)
	}
	if err := s.DeleteImage(ctx, "2"); err != nil {
		t.Fatal(err)
	}
	if err := s.AddName(ctx, "3", "web2"); err != nil {
		t.Errorf("the name of an image that is gone: %v", err)
	}
}

func TestDeleteImageInUse(t *testing.T) {
	s, ctx := open(t), t.Context()
	if err := s.PutImage(ctx, image("1", "web")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if err := s.AddVM(ctx, api.VM{ID: name, Name: name, ImageID: "1"}); err != nil {
			t.Fatal(err)
		}
	}
	err := s.DeleteImage(ctx, "1")
	if !errors.Is(err, api.ErrInUse) || !strings.Contains(err.Error(), "a, b") {
		t.Errorf("got %v, want ErrInUse that names a and b", err)
	}
	if hint := api.HintOf(err); !strings.Contains(hint, "vm rm a b") {
		t.Errorf("hint %q does not say how", hint)
	}
	if err := s.DeleteImage(ctx, "2"); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func TestVMNames(t *testing.T) {
	s, ctx := open(t), t.Context()
	if err := s.AddVM(ctx, api.VM{ID: "1", Name: "dev", ImageID: "none"}); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("a VM of an image that does not exist: got %v, want ErrNotFound", err)
	}
	if err := s.PutImage(ctx, image("i", "web")); err != nil {
		t.Fatal(err)
	}
	if err := s.AddVM(ctx, api.VM{ID: "1", Name: "dev", ImageID: "i"}); err != nil {
		t.Fatal(err)
	}
	err := s.AddVM(ctx, api.VM{ID: "2", Name: "dev", ImageID: "i"})
	if !errors.Is(err, api.ErrExists) || !strings.Contains(api.HintOf(err), "--name dev-2") {
		t.Errorf("the second VM of one name: got %v, hint %q; want ErrExists and dev-2", err, api.HintOf(err))
	}
}
