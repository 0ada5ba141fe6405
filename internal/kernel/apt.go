package kernel

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"banger/internal/api"
)

// apt runs the host's apt with the host's sources and keys, so that it verifies
// all it fetches, and with a state of its own below dir, so that it needs no
// root, changes nothing of the system, and works for an architecture that dpkg
// does not know.
type apt struct {
	dir  string
	arch string // as Debian names it, which is as Go does for amd64 and arm64
}

// aptConf is read after the host's configuration (apt.conf(5), #clear). The
// hooks of the host are for the host: one that Docker images have deletes from
// /var/cache/apt. %s is the architecture.
const aptConf = `#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Architectures;
#clear Acquire::Languages;
APT::Architecture "%[1]s";
APT::Architectures { "%[1]s"; };
APT::Sandbox::User "root";
Acquire::Languages "none";
`

// indexTarget matches a kind of index that apt would fetch, in the output of
// apt-config.
var indexTarget = regexp.MustCompile(`(?m)^Acquire::IndexTargets::deb::([^: ]+)::MetaKey `)

// newApt prepares dir.
func newApt(ctx context.Context, dir, arch string) (*apt, error) {
	for _, tool := range []string{"apt-get", "apt-cache", "apt-config"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("this host has no %s: %w", tool, errors.ErrUnsupported)
		}
	}
	dir, err := filepath.Abs(dir) // the tools run in another directory
	if err != nil {
		return nil, err
	}
	a := &apt{dir: dir, arch: arch}
	for _, d := range []string{"state/lists/partial", "cache/archives/partial", "out"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "status"), nil, 0o644); err != nil {
		return nil, err
	}
	conf := fmt.Appendf(nil, aptConf, arch)
	if err := os.WriteFile(a.conf(), conf, 0o644); err != nil {
		return nil, err
	}
	dump, err := a.output(ctx, "apt-config", "dump", "Acquire::IndexTargets")
	if err != nil {
		return nil, err
	}
	// Desktop metadata and the like are a third of an update and no use here.
	for _, m := range indexTarget.FindAllSubmatch(dump, -1) {
		if string(m[1]) != "Packages" {
			conf = fmt.Appendf(conf, "Acquire::IndexTargets::deb::%s::DefaultEnabled \"false\";\n", m[1])
		}
	}
	return a, os.WriteFile(a.conf(), conf, 0o644)
}

func (a *apt) conf() string { return filepath.Join(a.dir, "apt.conf") }

