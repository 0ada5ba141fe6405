package kernel

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"banger/internal/api"
)

// fakeApt puts an apt into PATH that has one kernel, of the given version. It
// notes how it was called in the directory that it returns.
func fakeApt(t *testing.T, deb []byte, version string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("deb", string(deb), 0o644)
	write("version", version, 0o644)
	write("apt-config", "#!/bin/sh\necho 'Acquire::IndexTargets::deb::Extra::MetaKey \"x\";'\n", 0o755)
	write("apt-cache", `#!/bin/sh
for last; do :; done
v=$(cat `+dir+`/version)
case $last in
linux-image-cloud-*) printf 'Package: %s\nDepends: foo, linux-image-6.6.6-test (= %s) | bar\nDescription: x\n y: z\n' "$last" "$v" ;;
linux-image-6.6.6-test) printf 'Package: %s\nVersion: %s\nSize: 1000\n' "$last" "$v" ;;
*) echo "E: No packages found" >&2; exit 100 ;;
esac
`, 0o755)
	write("apt-get", `#!/bin/sh
cat "$2" >`+dir+`/conf
for last; do :; done
echo "$last" >>`+dir+`/calls
case $last in
update) echo "Get:1 list"; echo "W: one source is down"; test ! -e `+dir+`/fail ;;
linux-image-*) echo "dlstatus:1:25.0:half:way" >&3; cp `+dir+`/deb ./kernel.deb; test ! -e `+dir+`/hang || sleep 60 ;;
esac
`, 0o755)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return dir
}

func TestPull(t *testing.T) {
	s, src := testStore(t)
	vmlinuz, err := os.ReadFile(filepath.Join(src, "vmlinuz"))
	if err != nil {
		t.Fatal(err)
	}
	deb := fakeDeb(t, "data.tar.zst", func(b []byte) []byte { return packZstd(t, b) }, debTree(t, vmlinuz))
	debSize := int64(len(deb))
	apt := fakeApt(t, deb, "6.6.6-1")
	calls := func() []string {
		b, _ := os.ReadFile(filepath.Join(apt, "calls"))
		os.Remove(filepath.Join(apt, "calls"))
		return strings.Fields(string(b))
	}
	var events []api.Event
	pull := func(name string) (api.Kernel, error) {
		events = nil
		return s.Pull(t.Context(), api.KernelPull{Source: "debian", Name: name}, func(e api.Event) { events = append(events, e) })
	}

	k, err := pull("")
	if err != nil {
		t.Fatal(err)
	}
	if k.Name != "debian" || k.Source != "debian linux-image-6.6.6-test 6.6.6-1" || k.Release != testRelease || !k.Default {
		t.Errorf("got %+v", k)
	}
	checkWhole(t, k)
	if got, want := calls(), []string{"update", "linux-image-6.6.6-test=6.6.6-1"}; !slices.Equal(got, want) {
		t.Errorf("apt-get: got %q, want %q", got, want)
	}
	for _, want := range []api.Event{
		{Phase: "kernel", Message: "Get:1 list"},
		{Phase: "kernel", Message: "W: one source is down", Warning: true},
		{Phase: api.PhaseFetch, Done: 250, Total: 1000},
		{Phase: api.PhaseUnpack, Done: debSize, Total: debSize},
	} {
		if !slices.Contains(events, want) {
			t.Errorf("progress %+v is missing in %+v", want, events)
		}
	}
	conf, err := os.ReadFile(filepath.Join(apt, "conf"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"#clear APT::Update::Post-Invoke;", `APT::Architecture "` + runtime.GOARCH + `";`,
		`Acquire::IndexTargets::deb::Extra::DefaultEnabled "false";`,
	} {
		if !strings.Contains(string(conf), want) {
			t.Errorf("apt.conf: got\n%s, want %s in it", conf, want)
		}
	}

	again, err := pull("")
	if err != nil || !again.CreatedAt.Equal(k.CreatedAt) || !slices.Equal(calls(), []string{"update"}) {
		t.Errorf("the same again: got %+v, %v, want what is there, without a download", again, err)
	}
	if err := os.WriteFile(filepath.Join(apt, "version"), []byte("6.6.6-2"), 0o644); err != nil {
		t.Fatal(err)
	}
	newer, err := pull("")
	if err != nil || newer.Source != "debian linux-image-6.6.6-test 6.6.6-2" {
		t.Errorf("a newer one: got %+v, %v", newer, err)
	}
	if got, want := entries(t, s.Dir), []string{defaultFile, "debian"}; !slices.Equal(got, want) {
		t.Errorf("store: got %q, want %q", got, want)
	}
}

func TestPullFails(t *testing.T) {
	s, src := testStore(t)
	if _, err := s.Import(t.Context(), api.KernelImport{Path: filepath.Join(src, "vmlinuz"), Name: "mine"}, nil); err != nil {
		t.Fatal(err)
	}
	apt := fakeApt(t, []byte("rubbish"), "1")
	before := entries(t, s.Dir)
	check := func(what string, err error, is error, says, hint string) {
		t.Helper()
		if err == nil || is != nil && !errors.Is(err, is) || !strings.Contains(err.Error(), says) || !strings.Contains(api.HintOf(err), hint) {
			t.Errorf("%s: got %v, hint %q, want one that is %v, says %q, hints %q", what, err, api.HintOf(err), is, says, hint)
		}
		if got := entries(t, s.Dir); !slices.Equal(got, before) {
			t.Errorf("%s: got %q, want %q", what, got, before)
		}
	}
	pull := func(ctx context.Context, source, name string) error {
		_, err := s.Pull(ctx, api.KernelPull{Source: source, Name: name}, nil)
		return err
	}
	check("unknown source", pull(t.Context(), "fedora", ""), api.ErrInvalid, "fedora", "debian")
	check("name taken", pull(t.Context(), "debian", "mine"), api.ErrExists, "mine", "kernel rm mine")
	check("bad package", pull(t.Context(), "debian", ""), api.ErrInvalid, "not a kernel", "")

	if err := os.WriteFile(filepath.Join(apt, "hang"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	check("canceled", pull(ctx, "debian", ""), context.DeadlineExceeded, "apt-get download", "")

	if err := os.WriteFile(filepath.Join(apt, "apt-cache"), []byte("#!/bin/sh\necho 'E: No packages found' >&2; exit 100\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	check("no package", pull(t.Context(), "debian", ""), nil, "one source is down", "kernel import")
	t.Setenv("PATH", t.TempDir())
	check("no apt", pull(t.Context(), "debian", ""), errors.ErrUnsupported, "apt-get", "kernel import")
}
