package store

import (
	"database/sql"
	"errors"
	"path/filepath"
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
		ID: id, Name: name, Ref: "docker.io/library/debian:bookworm", Digest: "sha256:12", Platform: "linux/amd64",
		Managed: true, RootfsPath: "/i/" + id + "/rootfs.ext4", KernelRef: "debian", KernelPath: "/i/vmlinux",
		InitrdPath: "/i/initrd", ModulesDir: "/i/modules.ext4", SizeBytes: 1 << 30,
		RootfsModTime: time.Unix(5, 6).UTC(), CreatedAt: time.Unix(7, 8).UTC(),
		Process:  api.Process{Entrypoint: []string{"/e"}, Cmd: []string{"c"}, Env: []string{"A=b"}, User: "u", WorkingDir: "/w"},
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
	dropped := func() (ids []string) {
		t.Helper()
		images, err := s.DropUnused(ctx)
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
	if got := dropped(); got != nil {
		t.Errorf("dropped while used: %v", got)
	}
	if got, err := s.Image(ctx, "web"); err != nil || got.ID != "new" {
		t.Errorf("web is %q, %v; want new", got.ID, err)
	}
	if got, err := s.VM(ctx, "dev"); err != nil || got.ImageName != "" {
		t.Errorf("the VM's image is called %q, %v; want no name", got.ImageName, err)
	}
	if err := s.DeleteVM(ctx, vm.ID); err != nil {
		t.Fatal(err)
	}
	if got := dropped(); len(got) != 1 || got[0] != "old" {
		t.Errorf("dropped after the VM: %v, want old", got)
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
	if err := s.AddVM(ctx, api.VM{ID: "1", Name: "dev", ImageID: "none"}); err == nil {
		t.Error("a VM of an image that does not exist was stored")
	}
	if err := s.PutImage(ctx, image("i", "web")); err != nil {
		t.Fatal(err)
	}
	if err := s.AddVM(ctx, api.VM{ID: "1", Name: "dev", ImageID: "i"}); err != nil {
		t.Fatal(err)
	}
	if err := s.AddVM(ctx, api.VM{ID: "2", Name: "dev", ImageID: "i"}); !errors.Is(err, api.ErrExists) {
		t.Errorf("the second VM of one name: got %v, want ErrExists", err)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b.db")
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.inTx(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec("PRAGMA user_version = 999")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), path)
	if err == nil || !strings.Contains(err.Error(), "version 999") || api.HintOf(err) == "" {
		t.Errorf("got %v with hint %q", err, api.HintOf(err))
	}
}
