package kernel

import (
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"banger/internal/api"
)

// testName is what a kernel of testRelease is called when nobody says.
const testName = "6.6.6-test-1"

// testStore is an empty store and a directory with a kernel to import:
// vmlinuz, initrd and modules.
func testStore(t *testing.T) (s *Store, src string) {
	t.Helper()
	src = t.TempDir()
	writeTree(t, src, []testFile{
		{"vmlinuz", fakeBzImage(packGzip(t, fakeVmlinux(testRelease, pvhNotes())))},
		{"initrd", []byte("070701")},
	})
	writeTree(t, filepath.Join(src, "modules"), fakeModules(t))
	return &Store{Dir: filepath.Join(t.TempDir(), "kernels"), Arch: "amd64"}, src
}

func importRequest(src, name string) api.KernelImport {
	return api.KernelImport{
		Path: filepath.Join(src, "vmlinuz"), InitrdPath: filepath.Join(src, "initrd"), ModulesDir: filepath.Join(src, "modules"), Name: name,
	}
}

// entries lists a directory; there is none where nothing was ever stored.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// checkWhole compares a kernel's files with its manifest.
func checkWhole(t *testing.T, k api.Kernel) {
	t.Helper()
	got, err := hashFiles(filepath.Dir(k.KernelPath))
	if err != nil {
		t.Fatal(err)
	}
	delete(got, manifestFile)
	if !maps.Equal(got, k.SHA256) {
		t.Errorf("%s: got files %v, want %v", k.Name, got, k.SHA256)
	}
}

func TestImport(t *testing.T) {
	t.Parallel()
	s, src := testStore(t)
	if _, err := s.Default(); !errors.Is(err, api.ErrNotFound) || api.HintOf(err) != pullHint {
		t.Errorf("default of an empty store: got %v, hint %q, want ErrNotFound and %q", err, api.HintOf(err), pullHint)
	}
	if _, err := s.Get("debian"); !errors.Is(err, api.ErrNotFound) || api.HintOf(err) != pullHint {
		t.Errorf("get: got %v, hint %q, want ErrNotFound and %q", err, api.HintOf(err), pullHint)
	}
	if list, err := s.List(t.Context()); err != nil || list == nil || len(list) != 0 {
		t.Errorf("list of an empty store: got %v, %v, want an empty list", list, err)
	}

	first, err := s.Import(t.Context(), importRequest(src, ""), nil)
	if err != nil {
		t.Fatal(err)
	}
	if first.Name != testName || first.Release != testRelease || first.Arch != "amd64" || !first.Default ||
		first.Source != "import "+filepath.Join(src, "vmlinuz") {
		t.Errorf("got %+v", first)
	}
	checkWhole(t, first)
	b, err := os.ReadFile(first.InitrdPath)
	if err != nil || string(b) != "070701" {
		t.Errorf("initrd: got %q, %v", b, err)
	}

	_, err = s.Import(t.Context(), importRequest(src, ""), nil)
	if !errors.Is(err, api.ErrExists) || !strings.Contains(api.HintOf(err), "--name "+testName+"-2") {
		t.Errorf("the same again: got %v, hint %q, want ErrExists and a free name", err, api.HintOf(err))
	}
	second, err := s.Import(t.Context(), api.KernelImport{Path: filepath.Join(src, "vmlinuz"), Name: "bare"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if second.Default || second.InitrdPath != "" || second.ModulesDir != "" {
		t.Errorf("got %+v, want no default, no initrd, no modules", second)
	}
	list, err := s.List(t.Context())
	if err != nil || len(list) != 2 || list[0].Name != testName || list[1].Name != "bare" {
		t.Errorf("list: got %v, %v", list, err)
	}

	r := importRequest(src, "bare")
	r.Replace = true
	replaced, err := s.Import(t.Context(), r, nil)
	if err != nil {
		t.Fatal(err)
	}
	checkWhole(t, replaced)
	if replaced.ModulesDir == "" {
		t.Error("replaced: got the old kernel, want the new one")
	}
	if got, want := entries(t, s.Dir), []string{defaultFile, testName, "bare"}; !slices.Equal(got, want) {
		t.Errorf("store: got %q, want %q", got, want)
	}
}

func TestImportIsReproducible(t *testing.T) {
	t.Parallel()
	s, src := testStore(t)
	var sums []string
	for _, name := range []string{"one", "two"} {
		k, err := s.Import(t.Context(), importRequest(src, name), nil)
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, k.SHA256[modulesFile])
	}
	if sums[0] != sums[1] {
		t.Errorf("modules.ext4: got %s and %s from the same modules", sums[0], sums[1])
	}
}

// TestImportFails holds that a failure leaves nothing, whatever fails.
func TestImportFails(t *testing.T) {
	t.Parallel()
	s, src := testStore(t)
	in := func(name string) string { return filepath.Join(src, name) }
	writeTree(t, src, []testFile{
		{"text", []byte("not a kernel")},
		{"other/kernel/x.ko", fakeModule("5.0.0-other", nil)},
		{"torn/kernel/x.ko", []byte("\x7fELF")},
		{"empty/kernel/readme", nil},
	})
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Import(canceled, importRequest(src, ""), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: got %v, want %v", err, context.Canceled)
	}
	for _, tt := range []struct {
		name string
		r    api.KernelImport
		is   error
		says string
	}{
		{"no file", api.KernelImport{}, api.ErrInvalid, "no file"},
		{"missing", api.KernelImport{Path: in("none")}, api.ErrNotFound, in("none")},
		{"relative", api.KernelImport{Path: "vmlinuz"}, api.ErrInvalid, "not absolute"},
		{"directory", api.KernelImport{Path: src}, api.ErrInvalid, "wrong type"},
		{"not a kernel", api.KernelImport{Path: in("text")}, api.ErrInvalid, "not a kernel"},
		{"bad name", api.KernelImport{Path: in("vmlinuz"), Name: "../x"}, api.ErrInvalid, "../x"},
		{"long name", api.KernelImport{Path: in("vmlinuz"), Name: strings.Repeat("b", 64)}, api.ErrInvalid, "63"},
		{"initrd missing", api.KernelImport{Path: in("vmlinuz"), InitrdPath: in("none")}, api.ErrNotFound, "initrd"},
		{"modules missing", api.KernelImport{Path: in("vmlinuz"), ModulesDir: in("none")}, api.ErrNotFound, "modules"},
		{"no modules there", api.KernelImport{Path: in("vmlinuz"), ModulesDir: t.TempDir()}, api.ErrNotFound, "no modules"},
		{"no module in it", api.KernelImport{Path: in("vmlinuz"), ModulesDir: in("empty")}, api.ErrNotFound, "no modules"},
		{"another kernel's modules", api.KernelImport{Path: in("vmlinuz"), ModulesDir: in("other")}, api.ErrInvalid, "5.0.0-other"},
		{"torn module", api.KernelImport{Path: in("vmlinuz"), ModulesDir: in("torn")}, api.ErrInvalid, "kernel/x.ko"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := s.Import(t.Context(), tt.r, nil)
			if !errors.Is(err, tt.is) || err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want one that is %v and says %q", err, tt.is, tt.says)
			}
			if got := entries(t, s.Dir); len(got) != 0 {
				t.Errorf("left behind: %q", got)
			}
		})
	}
}

