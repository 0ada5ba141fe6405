package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// contest is everything that a run needs.
type contest struct {
	work   string // scratch, on the same file system as the images
	self   string // this program
	images map[string]layout
	host   string            // of the registry
	trees  map[string]string // of each image, as our disk of it has it
	sizes  map[string]int64  // bytes of our disk of each image
}

// contestant is one way to do some of the work.
type contestant struct {
	name string
	on   []string // images; nil: all
	slow bool     // takes many times as long as the others do
	root bool     // works for root only
	mend bool     // e2fsck finds fault with its disks, but mends them
	run  func(ctx context.Context, c *contest, img string) (measure, error)
}

// Names of contestants that ratios are made of.
const (
	inflateOnly = "inflate only"
	readOnly    = "inflate and verify"
	fetchOnly   = "download only"
	convert     = "**banger convert**"
	convertSync = "**banger convert --sync**"
	pull        = "**banger image pull**"
	reference   = "umoci + mkfs.ext4 -d + debugfs"
	tar2ext4    = "gzip -dc \\| tar2ext4"
	genext2fs   = "gzip -dc \\| genext2fs"
)

var contestants = []contestant{
	{name: inflateOnly, run: func(ctx context.Context, c *contest, img string) (measure, error) {
		return command(ctx, nil, append([]string{c.self, "inflate"}, c.images[img].blobs...)...)
	}},
	{name: readOnly, run: func(ctx context.Context, c *contest, img string) (measure, error) {
		return command(ctx, nil, c.self, "read", c.images[img].dir)
	}},
	{name: convert, run: func(ctx context.Context, c *contest, img string) (measure, error) {
		return c.disk(ctx, "bin/banger", "-q", "convert", "--no-guest-files", c.cached(img), "-o", c.out())
	}},
	{name: convertSync, run: func(ctx context.Context, c *contest, img string) (measure, error) {
		return c.disk(ctx, "bin/banger", "-q", "convert", "--no-guest-files", "--sync", c.cached(img), "-o", c.out())
	}},
	{name: fetchOnly, run: func(ctx context.Context, c *contest, img string) (measure, error) {
		return command(ctx, nil, c.self, "fetch", filepath.Join(c.work, "fetched"), c.host+"/"+img+":bench")
	}},
	{name: pull, run: func(ctx context.Context, c *contest, img string) (measure, error) {
		return c.pull(ctx, img)
	}},
	// The padding behind its inode bitmaps is not set.
	{name: tar2ext4, on: []string{"flat", "small", "large"}, mend: true, run: func(ctx context.Context, c *contest, img string) (measure, error) {
		return c.shell(ctx, img, `gzip -dc "$BLOB" | bin/tar2ext4 /dev/stdin "$OUT"`)
	}},
	{name: genext2fs, on: []string{"flat", "small", "large"}, slow: true, run: func(ctx context.Context, c *contest, img string) (measure, error) {
		return c.shell(ctx, img, `gzip -dc "$BLOB" | genext2fs -B 4096 -b $((SIZE / 4096)) -N 131072 -z -a - "$OUT"`)
	}},
	// mkfs.ext4 takes owners and modes from what umoci extracted. Without root
	// those are only in debugfs's commands, so they are part of it. umoci knows no
	// zstd.
	{name: reference, on: []string{"debian", "small"}, slow: true, root: true, run: func(ctx context.Context, c *contest, img string) (measure, error) {
		return c.shell(ctx, img, `
			umoci --log=error unpack --image "$LAYOUT:bench" "$WORK/bundle"
			mkfs.ext4 -q -F -d "$WORK/bundle/rootfs" "$OUT" $((SIZE / 1024))
			cd "$WORK/bundle/rootfs"
			owner='set_inode_field "/%P" uid %U\nset_inode_field "/%P" gid %G\n'
			find . -mindepth 1 \( \
				-type d -printf "$owner"'set_inode_field "/%P" mode 04%04m\n' -o \
				-type f -printf "$owner"'set_inode_field "/%P" mode 010%04m\n' -o \
				-type l -printf "$owner" \) >"$WORK/owners"
			debugfs -w -f "$WORK/owners" "$OUT" >/dev/null 2>&1`)
	}},
}

func (c *contest) out() string { return filepath.Join(c.work, "disk.ext4") }

// cached names an image by digest, whose blobs are in the cache: there is nothing
// to ask the registry for.
func (c *contest) cached(img string) string {
	return c.host + "/" + img + "@" + c.images[img].manifest.String()
}

// home is the environment that has the cache with all images.
func (c *contest) home() []string { return []string{"BANGER_HOME=" + filepath.Join(c.work, "home")} }

// disk runs a command that makes a disk.
func (c *contest) disk(ctx context.Context, argv ...string) (m measure, err error) {
	if m, err = command(ctx, c.home(), argv...); err != nil {
		return m, err
	}
	m.disk, err = allocated(c.out())
	return m, err
}

// shell is disk for a pipeline.
func (c *contest) shell(ctx context.Context, img, script string) (m measure, err error) {
	env := []string{
		"LAYOUT=" + c.images[img].dir, "BLOB=" + c.images[img].blobs[0], "OUT=" + c.out(), "WORK=" + c.work,
		"SIZE=" + strconv.FormatInt(c.sizes[img], 10),
	}
	if m, err = command(ctx, env, "bash", "-eu", "-o", "pipefail", "-c", script); err != nil {
		return m, err
	}
	m.disk, err = allocated(c.out())
	return m, err
}

