package kernel

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"banger/internal/api"
)

// TestPullDebian pulls the real kernel from the sources of this host, and
// compares the indexes of its modules with those of the real depmod.
func TestPullDebian(t *testing.T) {
	need(t, "apt", "apt-get")
	if runtime.GOARCH != "amd64" {
		t.Skip("checks the kernel of amd64")
	}
	t.Parallel()
	s := &Store{Dir: t.TempDir()}
	k, err := s.Pull(t.Context(), api.KernelPull{Source: "debian"}, func(e api.Event) {
		if e.Message != "" {
			t.Log(e.Message)
		}
	})
	if err != nil {
		t.Fatalf("%v (hint: %s)", err, api.HintOf(err))
	}
	if !strings.HasPrefix(k.Source, "debian linux-image-"+k.Release+" ") || k.Arch != "amd64" || k.KernelPath == "" {
		t.Errorf("got %+v", k)
	}
	if got, want := entries(t, s.Dir), []string{defaultFile, "debian"}; !slices.Equal(got, want) {
		t.Errorf("store: got %q, want %q", got, want)
	}

	t.Run("e2fsck", func(t *testing.T) {
		need(t, "e2fsck", "e2fsck")
		if out, err := exec.Command("e2fsck", "-fn", k.ModulesDir).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("depmod", func(t *testing.T) {
		need(t, "debugfs", "debugfs")
		need(t, "kmod", "depmod")
		root := t.TempDir()
		tree := filepath.Join(root, "lib/modules", k.Release)
		if err := os.MkdirAll(tree, 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("debugfs", "-R", "rdump / "+tree, k.ModulesDir).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		ours := readIndexes(t, tree)
		if out, err := exec.Command("depmod", "-b", root, k.Release).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		theirs := readIndexes(t, tree)
		// The order of what does not depend on each other is free.
		for _, name := range []string{"modules.dep", "modules.softdep", "modules.symbols", "modules.devname"} {
			if got, want := sortedLines(ours[name]), sortedLines(theirs[name]); !slices.Equal(got, want) {
				t.Errorf("%s: got %d lines, depmod has %d, and they differ", name, len(got), len(want))
			}
		}
		for _, name := range []string{"modules.alias", "modules.alias.bin", "modules.builtin.bin", "modules.builtin.alias.bin"} {
			if !bytes.Equal(ours[name], theirs[name]) {
				t.Errorf("%s: got %d bytes, depmod has %d, and they differ", name, len(ours[name]), len(theirs[name]))
			}
		}
		for line := range strings.Lines(string(theirs["modules.symbols"])) {
			f := strings.Fields(line)
			if f[0] != "alias" {
				continue // the comment
			}
			if got, err := lookUp(ours["modules.symbols.bin"], f[1]); err != nil || !slices.Contains(got, f[2]) {
				t.Fatalf("modules.symbols.bin: %s: got %q, %v, want %s", f[1], got, err, f[2])
			}
		}
	})
}

// readIndexes returns the generated files of a module tree.
func readIndexes(t *testing.T, tree string) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	for _, f := range (&modules{}).files() {
		b, err := os.ReadFile(filepath.Join(tree, f.name))
		if err != nil {
			t.Fatal(err)
		}
		files[f.name] = b
	}
	return files
}

// sortedLines sorts lines, and the words of each.
func sortedLines(b []byte) []string {
	var lines []string
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		if len(words) > 1 {
			slices.Sort(words[1:])
		}
		lines = append(lines, strings.Join(words, " "))
	}
	slices.Sort(lines)
	return lines
}
