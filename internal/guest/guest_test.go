package guest

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banger/internal/agent"
	"banger/internal/api"
)

// need skips the test when a tool is missing, and fails it when
// BANGER_REQUIRE says that the tool must be there.
func need(t *testing.T, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err == nil {
		return
	}
	required := strings.Split(os.Getenv("BANGER_REQUIRE"), ",")
	if slices.Contains(required, tool) || slices.Contains(required, "all") {
		t.Fatalf("%s is missing", tool)
	}
	t.Skipf("%s is missing", tool)
}

// withAgent skips a test of a checkout in which `make build` has not run.
func withAgent(t *testing.T) {
	t.Helper()
	_, err := Agent()
	if errors.Is(err, fs.ErrNotExist) || api.HintOf(err) != "" {
		if slices.Contains(strings.Split(os.Getenv("BANGER_REQUIRE"), ","), "all") {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	withAgent(t)
	list, err := Files()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range list {
		mode := fs.FileMode(f.Mode).String()
		if f.Link != "" {
			mode = "-> " + f.Link
		} else if len(f.Content) == 0 {
			t.Errorf("%s is empty", f.Path)
		}
		got = append(got, f.Path+" "+mode)
	}
	want := []string{
		"/usr/local/bin/banger-vsock-agent -rwxr-xr-x",
		"/usr/local/libexec/banger-network-bootstrap -rwxr-xr-x",
		"/etc/systemd/system/banger-network.service -rw-r--r--",
		"/etc/systemd/system/banger-vsock-agent.service -rw-r--r--",
		"/etc/modules-load.d/banger-vsock.conf -rw-r--r--",
		"/etc/systemd/system/multi-user.target.wants/banger-network.service -> ../banger-network.service",
		"/etc/systemd/system/multi-user.target.wants/banger-vsock-agent.service -> ../banger-vsock-agent.service",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAgent(t *testing.T) {
	t.Parallel()
	withAgent(t)
	program, err := Agent()
	if err != nil {
		t.Fatal(err)
	}
	if len(program) >= 8<<20 {
		t.Errorf("the agent has %d bytes, the limit is 8 MiB", len(program))
	}
	if !bytes.HasPrefix(program, []byte("\x7fELF")) {
		t.Errorf("the agent is no ELF file: % x", program[:min(4, len(program))])
	}
	if bytes.Contains(program, []byte("/lib64/ld-linux")) || bytes.Contains(program, []byte("net/http.")) {
		t.Error("the agent is linked dynamically or with net/http")
	}
}

func TestRuntime(t *testing.T) {
	t.Parallel()
	list, err := Runtime()
	if err != nil {
		t.Fatal(err)
	}
	byPath := map[string]agent.File{}
	for _, f := range list {
		if !strings.HasPrefix(f.Path, "/run/") || path.Clean(f.Path) != f.Path {
			t.Errorf("%s is not below /run", f.Path)
		}
		if _, twice := byPath[f.Path]; twice {
			t.Errorf("%s is there twice", f.Path)
		}
		byPath[f.Path] = f
	}
	unit := string(byPath["/run/systemd/system/banger-vsock-agent.service"].Content)
	if !strings.Contains(unit, "\nExecStart=/run/banger/banger-vsock-agent\n") {
		t.Errorf("the unit does not start this boot's agent:\n%s", unit)
	}
	if got := byPath["/run/systemd/system/serial-getty@ttyS0.service"].Link; got != "/dev/null" {
		t.Errorf("the prompt on the console: got link %q, want /dev/null", got)
	}
}

func TestUnitsVerify(t *testing.T) {
	t.Parallel()
	need(t, "systemd-analyze")
	runtime, err := Runtime()
	if err != nil {
		t.Fatal(err)
	}
	network, err := text(networkUnit)
	if err != nil {
		t.Fatal(err)
	}
	list := append(runtime, agent.File{Path: unitDir + "/" + networkUnit, Content: network})
	for _, f := range list {
		if f.Link != "" || path.Ext(f.Path) != ".service" {
			continue
		}
		// The programs are not here; what else systemd has to say counts.
		content := strings.NewReplacer(agentPath, "/bin/true", agentRuntimePath, "/bin/true", bootstrapPath, "/bin/true").Replace(string(f.Content))
		file := filepath.Join(t.TempDir(), path.Base(f.Path))
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", "--recursive-errors=no", file).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", f.Path, err, out)
		}
	}
}

func TestBootstrapIsShell(t *testing.T) {
	t.Parallel()
	need(t, "sh")
	script, err := text(bootstrapPath)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-n")
	cmd.Stdin = bytes.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
