package image

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"banger/internal/api"
)

func TestRecipeArgs(t *testing.T) {
	t.Parallel()
	got := recipeArgs(api.CatalogApt{Suite: "bookworm", Packages: []string{"systemd-sysv", "udev"}}, []string{"/s/0.sources", "/s/1.list"})
	want := []string{
		"--variant=minbase", "--format=tar", `--aptopt=Acquire::Languages "none"`, `--aptopt=Acquire::Retries "3"`,
		`--customize-hook=rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/hostname "$1"/etc/resolv.conf`, "--include=systemd-sysv,udev", "bookworm", "-", "/s/0.sources", "/s/1.list",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := recipeArgs(api.CatalogApt{Suite: "sid"}, []string{"x"}); slices.ContainsFunc(got, func(a string) bool { return strings.HasPrefix(a, "--include") }) {
		t.Errorf("without packages: %q", got)
	}
}

func TestChangeSuite(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"one_line", "deb [signed-by=/k] http://m/debian bookworm main\n", "deb [signed-by=/k] http://m/debian trixie main\n"},
		{"suffixes", "deb http://m/debian bookworm-updates main\ndeb http://s bookworm-security main\n", "deb http://m/debian trixie-updates main\ndeb http://s trixie-security main\n"},
		{"deb822", "Types: deb\nSuites: bookworm bookworm-updates\nSigned-By: /bookworm.gpg\n", "Types: deb\nSuites: trixie trixie-updates\nSigned-By: /bookworm.gpg\n"},
		{"deb822_without_space", "Suites:bookworm\n", "Suites:trixie\n"},
		{"tab", "deb\thttp://m\tbookworm\tmain\n", "deb\thttp://m\ttrixie\tmain\n"},
		{"no_newline", "Suites: bookworm", "Suites: trixie"},
		{"comment", "# deb http://m bookworm main\ndeb http://m bookworm main\n", "# deb http://m bookworm main\ndeb http://m trixie main\n"},
		{"source_packages", "deb-src http://m bookworm main\n", ""},
		{"other_vendor", "deb http://m stable main\n", ""},
		{"in_a_word", "deb http://m/bookworm bookwormy main\n", ""},
	} {
		got, ok := changeSuite([]byte(tt.text), "bookworm", "trixie")
		if ok != (tt.want != "") || ok && string(got) != tt.want {
			t.Errorf("%s: got %q, %v; want %q", tt.name, got, ok, tt.want)
		}
		if same, ok := changeSuite([]byte(tt.text), "bookworm", "bookworm"); ok != (tt.want != "") || string(same) != tt.text {
			t.Errorf("%s: to the same suite: got %q, %v", tt.name, same, ok)
		}
	}
}

func TestSourcesFor(t *testing.T) {
	t.Parallel()
	etc := t.TempDir()
	put := func(name, text string) {
		path := filepath.Join(etc, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	put("os-release", "NAME=\"Debian\"\nID=debian\nVERSION_CODENAME=bookworm\n")
	entry := api.CatalogEntry{Name: "d", Distro: "debian", Apt: &api.CatalogApt{Suite: "trixie"}}
	if _, err := sourcesFor(entry, etc, t.TempDir()); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("without sources: got %v, want ErrNotFound", err)
	}
	put("apt/sources.list", "deb http://one bookworm main\n")
	put("apt/sources.list.d/vendor.list", "deb http://vendor stable main\n")
	put("apt/sources.list.d/debian.sources", "Suites: bookworm\n")
	put("apt/sources.list.d/off.sources.disabled", "Suites: bookworm\n")
	got, err := sourcesFor(entry, etc, t.TempDir())
	if err != nil || len(got) != 2 || filepath.Ext(got[0]) != ".list" || filepath.Ext(got[1]) != ".sources" {
		t.Fatalf("got %q, %v; want a list and sources", got, err)
	}
	if b, err := os.ReadFile(got[0]); err != nil || string(b) != "deb http://one trixie main\n" {
		t.Errorf("got %q, %v", b, err)
	}
	entry.Distro = "ubuntu"
	if _, err := sourcesFor(entry, etc, t.TempDir()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("of another distribution: got %v, want ErrUnsupported", err)
	}
}

// script is a stand-in for mmdebstrap.
func script(ctx context.Context, text string) *exec.Cmd {
	return exec.CommandContext(ctx, "/bin/sh", "-c", text)
}

func TestRunRecipe(t *testing.T) {
	t.Parallel()
	var said []string
	record := func(e api.Event) {
		if e.Warning {
			e.Message = "warning: " + e.Message
		}
		said = append(said, e.Message)
	}
	// A line that is longer than lines may be, which ends the reading and not more.
	err := runRecipe(t.Context(), script(t.Context(), `echo "I: one" >&2; echo noise >&2; echo "W: two" >&2; printf %0200000d 0 >&2; echo "I: three" >&2`), "d", record)
	if want := []string{"one", "warning: two"}; err != nil || !slices.Equal(said, want) {
		t.Errorf("said %.100q, %v; want %q", said, err, want)
	}
	err = runRecipe(t.Context(), script(t.Context(), `echo "E: no such package" >&2; exit 3`), "d", nil)
	if err == nil || !strings.Contains(err.Error(), "no such package") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v, want what it said and how it ended", err)
	}
}

// TestRecipeIsAskedToEnd holds that it can clean up when the pull is cancelled.
func TestRecipeIsAskedToEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := script(ctx, `trap 'rm made; exit 1' TERM; touch made; echo "I: made" >&2; sleep 100 & wait`)
	cmd.Dir = dir
	start := time.Now()
	err := runRecipe(ctx, cmd, "d", func(e api.Event) {
		if e.Message == "made" {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || time.Since(start) > 15*time.Second {
		t.Errorf("got %v after %v, want Canceled at once", err, time.Since(start))
	}
	if _, err := os.Stat(filepath.Join(dir, "made")); !os.IsNotExist(err) {
		t.Errorf("what it made: %v, want that it is gone", err)
	}
}
