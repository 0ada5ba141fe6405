package image

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"banger/internal/api"
	"banger/internal/oci"
)

// recipe is an image that is made here, by mmdebstrap from the host's own package
// sources and keys: no URL of ours, no root. It becomes a tar first, whose digest
// is that of the image. Recipes that find the same packages on the same day give
// the same tar.
type recipe struct {
	layers
	entry api.CatalogEntry
}

// recipeDir is where in the staging directory all of it happens.
const recipeDir = "recipe"

func (r *recipe) find(ctx context.Context, dir string, img *api.Image, p api.Progress) error {
	dir = filepath.Join(dir, recipeDir)
	tar := filepath.Join(dir, "rootfs.tar")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	t := newTimeline()
	if err := makeTar(ctx, r.entry, dir, tar, p); err != nil {
		return api.Hint(err, "or take one from a registry: banger image pull docker.io/library/"+r.entry.Distro)
	}
	t.mark("recipe")
	img.Phases = t.phases
	var err error
	if r.ref, err = oci.Normalize("tar:" + tar); err != nil {
		return err
	}
	return r.resolve(ctx, img, p)
}

func (r *recipe) write(ctx context.Context, path string, img *api.Image, p api.Progress) error {
	return errors.Join(r.layers.write(ctx, path, img, p), os.RemoveAll(filepath.Join(filepath.Dir(path), recipeDir)))
}

// makeTar makes the tar out by a recipe. Into dir go files of the work.
func makeTar(ctx context.Context, e api.CatalogEntry, dir, out string, p api.Progress) (err error) {
	for _, tool := range []string{"mmdebstrap", "apt-get"} {
		if _, err := exec.LookPath(tool); err != nil {
			return api.Hint(fmt.Errorf("make %s: this machine has no %s: %w", e.Name, tool, errors.ErrUnsupported),
				"install it: apt install mmdebstrap; or take one from a registry: banger image pull docker.io/library/"+e.Distro)
		}
	}
	sources, err := sourcesFor(e, "/etc", dir)
	if err != nil {
		return fmt.Errorf("make %s: %w", e.Name, err)
	}
	p.Note("recipe", fmt.Sprintf("making %s %s with mmdebstrap; that takes a minute or two", e.Distro, e.Apt.Suite))
	tar, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tar.Close()) }()
	cmd := exec.CommandContext(ctx, "mmdebstrap", recipeArgs(*e.Apt, sources)...)
	day := time.Now().UTC().Truncate(24 * time.Hour)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "SOURCE_DATE_EPOCH="+strconv.FormatInt(day.Unix(), 10),
		"PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	// Not dir: where the users of a namespace can go. They make what they make in
	// $TMPDIR, else /tmp.
	cmd.Dir, cmd.Stdout = "/", tar
	return runRecipe(ctx, cmd, e.Name, p)
}

// recipeArgs are the arguments of mmdebstrap; the tar goes to its standard
// output.
func recipeArgs(r api.CatalogApt, sources []string) []string {
	args := []string{
		"--variant=minbase", "--format=tar",
		"--aptopt=Acquire::Languages \"none\"", "--aptopt=Acquire::Retries \"3\"",
		// Host keys that all its VMs would share, and this machine's name and name
		// servers, which are copied in: the agent gives each VM its own.
		`--customize-hook=rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/hostname "$1"/etc/resolv.conf`,
	}
	if len(r.Packages) > 0 {
		args = append(args, "--include="+strings.Join(r.Packages, ","))
	}
	return append(append(args, r.Suite, "-"), sources...)
}

// runRecipe runs mmdebstrap to its end. It is asked to end, so that it removes
// what it made, when we are to end and also when we die.
func runRecipe(ctx context.Context, cmd *exec.Cmd, name string, p api.Progress) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd.Stderr = w
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	ended := make(chan error, 1)
	go func() {
		// Pdeathsig is of the thread that started the process (prctl(2)).
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Run()
		// Who got away with the other end does not hold us up.
		ended <- errors.Join(err, w.Close(), r.SetReadDeadline(time.Now().Add(time.Second)))
	}()
	var tail []string // what it said last
	for lines := bufio.NewScanner(r); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		if tail = append(tail, line); len(tail) > 5 {
			tail = tail[1:]
		}
		switch prefix, text, _ := strings.Cut(line, ": "); prefix {
		case "I":
			p.Say("recipe", text)
		case "W":
			p.Warn("recipe", text)
		}
	}
	_, _ = io.Copy(io.Discard, r) // a line too long must not stop it
	if err := <-ended; err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("make %s: mmdebstrap: %w: %s", name, err, strings.Join(tail, "; "))
	}
	return nil
}

// sourcesFor writes the host's package sources for the recipe's suite into dir
// and returns their paths. What a source says besides the suite, keys included,
// stays as it is.
func sourcesFor(e api.CatalogEntry, etc, dir string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(etc, "os-release"))
	if err != nil {
		return nil, err
	}
	host := parseOSRelease(text)
	if host["ID"] != e.Distro {
		return nil, fmt.Errorf("the package sources of this machine are of %s, not of %s: %w", host["ID"], e.Distro, errors.ErrUnsupported)
	}
	codename := host["VERSION_CODENAME"]
	if codename == "" {
		return nil, fmt.Errorf("/etc/os-release names no VERSION_CODENAME: %w", errors.ErrUnsupported)
	}
	files, err := sourceFiles(etc)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		changed, ok := changeSuite(text, codename, e.Apt.Suite)
		if !ok {
			continue
		}
		to := filepath.Join(dir, fmt.Sprintf("%d%s", len(found), filepath.Ext(file)))
		if err := os.WriteFile(to, changed, 0o644); err != nil {
			return nil, err
		}
		found = append(found, to)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no package source in /etc/apt names %s: %w", codename, api.ErrNotFound)
	}
	return found, nil
}

// sourceFiles returns the files that apt reads its sources from (sources.list(5)).
func sourceFiles(etc string) ([]string, error) {
	files := []string{filepath.Join(etc, "apt", "sources.list")}
	parts := filepath.Join(etc, "apt", "sources.list.d")
	entries, err := os.ReadDir(parts)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext == ".list" || ext == ".sources" {
			files = append(files, filepath.Join(parts, e.Name()))
		}
	}
	return slices.DeleteFunc(files, func(path string) bool {
		info, err := os.Stat(path)
		return err != nil || !info.Mode().IsRegular()
	}), nil
}

// suiteLine matches a line that names suites: of the one-line form, or of the
// deb822 form.
var suiteLine = regexp.MustCompile(`^(deb\s|Suites:)`)

// changeSuite makes suites of the release from, such as from-updates, those of
// to. ok says whether there are any: sources of other vendors mostly name none.
func changeSuite(text []byte, from, to string) (changed []byte, ok bool) {
	suite := regexp.MustCompile(`(\s|^Suites:)` + regexp.QuoteMeta(from) + `(-[a-z-]+)?(/updates)?(\s|$)`)
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		if suiteLine.Match(line) {
			for suite.Match(line) { // neighbours share the space between them
				next := suite.ReplaceAll(line, []byte("${1}"+to+"${2}${3}${4}"))
				ok = true
				if bytes.Equal(next, line) {
					break
				}
				line = next
			}
		}
		out.Write(line)
	}
	return out.Bytes(), ok
}

// parseOSRelease reads os-release(5).
func parseOSRelease(text []byte) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			fields[key] = strings.Trim(value, `"'`)
		}
	}
	return fields
}
