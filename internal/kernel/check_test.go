package kernel

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banger/internal/api"
	"banger/internal/du"
)

// smallImage is a kernel for arm64, of some bytes.
var smallImage = append(make([]byte, 56), "ARM\x64 and so on: Linux version 6.6.7-arm (builder@host)"...)

// imported is a store on an arm64 machine, with kernels of these names; the first
// is the default.
func imported(t *testing.T, names ...string) *Store {
	t.Helper()
	src := t.TempDir()
	writeTree(t, src, []testFile{{"Image", smallImage}})
	s := &Store{Dir: filepath.Join(t.TempDir(), "kernels"), Arch: "arm64"}
	for _, name := range names {
		if _, err := s.Import(t.Context(), api.KernelImport{Path: filepath.Join(src, "Image"), Name: name}, nil); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		damage func(t *testing.T, dir string) error
		kind   string
		says   string
		fixed  bool
	}{
		{"changed file", func(_ *testing.T, dir string) error {
			path := filepath.Join(dir, "a", imageFile)
			return errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte("other"), 0o600))
		}, "kernel", "is damaged", false},
		{"missing file", func(_ *testing.T, dir string) error { return os.Remove(filepath.Join(dir, "a", imageFile)) }, "kernel", "no such file", false},
		{"torn manifest", func(_ *testing.T, dir string) error {
			path := filepath.Join(dir, "a", manifestFile)
			return errors.Join(os.Remove(path), os.WriteFile(path, []byte("{"), 0o600))
		}, "kernel", manifestFile, false},
		{"no manifest", func(_ *testing.T, dir string) error { return os.Mkdir(filepath.Join(dir, "x"), 0o700) }, "kernel", "no kernel", false},
		{"extra file", func(_ *testing.T, dir string) error {
			return os.WriteFile(filepath.Join(dir, "a", "extra"), nil, 0o600)
		}, "kernel", "extra", true},
		{"lost default", func(_ *testing.T, dir string) error { return os.RemoveAll(filepath.Join(dir, "a")) }, "kernel", "default", true},
		{"leftover", func(_ *testing.T, dir string) error { return os.Mkdir(filepath.Join(dir, stagePrefix+"1"), 0o700) }, "staging", "never made", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := imported(t, "a", "b")
			check := func(repair bool) []api.Problem {
				t.Helper()
				c := api.Checkup{Repair: repair}
				if err := s.Check(t.Context(), &c); err != nil {
					t.Fatal(err)
				}
				return c.Problems
			}
			if got := check(false); len(got) != 0 {
				t.Fatalf("a sound store: %+v", got)
			}
			if err := tt.damage(t, s.Dir); err != nil {
				t.Fatal(err)
			}
			got := check(true)
			if len(got) != 1 || got[0].Kind != tt.kind || !strings.Contains(got[0].Message, tt.says) || got[0].Repaired != tt.fixed {
				t.Errorf("got %+v, want one %s that says %q, repaired %v", got, tt.kind, tt.says, tt.fixed)
			}
			if got := check(false); (len(got) == 0) != tt.fixed {
				t.Errorf("after the repair: %+v", got)
			}
		})
	}
}

func TestWhatIsBeingMadeIsNoLeftover(t *testing.T) {
	t.Parallel()
	s := imported(t, "a")
	st, err := s.newStage()
	if err != nil {
		t.Fatal(err)
	}
	var c api.Checkup
	if err := s.Check(t.Context(), &c); err != nil || len(c.Problems) != 0 {
		t.Errorf("check: %+v, %v", c.Problems, err)
	}
	if pruned, err := s.Prune(t.Context(), api.Prune{}, new(du.Tally), nil); err != nil || len(pruned) != 0 {
		t.Errorf("prune: %+v, %v", pruned, err)
	}
	if err := st.remove(); err != nil {
		t.Fatal(err)
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	s := imported(t, "a", "b", "c", "d")
	if err := os.Link(filepath.Join(s.Dir, "d", imageFile), filepath.Join(t.TempDir(), "an image's")); err != nil {
		t.Fatal(err)
	}
	used := func(name string) bool { return name == "b" }
	prune := func(r api.Prune) (names []string, freed int64) {
		t.Helper()
		pruned, err := s.Prune(t.Context(), r, new(du.Tally), used)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pruned {
			names, freed = append(names, p.Name), freed+p.FreedBytes
		}
		return names, freed
	}
	if names, _ := prune(api.Prune{}); len(names) != 0 {
		t.Errorf("without all: %q, want none", names)
	}
	names, would := prune(api.Prune{All: true, DryRun: true})
	if want := []string{"c", "d"}; !slices.Equal(names, want) {
		t.Errorf("dry run: %q, want %q: a is the default, b is used", names, want)
	}
	// All of c, but of d only what no image has.
	var want int64
	var m du.Meter
	for _, path := range []string{"c", filepath.Join("d", manifestFile)} {
		u, err := m.Add(filepath.Join(s.Dir, path))
		if err != nil {
			t.Fatal(err)
		}
		want += u.Allocated
	}
	if would != want {
		t.Errorf("would free %d bytes, want %d", would, want)
	}
	if names, freed := prune(api.Prune{All: true}); len(names) != 2 || freed != would {
		t.Errorf("%q, %d bytes; want two, %d bytes", names, freed, would)
	}
	if got, want := entries(t, s.Dir), []string{defaultFile, "a", "b"}; !slices.Equal(got, want) {
		t.Errorf("store: got %q, want %q", got, want)
	}
}

func TestAnotherArchitectureIsNoDefault(t *testing.T) {
	t.Parallel()
	s := imported(t)
	src := t.TempDir()
	writeTree(t, src, []testFile{{"vmlinux", fakeVmlinux(testRelease, pvhNotes())}, {"Image", smallImage}})
	amd, err := s.Import(t.Context(), api.KernelImport{Path: filepath.Join(src, "vmlinux"), Name: "amd"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if amd.Arch != "amd64" || amd.Default {
		t.Errorf("got %+v, want one for amd64 that is no default", amd)
	}
	if err := s.SetDefault("amd"); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("set default: got %v, want ErrInvalid", err)
	}
	if _, err := s.Import(t.Context(), api.KernelImport{Path: filepath.Join(src, "Image"), Name: "arm"}, nil); err != nil {
		t.Fatal(err)
	}
	if k, err := s.Default(); err != nil || k.Name != "arm" || filepath.Base(k.KernelPath) != imageFile {
		t.Errorf("default: got %+v, %v, want arm", k, err)
	}
	if err := s.Remove("arm"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Default(); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("default without arm: got %v, want none", err)
	}
}

// Kernels that were stored when names could hold other letters are still there.
func TestOldNames(t *testing.T) {
	t.Parallel()
	s := imported(t, "a")
	if err := os.Rename(filepath.Join(s.Dir, "a"), filepath.Join(s.Dir, "6.8.0+")); err != nil {
		t.Fatal(err)
	}
	if list, err := s.List(t.Context()); err != nil || len(list) != 1 || list[0].Name != "6.8.0+" {
		t.Errorf("list: %+v, %v", list, err)
	}
	if err := s.SetDefault("6.8.0+"); err != nil {
		t.Error(err)
	}
	if err := s.Remove("6.8.0+"); err != nil {
		t.Error(err)
	}
}
