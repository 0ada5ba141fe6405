package vm

import (
	"os"
	"path/filepath"
	"testing"

	"banger/ext4"
	"banger/internal/api"
)

// A disk made of layers gets a UUID of its own; one whose files may name the
// UUID it has keeps that.
func TestIdentify(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "rootfs.ext4")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	original := [16]byte{1}
	w, err := ext4.NewWriter(f, ext4.Options{UUID: original})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	layers := api.Source{Layers: []api.SourceLayer{{Digest: "sha256:0"}}}
	seen := map[[16]byte]bool{}
	for _, c := range []struct {
		name string
		img  api.Image
		kept bool
	}{
		{"first", api.Image{Ref: "docker.io/library/alpine:latest", Source: layers}, false},
		{"second", api.Image{Ref: "docker.io/library/alpine:latest", Source: layers}, false},
		{"registered", api.Image{}, true},
		{"promoted", api.Image{Ref: "vm:dev", Source: layers}, true},
	} {
		c.img.RootfsPath = path
		vm := create(t, newHost(t, "ok"), func(s *Spec) {
			c.img.ID, c.img.Name, c.img.KernelPath = s.Image.ID, "alpine", s.Image.KernelPath
			s.Image = c.img
		})
		disk, err := os.Open(filepath.Join(vm.Dir, diskFile))
		if err != nil {
			t.Fatal(err)
		}
		defer disk.Close()
		fsys, err := ext4.Open(disk)
		if err != nil {
			t.Fatal(err)
		}
		uuid := fsys.UUID()
		if got := uuid == original; got != c.kept {
			t.Errorf("%s: UUID is %x: kept is %t, want %t", c.name, uuid, got, c.kept)
		}
		if !c.kept && seen[uuid] {
			t.Errorf("%s: UUID %x is another disk's", c.name, uuid)
		}
		seen[uuid] = true
	}
}
