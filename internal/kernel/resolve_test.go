package kernel

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"banger/internal/api"
)

func TestCheckChoice(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		c    api.KernelChoice
		ok   bool
	}{
		{"none", api.KernelChoice{}, true},
		{"ref", api.KernelChoice{KernelRef: "debian"}, true},
		{"paths", api.KernelChoice{KernelPath: "/k", InitrdPath: "/i", ModulesDir: "/m"}, true},
		{"ref and kernel", api.KernelChoice{KernelRef: "debian", KernelPath: "/k"}, false},
		{"ref and initrd", api.KernelChoice{KernelRef: "debian", InitrdPath: "/i"}, false},
		{"ref and modules", api.KernelChoice{KernelRef: "debian", ModulesDir: "/m"}, false},
		{"initrd alone", api.KernelChoice{InitrdPath: "/i"}, false},
		{"modules alone", api.KernelChoice{ModulesDir: "/m"}, false},
		{"ref that is a path", api.KernelChoice{KernelRef: "../debian"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := CheckChoice(tt.c)
			if tt.ok && err != nil || !tt.ok && !errors.Is(err, api.ErrInvalid) {
				t.Errorf("got %v, want ok %v", err, tt.ok)
			}
		})
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	s, src := testStore(t)
	resolve := func(c api.KernelChoice) (Staged, string, error) {
		dir := t.TempDir()
		st, err := s.Resolve(t.Context(), c, dir, nil)
		return st, dir, err
	}

	st, dir, err := resolve(api.KernelChoice{})
	if err != nil || st != (Staged{}) || len(entries(t, dir)) != 0 {
		t.Errorf("no choice and no kernel: got %+v, %v, want nothing", st, err)
	}
	if _, _, err := resolve(api.KernelChoice{KernelRef: "debian"}); !errors.Is(err, api.ErrNotFound) || api.HintOf(err) != pullHint {
		t.Errorf("unknown kernel: got %v, hint %q, want ErrNotFound and %q", err, api.HintOf(err), pullHint)
	}
	if _, _, err := resolve(api.KernelChoice{KernelPath: filepath.Join(src, "none")}); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("missing file: got %v, want ErrNotFound", err)
	}
	if _, _, err := resolve(api.KernelChoice{KernelRef: "debian", KernelPath: filepath.Join(src, "vmlinuz")}); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("ref and path: got %v, want ErrInvalid", err)
	}

	k, err := s.Import(t.Context(), importRequest(src, "stored"), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := func(dir, ref string) Staged {
		return Staged{
			KernelRef: ref, KernelPath: filepath.Join(dir, "vmlinux"), InitrdPath: filepath.Join(dir, "initrd"),
			ModulesDir: filepath.Join(dir, "modules.ext4"), Release: testRelease, Arch: "amd64",
		}
	}
	for _, c := range []api.KernelChoice{{}, {KernelRef: "stored"}} {
		st, dir, err := resolve(c)
		if err != nil || st != want(dir, "stored") {
			t.Errorf("%+v: got %+v, %v, want %+v", c, st, err, want(dir, "stored"))
		}
		if got := st.In("/final"); got != want("/final", "stored") {
			t.Errorf("moved: got %+v, want %+v", got, want("/final", "stored"))
		}
		for _, pair := range [][2]string{{k.KernelPath, st.KernelPath}, {k.ModulesDir, st.ModulesDir}, {k.InitrdPath, st.InitrdPath}} {
			a, errA := os.Stat(pair[0])
			b, errB := os.Stat(pair[1])
			if errA != nil || errB != nil || !os.SameFile(a, b) {
				t.Errorf("%s is no hard link to %s (%v, %v)", pair[1], pair[0], errA, errB)
			}
		}
	}

	st, dir, err = resolve(api.KernelChoice{
		KernelPath: filepath.Join(src, "vmlinuz"), InitrdPath: filepath.Join(src, "initrd"), ModulesDir: filepath.Join(src, "modules"),
	})
	if err != nil || st != want(dir, "") {
		t.Fatalf("by path: got %+v, %v, want %+v", st, err, want(dir, ""))
	}
	if got, err := hashFiles(dir); err != nil || !maps.Equal(got, k.SHA256) {
		t.Errorf("by path: got files %v, %v, want %v as in the store", got, err, k.SHA256)
	}
}

func TestLinkFileCopies(t *testing.T) {
	src := filepath.Join(t.TempDir(), "src")
	if err := os.WriteFile(src, []byte("kernel"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Run("to another file system", func(t *testing.T) {
		if _, err := os.Stat("/dev/shm"); err != nil {
			t.Skipf("no second file system: %v", err)
		}
		t.Setenv("TMPDIR", "/dev/shm")
		dst := filepath.Join(t.TempDir(), "dst")
		if err := os.Link(src, dst); err == nil {
			t.Skip("/dev/shm is the same file system")
		}
		if err := linkFile(dst, src); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(dst)
		if err != nil || string(b) != "kernel" {
			t.Errorf("got %q, %v, want the content of the source", b, err)
		}
	})
}
