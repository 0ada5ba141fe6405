// Package e2e proves the main job with the program as users have it: bin/banger
// turns real images, made by real tools, into disks and boots them.
//
// Each test has a [host] of its own: a BANGER_HOME, with nothing shared but
// kernels, which are pulled once. Everything runs on QEMU's software emulation
// unless BANGER_ACCEL says otherwise. What takes long to make, the Debian image,
// is kept in the user's cache directory.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// program is the banger under test, at a path that every user can reach.
var program string

func TestMain(m *testing.M) {
	code, err := withProgram(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

// withProgram copies bin/banger, as make build left it, out of the checkout,
// which may be where an ordinary user cannot go.
func withProgram(run func() int) (code int, err error) {
	dir, err := os.MkdirTemp("", "banger-e2e-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil {
		return 0, err
	}
	b, err := os.ReadFile(filepath.Join("..", "bin", "banger"))
	switch {
	case err == nil:
		program = filepath.Join(dir, "banger")
		if err := os.WriteFile(program, b, 0o755); err != nil {
			return 0, err
		}
	case !errors.Is(err, os.ErrNotExist):
		return 0, err
	}
	return run(), nil
}

// need skips the test when one of the tools is missing, and fails it when
// BANGER_REQUIRE names that tool or says "all".
func need(t *testing.T, tools ...string) {
	t.Helper()
	required := strings.Split(os.Getenv("BANGER_REQUIRE"), ",")
	for _, tool := range tools {
		reason := missing(tool)
		switch {
		case reason == "":
		case slices.Contains(required, tool), slices.Contains(required, "all"):
			t.Fatalf("needs %s: %s", tool, reason)
		default:
			t.Skipf("needs %s: %s", tool, reason)
		}
	}
}

// missing says why a tool cannot be used, or "".
func missing(tool string) string {
	path := tool
	switch tool {
	case "banger":
		if program == "" {
			return "there is no bin/banger: run make build"
		}
		return ""
	case "root":
		if os.Getuid() != 0 {
			return "this is an ordinary user"
		}
		return ""
	case "kernel":
		path = "apt-get"
	case "qemu":
		path = "qemu-system-x86_64"
	case "registry":
		path = "docker-registry"
	}
	if _, err := exec.LookPath(path); err != nil {
		return err.Error()
	}
	return ""
}

// result is how a command ended.
type result struct {
	stdout, stderr string
	code           int
}

// commandTimeout bounds any one command of a test, a boot on a busy machine
// included.
const commandTimeout = 4 * time.Minute

// run runs cmd to its end. What cannot be run, takes too long, or leaves
// somebody behind who holds its output open fails the test.
func run(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || !exit.Exited()) {
		t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, stdout.String(), stderr.String())
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// tool runs a program that must succeed and returns its standard output.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	r := run(t, cmd)
	if r.code != 0 {
		t.Fatalf("%s: exit status %d\n%s%s", strings.Join(cmd.Args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}
