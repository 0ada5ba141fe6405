package vm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/api"
)

func TestHold(t *testing.T) {
	t.Parallel()
	h := newHost(t, "ok")
	vm := create(t, h, nil)
	disk, release, err := h.Hold(vm.ID)
	if err != nil || disk != filepath.Join(vm.Dir, diskFile) {
		t.Fatalf("got %s, %v", disk, err)
	}
	if err := h.Start(t.Context(), vm.ID, Boot{}, nil); !errors.Is(err, api.ErrInUse) {
		t.Errorf("start of a VM that is held: got %v, want in use", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.Hold("none"); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("hold no VM: got %v, want not found", err)
	}

	if err := h.Start(t.Context(), vm.ID, Boot{}, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.Hold(vm.ID); !errors.Is(err, api.ErrInUse) {
		t.Errorf("hold a VM that runs: got %v, want in use", err)
	}
	forgotten := false
	forget := func() error { forgotten = true; return nil }
	if err := h.Remove(vm.ID, forget); !errors.Is(err, api.ErrInUse) || forgotten {
		t.Errorf("remove a VM that runs: got %v, forgotten %v", err, forgotten)
	}
	if err := h.Kill(t.Context(), vm.ID); err != nil {
		t.Fatal(err)
	}
	full := errors.New("the database is full")
	if err := h.Remove(vm.ID, func() error { return full }); !errors.Is(err, full) {
		t.Errorf("got %v, want %v", err, full)
	}
	if got := status(t, h, vm.ID); got.State != api.VMStopped && got.State != api.VMFailed {
		t.Errorf("a VM that was not forgotten is %+v", got)
	}
	if err := h.Remove(vm.ID, forget); err != nil || !forgotten {
		t.Errorf("got %v, forgotten %v", err, forgotten)
	}
	forgotten = false
	if err := h.Remove(vm.ID, forget); err != nil || !forgotten {
		t.Errorf("a VM whose files are gone: got %v, forgotten %v", err, forgotten)
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	h := newHost(t, "ok")
	kernel := filepath.Join(t.TempDir(), "vmlinux")
	if err := os.WriteFile(kernel, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		damage func(dir string) error
		says   string // "": nothing is wrong
	}{
		{"whole", func(string) error { return nil }, ""},
		{"no disk", func(dir string) error { return os.Remove(filepath.Join(dir, diskFile)) }, diskFile},
		{"cut disk", func(dir string) error { return os.Truncate(filepath.Join(dir, diskFile), 17) }, "17 bytes"},
		{"no spec", func(dir string) error { return os.Remove(filepath.Join(dir, specFile)) }, specFile},
		{"torn spec", func(dir string) error { return os.WriteFile(filepath.Join(dir, specFile), []byte("{"), 0o600) }, specFile},
		{"no state", func(dir string) error { return os.Remove(filepath.Join(dir, stateFile)) }, stateFile},
		// A power cut may do that: then nothing runs.
		{"torn state", func(dir string) error { return os.WriteFile(filepath.Join(dir, stateFile), []byte("{"), 0o600) }, ""},
		{"no kernel", func(string) error { return os.Remove(kernel) }, kernel},
	} {
		t.Run(tt.name, func(t *testing.T) {
			vm := create(t, h, func(s *Spec) { s.Image.KernelPath, s.Image.ModulesDir, s.Image.InitrdPath = kernel, "", "" })
			if err := tt.damage(vm.Dir); err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(vm.Dir)
			found, err := h.Problems(vm.ID)
			if err != nil || tt.says == "" && len(found) > 0 || tt.says != "" && !strings.Contains(strings.Join(found, "\n"), tt.says) {
				t.Errorf("got %q, %v; want %q", found, err, tt.says)
			}
		})
	}
	if _, err := h.Problems("none"); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("no VM: got %v, want not found", err)
	}
}