// pull pulls into a new home from the registry. What the daemon takes is the
// pull's: it is started for it alone.
func (c *contest) pull(ctx context.Context, img string) (m measure, err error) {
	d, err := c.startDaemon(ctx)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	before, err := d.usage()
	if err != nil {
		return m, err
	}
	if m, err = d.pull(ctx, c.host+"/"+img+":bench"); err != nil {
		return m, err
	}
	after, err := d.usage()
	if err != nil {
		return m, err
	}
	m.cpu, m.written, m.memory = after.cpu-before.cpu, after.written-before.written, after.memory
	disks, globErr := filepath.Glob(filepath.Join(d.home, "state", "images", "*", "rootfs.ext4"))
	if err := errors.Join(err, globErr); err != nil || len(disks) != 1 {
		return m, fmt.Errorf("pulled %d disks: %w", len(disks), err)
	}
	if m.disk, err = allocated(disks[0]); err != nil {
		return m, err
	}
	return m, os.Rename(disks[0], c.out())
}

// daemon is a daemon of a home of its own.
type daemon struct {
	home string
	cmd  *exec.Cmd
}

func (c *contest) startDaemon(ctx context.Context) (d *daemon, err error) {
	home := filepath.Join(c.work, "pulled")
	if err := os.RemoveAll(home); err != nil {
		return nil, err
	}
	d = &daemon{home, exec.CommandContext(ctx, "bin/banger", "daemon")}
	d.cmd.Env = d.env()
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	for range 500 {
		if _, err := command(ctx, d.env(), "bin/banger", "daemon", "status"); err == nil {
			return d, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil, errors.Join(errors.New("the daemon does not answer"), d.stop())
}

func (d *daemon) pid() string   { return strconv.Itoa(d.cmd.Process.Pid) }
func (d *daemon) env() []string { return append(os.Environ(), "BANGER_HOME="+d.home) }

// usage is what the daemon has taken so far.
func (d *daemon) usage() (m measure, err error) {
	if m.written, err = writtenBy(d.pid()); err != nil {
		return m, err
	}
	if m.memory, err = procNumber("/proc/"+d.pid()+"/status", "VmHWM:"); err != nil { // in KiB
		return m, err
	}
	m.memory <<= 10
	stat, err := os.ReadFile("/proc/" + d.pid() + "/stat")
	if err != nil {
		return m, err
	}
	// utime and stime are the 14th and 15th field; the 2nd, a name, ends in ")".
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	for _, ticks := range fields[11:13] {
		n, err := strconv.ParseInt(ticks, 10, 64)
		if err != nil {
			return m, err
		}
		m.cpu += time.Duration(n) * time.Second / 100 // USER_HZ is 100 everywhere
	}
	return m, nil
}

func (d *daemon) pull(ctx context.Context, ref string) (measure, error) {
	return command(ctx, d.env(), "bin/banger", "-q", "image", "pull", "--no-guest-files", "--name", "bench", ref)
}

func (d *daemon) stop() error {
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return errors.Join(d.cmd.Wait(), os.RemoveAll(d.home))
}

// again returns how much longer than asking for the manifest it takes to hear that
// an image is up to date.
func (c *contest) again(ctx context.Context, img string, runs int) (time.Duration, error) {
	d, err := c.startDaemon(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = d.stop() }()
	ref := c.host + "/" + img + ":bench"
	if _, err := d.pull(ctx, ref); err != nil {
		return 0, err
	}
	var pulls, requests []measure
	for range max(runs, 3) {
		m, err := d.pull(ctx, ref)
		if err != nil {
			return 0, err
		}
		pulls = append(pulls, m)
		start := time.Now()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.host+"/v2/"+img+"/manifests/bench", http.NoBody)
		if err != nil {
			return 0, err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err
		}
		res.Body.Close()
		requests = append(requests, measure{wall: time.Since(start)})
	}
	return median(pulls, wall) - median(requests, wall), nil
}

// check looks at the disk that a contestant made: is it sound, once mended, and is
// everything on it that should be.
func (c *contest) check(ctx context.Context, img string, mend bool) error {
	if mend {
		_ = exec.CommandContext(ctx, "e2fsck", "-fy", c.out()).Run() // the next one judges
	}
	if text, err := exec.CommandContext(ctx, "e2fsck", "-fn", c.out()).CombinedOutput(); err != nil {
		return fmt.Errorf("e2fsck: %w: %s", err, strings.Join(strings.Fields(string(text)), " "))
	}
	tree, err := exec.CommandContext(ctx, c.self, "tree", c.out()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("read it: %w: %s", err, tree)
	}
	switch got, want := strings.TrimSpace(string(tree)), c.trees[img]; {
	case want == "":
		c.trees[img] = got
	case got != want:
		return fmt.Errorf("it has %s, want %s", got, want)
	}
	return nil
}

// clean removes what a run made.
func (c *contest) clean() error {
	return errors.Join(os.RemoveAll(c.out()), os.RemoveAll(filepath.Join(c.work, "bundle")),
		os.RemoveAll(filepath.Join(c.work, "owners")), os.RemoveAll(filepath.Join(c.work, "fetched")))
}

// fit says whether a contestant takes part on an image.
func (k contestant) fit(img string) bool {
	if k.root && os.Geteuid() != 0 {
		return false
	}
	if img == "huge" { // what it is for is memory
		return slices.Contains([]string{inflateOnly, convert, pull}, k.name)
	}
	return k.on == nil || slices.Contains(k.on, img)
}