func (a *apt) command(ctx context.Context, tool string, args ...string) *exec.Cmd {
	state := filepath.Join(a.dir, "state")
	cmd := exec.CommandContext(ctx, tool, append([]string{
		"-c", a.conf(),
		"-o", "Dir::State=" + state,
		"-o", "Dir::State::lists=" + filepath.Join(state, "lists"),
		"-o", "Dir::State::status=" + filepath.Join(a.dir, "status"),
		"-o", "Dir::Cache=" + filepath.Join(a.dir, "cache"),
	}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Dir = filepath.Join(a.dir, "out")
	// apt's download methods are processes of their own: all go at once.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// output runs a tool that asks and returns what it answers.
func (a *apt) output(ctx context.Context, tool string, args ...string) ([]byte, error) {
	var stderr bytes.Buffer
	cmd := a.command(ctx, tool, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", tool, strings.Join(args, " "), errors.Join(ctx.Err(), err), bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// get runs apt-get and reports its lines as they come. complaints are its
// errors and warnings: apt-get update succeeds when a source cannot be reached.
func (a *apt) get(ctx context.Context, p api.Progress, files []*os.File, args ...string) (complaints []string, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := a.command(ctx, "apt-get", append([]string{"-q"}, args...)...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = w, w, files
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(r); lines.Scan(); {
			line := lines.Text()
			if strings.HasPrefix(line, "W: ") || strings.HasPrefix(line, "E: ") {
				complaints = append(complaints, line)
				p.Warn("kernel", line)
			} else if line != "" {
				p.Say("kernel", line)
			}
		}
	}()
	err = errors.Join(cmd.Run(), w.Close())
	// All that could write is gone; a process that got away does not hold us up.
	_ = r.SetReadDeadline(time.Now().Add(cmd.WaitDelay))
	<-read
	_ = r.Close()
	if err != nil {
		err = fmt.Errorf("apt-get %s: %w", args[0], errors.Join(ctx.Err(), err))
	}
	return complaints, err
}

// debPackage is a package that apt can fetch.
type debPackage struct {
	name, version string
	size          int64 // of the .deb, in bytes
}

var kernelDependency = regexp.MustCompile(`linux-image-[0-9][^ ,|]*`)

// kernelPackage updates the package lists and returns the kernel for virtual
// machines that they have. linux-image-cloud-<arch> is a metapackage: what it
// depends on is the kernel.
func (a *apt) kernelPackage(ctx context.Context, p api.Progress) (debPackage, error) {
	complaints, updateErr := a.get(ctx, p, nil, "update")
	if ctx.Err() != nil {
		return debPackage{}, updateErr
	}
	// One bad source among the host's is not our business as long as another
	// has the kernel.
	fail := func(err error) (debPackage, error) {
		for _, c := range complaints {
			err = fmt.Errorf("%w\n%s", err, c)
		}
		return debPackage{}, errors.Join(err, updateErr)
	}
	meta, err := a.show(ctx, "linux-image-cloud-"+a.arch)
	if err != nil {
		return fail(err)
	}
	name := kernelDependency.FindString(meta["Depends"])
	if name == "" {
		return fail(fmt.Errorf("package %s depends on no kernel: %q", meta["Package"], meta["Depends"]))
	}
	kernel, err := a.show(ctx, name)
	if err != nil {
		return fail(err)
	}
	size, err := strconv.ParseInt(kernel["Size"], 10, 64)
	if err != nil {
		return fail(fmt.Errorf("package %s: size %q: %w", name, kernel["Size"], err))
	}
	return debPackage{name, kernel["Version"], size}, nil
}

// show returns the control fields of the version of a package that apt would
// install.
func (a *apt) show(ctx context.Context, name string) (map[string]string, error) {
	out, err := a.output(ctx, "apt-cache", "show", "--no-all-versions", name)
	if err != nil {
		return nil, fmt.Errorf("find package %s in the apt sources of this host: %w", name, err)
	}
	fields := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		if key, value, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(line, " ") {
			fields[key] = strings.TrimSpace(value)
		}
	}
	return fields, nil
}

// download fetches and verifies a package and returns the path of the .deb.
func (a *apt) download(ctx context.Context, pkg debPackage, p api.Progress) (string, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return "", err
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		reportDownload(r, pkg.size, p)
	}()
	// The first extra file is descriptor 3 of the child.
	_, err = a.get(ctx, p, []*os.File{w}, "download", "-o", "APT::Status-Fd=3", pkg.name+"="+pkg.version)
	_ = w.Close()
	_ = r.SetReadDeadline(time.Now().Add(time.Second))
	<-read
	_ = r.Close()
	if err != nil {
		return "", err
	}
	debs, err := filepath.Glob(filepath.Join(a.dir, "out", "*.deb"))
	if err != nil || len(debs) != 1 {
		return "", errors.Join(fmt.Errorf("apt-get download %s: got %d packages, want 1", pkg.name, len(debs)), err)
	}
	return debs[0], nil
}

// reportDownload turns apt's status lines, "dlstatus:<item>:<percent>:<text>",
// into progress.
func reportDownload(r io.Reader, size int64, p api.Progress) {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		f := strings.SplitN(lines.Text(), ":", 4)
		if len(f) < 3 || f[0] != "dlstatus" {
			continue
		}
		if percent, err := strconv.ParseFloat(f[2], 64); err == nil {
			p.Count(api.PhaseFetch, "", int64(percent/100*float64(size)), size)
		}
	}
}
