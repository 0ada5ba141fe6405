package kernel

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banger/internal/api"
)

func TestFindModules(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ file, want string }{
		{"lib/modules/6.6/kernel/a.ko", "lib/modules/6.6"},
		{"usr/lib/modules/6.6/modules.dep", "usr/lib/modules/6.6"},
		{"6.6/x", "6.6"},
		{"kernel/a.ko", "."},
		{"modules.builtin", "."},
		{"modules.order", "."},
	} {
		dir := t.TempDir()
		writeTree(t, dir, []testFile{{tt.file, nil}})
		got, err := findModules(dir, "6.6")
		if want := filepath.Join(dir, tt.want); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", tt.file, got, err, want)
		}
	}
	dir := t.TempDir()
	writeTree(t, dir, []testFile{{"lib/modules/6.7/kernel/a.ko", nil}})
	if _, err := findModules(dir, "6.6"); !errors.Is(err, api.ErrNotFound) || !strings.Contains(api.HintOf(err), "lib/modules/6.6") {
		t.Errorf("modules of another release: got %v, hint %q", err, api.HintOf(err))
	}
}

// TestPackModules reads the disk back with e2fsprogs.
func TestPackModules(t *testing.T) {
	need(t, "debugfs", "debugfs")
	t.Parallel()
	src, dir, out := t.TempDir(), t.TempDir(), t.TempDir()
	files := append(fakeModules(t), testFile{"modules.softdep", []byte("the user's own\n")})
	tree := filepath.Join(src, "real")
	writeTree(t, tree, files)
	for link, to := range map[string]string{
		"real/build": "/usr/src", "real/source": "/nowhere", "real/dir": "kernel", "real/dangling": "nothing",
		"real/kernel/linked.ko": "a-1.ko", "link": "real",
	} {
		if err := os.Symlink(to, filepath.Join(src, link)); err != nil {
			t.Fatal(err)
		}
	}
	var warnings []string
	err := packModules(t.Context(), dir, filepath.Join(src, "link"), testRelease, [32]byte{1}, func(e api.Event) {
		if e.Warning {
			warnings = append(warnings, e.Message)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) != 2 || !strings.Contains(warnings[0], "dangling") || !strings.Contains(warnings[1], "dir") {
		t.Errorf("warnings: got %q, want one for dangling and one for dir", warnings)
	}
	debugfs := func(request string) string {
		b, err := exec.Command("debugfs", "-R", request, filepath.Join(dir, modulesFile)).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		return string(b)
	}
	debugfs("rdump / " + out)
	want := []string{
		"kernel", "lost+found", "modules.alias", "modules.alias.bin", "modules.builtin", "modules.builtin.alias.bin", "modules.builtin.bin",
		"modules.builtin.modinfo", "modules.dep", "modules.dep.bin", "modules.devname", "modules.order", "modules.softdep",
		"modules.symbols", "modules.symbols.bin", "updates",
	}
	if got := entries(t, out); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, f := range append(files, testFile{"kernel/linked.ko", files[0].data}) {
		got, err := os.ReadFile(filepath.Join(out, f.name))
		if err != nil || !slices.Equal(got, f.data) {
			t.Errorf("%s: got %d bytes, %v, want the %d of the source", f.name, len(got), err, len(f.data))
		}
	}
	stat := debugfs("stat /kernel/a-1.ko")
	for _, want := range []string{"Type: regular", "Mode:  0644", "User:     0   Group:     0", " mtime: 0x6553f100"} {
		if !strings.Contains(stat, want) {
			t.Errorf("stat: got\n%s, want %q in it", stat, want)
		}
	}
}