func TestDefaultAndRemove(t *testing.T) {
	t.Parallel()
	s, src := testStore(t)
	for _, name := range []string{"a", "b", "c"} {
		if _, err := s.Import(t.Context(), api.KernelImport{Path: filepath.Join(src, "vmlinuz"), Name: name}, nil); err != nil {
			t.Fatal(err)
		}
	}
	want := func(name string) {
		t.Helper()
		k, err := s.Default()
		if name == "" && !errors.Is(err, api.ErrNotFound) || name != "" && (err != nil || k.Name != name || !k.Default) {
			t.Errorf("default: got %q, %v, want %q", k.Name, err, name)
		}
	}
	want("a")
	if err := s.SetDefault("c"); err != nil {
		t.Fatal(err)
	}
	want("c")
	if err := s.SetDefault("none"); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	if err := s.Remove("a"); err != nil {
		t.Fatal(err)
	}
	want("c")
	if err := s.Remove("c"); err != nil {
		t.Fatal(err)
	}
	want("b")
	if err := s.Remove("c"); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	for _, name := range []string{"", ".", "..", "../b", ".default", "b/"} {
		if err := s.Remove(name); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("remove %q: got %v, want ErrInvalid", name, err)
		}
	}
	if err := s.Remove("b"); err != nil {
		t.Fatal(err)
	}
	want("")
	if got := entries(t, s.Dir); len(got) != 0 {
		t.Errorf("left behind: %q", got)
	}

	// A kernel that vanished behind our back is no default, and the next is.
	if _, err := s.Import(t.Context(), api.KernelImport{Path: filepath.Join(src, "vmlinuz"), Name: "d"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(s.Dir, "d")); err != nil {
		t.Fatal(err)
	}
	want("")
	if _, err := s.Import(t.Context(), api.KernelImport{Path: filepath.Join(src, "vmlinuz"), Name: "e"}, nil); err != nil {
		t.Fatal(err)
	}
	want("e")

	// Who was killed in the middle of that has left the name of no kernel.
	if _, err := s.Import(t.Context(), api.KernelImport{Path: filepath.Join(src, "vmlinuz"), Name: "f"}, nil); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ dies, want string }{{"e", "f"}, {"f", ""}} {
		if err := os.RemoveAll(filepath.Join(s.Dir, step.dies)); err != nil {
			t.Fatal(err)
		}
		if err := s.Clean(); err != nil {
			t.Fatal(err)
		}
		want(step.want)
	}
	if got := entries(t, s.Dir); len(got) != 0 {
		t.Errorf("left behind: %q", got)
	}
}

// TestKill kills a process that replaces a kernel over and over. Whatever the
// moment, the store then has one whole kernel and, after Clean, nothing else.
func TestKill(t *testing.T) {
	if dir := os.Getenv("KERNEL_TEST_STORE"); dir != "" {
		s := &Store{Dir: dir}
		r := importRequest(os.Getenv("KERNEL_TEST_SOURCE"), "victim")
		for r.Replace = true; ; {
			if _, err := s.Import(t.Context(), r, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Parallel()
	s, src := testStore(t)
	r := importRequest(src, "victim")
	if _, err := s.Import(t.Context(), r, nil); err != nil {
		t.Fatal(err)
	}
	stale := 0
	for i := range 8 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), "KERNEL_TEST_STORE="+s.Dir, "KERNEL_TEST_SOURCE="+src)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(60+37*i) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
			t.Fatalf("got %v, want a process that was killed", err)
		}
		k, err := s.Get("victim")
		if err != nil {
			t.Fatal(err)
		}
		checkWhole(t, k)
		stale += len(entries(t, s.Dir)) - 2
		if err := s.Clean(); err != nil {
			t.Fatal(err)
		}
		if got, want := entries(t, s.Dir), []string{defaultFile, "victim"}; !slices.Equal(got, want) {
			t.Errorf("got %q after Clean, want %q", got, want)
		}
	}
	if stale == 0 {
		t.Error("no kill came while a kernel was being staged: the test shows nothing")
	}
}
