package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"banger/ext4"
	"banger/internal/api"
	"banger/internal/client"
)

// TestKillDaemon kills the daemon at random moments, in the middle of all that
// changes the store. After each kill the next daemon must find the old state or
// the new, what was reported as done must be done, and nothing may be left over.
// BANGER_SEED repeats a campaign, as far as the machine's speed lets it.
func TestKillDaemon(t *testing.T) {
	need(t, "banger", "e2fsck")
	kills := 60
	if os.Getenv("BANGER_LONG") != "" {
		kills = 1000
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("BANGER_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("BANGER_SEED=%d", seed)
	c := newCampaign(t, seed)
	c.restart()
	for range kills {
		c.round()
		if t.Failed() {
			break
		}
	}
	t.Logf("%d of %d kills left something half done; %d more daemons were killed as they started", c.half, kills, c.atStart)
	if c.half == 0 {
		t.Error("no kill came at a bad moment: the test shows nothing")
	}
	for _, name := range slices.Sorted(maps.Keys(c.tally)) {
		n := c.tally[name]
		t.Logf("%-35s %3d done before the kill, %3d cut off", name, n.done, n.cut)
	}
}

// campaign is a host whose daemon is killed again and again.
type campaign struct {
	t    *testing.T
	h    *host
	api  *client.Client
	rng  *rand.Rand
	from sources

	images []api.Image // as the last restart found them, like vms and now
	vms    []api.VM
	now    state

	usual map[string]time.Duration // what an operation took the last time, by its name
	tally map[string]*ends         // by the same
	sound map[string]bool          // paths of disks that have been checked; they hold IDs

	half    int // kills that left something half done
	atStart int // daemons killed as they cleared up
}

// ends counts how operations ended.
type ends struct{ done, cut int }

// state is all that users know of a store: "image <name>" to the digest of its
// source, or "none" when it has none; "vm <name>" and "kernel <name>" to "made".
type state map[string]string

// operation is a call that changes the store.
type operation struct {
	name    string
	touches []string          // keys of the state that it needs or changes; nil: all
	after   map[string]string // what it makes of them; "": it removes them
	prepare func()            // comes before, when it is not nil
	do      func(context.Context) error
}

// round starts one operation or two that have nothing to do with each other,
// kills the daemon, and checks what the next one finds.
func (c *campaign) round() {
	ops := []operation{c.operation()}
	if second := c.operation(); c.rng.IntN(3) > 0 && apart(ops[0], second) {
		ops = append(ops, second)
	}
	for _, op := range ops {
		if op.prepare != nil {
			op.prepare()
		}
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), commandTimeout)
	defer cancel()
	began := time.Now()
	ended := make(chan outcome, len(ops))
	for _, op := range ops {
		go func() {
			err := op.do(ctx)
			ended <- outcome{op, err, time.Since(began)}
		}()
	}
	c.wait(cmp.Or(c.usual[ops[len(ops)-1].name], 10*time.Millisecond))
	c.kill()
	what := fmt.Sprintf("killed %v after the start of", time.Since(began).Round(time.Millisecond))
	allowed := map[string][]string{}
	for range ops {
		e := <-ended
		what += " " + e.op.name
		c.settle(e, allowed)
	}
	if c.halfDone() {
		c.half++
	}
	if c.rng.IntN(3) == 0 { // what is cached is not downloaded again
		if err := os.RemoveAll(filepath.Join(c.h.home, "cache")); err != nil {
			c.t.Fatal(err)
		}
	}
	for c.rng.IntN(4) == 0 {
		c.killAtStart()
	}
	before := c.now
	c.restart()
	keys := maps.Clone(before)
	maps.Copy(keys, c.now)
	for key := range keys {
		want, ok := allowed[key]
		if !ok {
			want = []string{before[key]}
		}
		if !slices.Contains(want, c.now[key]) {
			c.t.Errorf("%s is %q, want one of %q", key, c.now[key], want)
		}
	}
	if c.t.Failed() {
		c.t.Log("the daemon was " + what)
	}
}

// outcome is how an operation ended: by itself, or by the daemon's death.
type outcome struct {
	op   operation
	err  error
	took time.Duration
}

// settle notes how an operation ended, and what the state may be after it: the
// new one when it was done, else the old one too.
func (c *campaign) settle(e outcome, allowed map[string][]string) {
	if c.tally[e.op.name] == nil {
		c.tally[e.op.name] = &ends{}
	}
	if refused := (*api.Error)(nil); errors.As(e.err, &refused) {
		c.t.Errorf("%s: %v", e.op.name, e.err)
	}
	if e.err == nil {
		c.tally[e.op.name].done++
		c.usual[e.op.name] = e.took
	} else {
		c.tally[e.op.name].cut++
		// It would have taken longer, nobody knows how much.
		c.usual[e.op.name] = max(c.usual[e.op.name], 2*e.took)
	}
	for key, value := range e.op.after {
		allowed[key] = []string{value}
		if e.err != nil {
			allowed[key] = append(allowed[key], c.now[key])
		}
	}
}

// wait returns when the daemon is to die: at any time of an operation that
// usually takes that long, or just after it has made, renamed or removed
// something or stored a row, which is when these do not agree.
func (c *campaign) wait(usual time.Duration) {
	if c.rng.IntN(2) == 0 {
		time.Sleep(time.Duration(c.rng.Int64N(int64(usual))))
		return
	}
	last, rows := c.names(), c.rowsTime()
	deadline := time.Now().Add(2 * usual)
	for changes := 1 + c.rng.IntN(5); changes > 0 && time.Now().Before(deadline); {
		if now, nowRows := c.names(), c.rowsTime(); !slices.Equal(now, last) || !nowRows.Equal(rows) {
			last, rows = now, nowRows
			changes--
		}
	}
	if c.rng.IntN(2) == 0 {
		time.Sleep(time.Duration(c.rng.Int64N(int64(2 * time.Millisecond))))
	}
}

// names are the names of all images, VMs and kernels, whole or not.
func (c *campaign) names() (names []string) {
	for _, dir := range []string{"images", "vms", "kernels"} {
		entries, err := os.ReadDir(filepath.Join(c.h.home, "state", dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			c.t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, dir+"/"+e.Name())
		}
	}
	return names
}

// rowsTime is when a row was stored last.
func (c *campaign) rowsTime() time.Time {
	info, err := os.Stat(filepath.Join(c.h.home, "state", "banger.db-wal"))
	if err != nil {
		c.t.Fatal(err)
	}
	return info.ModTime()
}

// halfDone says whether there is something that only an operation under way, or
// a kill, leaves.
func (c *campaign) halfDone() bool {
	return slices.ContainsFunc(c.names(), func(name string) bool {
		return strings.Contains(name, "staging") || strings.Contains(name, "removing")
	})
}

// apart says whether operations neither need nor change the same things.
func apart(a, b operation) bool {
	if a.touches == nil || b.touches == nil {
		return false
	}
	return !slices.ContainsFunc(a.touches, func(key string) bool { return slices.Contains(b.touches, key) })
}

// kill ends the daemon as the kernel does when memory is out, and waits until
// the state directory is free.
func (c *campaign) kill() {
	c.t.Helper()
	lock, err := os.Open(filepath.Join(c.h.home, "state", "daemon.lock"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer lock.Close()
	pid := make([]byte, 16)
	n, err := lock.Read(pid)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := syscall.Kill(number(c.t, string(pid[:n])), syscall.SIGKILL); err != nil {
		c.t.Fatal(err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		c.t.Fatal(err)
	}
}

// killAtStart starts a daemon and kills it while it clears up.
func (c *campaign) killAtStart() {
	c.t.Helper()
	cmd := c.h.command(c.t.Context(), "daemon")
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	time.Sleep(time.Duration(c.rng.Int64N(int64(100 * time.Millisecond))))
	if err := cmd.Process.Kill(); err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.Exited() {
		c.t.Errorf("the daemon ended by itself: %v", err)
	}
	c.atStart++
}

// restart starts the next daemon, looks at what it has found and checks it.
func (c *campaign) restart() {
	if r := c.h.try(c.t, "system", "check"); r.code != 0 {
		c.t.Errorf("system check: exit status %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	var kernels []api.Kernel
	for verb, result := range map[string]any{"image.list": &c.images, "vm.list": &c.vms, "kernel.list": &kernels} {
		if err := c.api.Call(c.t.Context(), verb, nil, result); err != nil {
			c.t.Fatal(err)
		}
	}
	c.now = state{}
	var imageDirs, vmDirs, kernelDirs []string
	for _, img := range c.images {
		for _, name := range img.Names {
			c.now["image "+name] = cmp.Or(img.Digest, "none")
		}
		used := slices.ContainsFunc(c.vms, func(vm api.VM) bool { return vm.ImageID == img.ID })
		if len(img.Names) == 0 && !used {
			c.t.Errorf("image %s has neither a name nor a VM", img.ID)
		}
		imageDirs = append(imageDirs, img.ID)
		c.checkFiles(img)
	}
	for _, vm := range c.vms {
		c.now["vm "+vm.Name] = "made"
		vmDirs = append(vmDirs, vm.ID)
		if vm.State != api.VMCreated {
			c.t.Errorf("vm %s is %s: %s", vm.Name, vm.State, vm.Reason)
		}
		c.checkDisk(filepath.Join(vm.Dir, "disk.ext4"))
	}
	for _, k := range kernels {
		c.now["kernel "+k.Name] = "made"
		kernelDirs = append(kernelDirs, k.Name)
	}
	if len(kernels) > 0 {
		kernelDirs = append(kernelDirs, ".default")
	}
	c.checkDir("images", imageDirs)
	c.checkDir("vms", vmDirs)
	c.checkDir("kernels", kernelDirs)
	c.checkBlobs()
}

// checkDir holds the names in a directory of the state against those it may have.
func (c *campaign) checkDir(name string, want []string) {
	entries, err := os.ReadDir(filepath.Join(c.h.home, "state", name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.t.Error(err)
	}
	for _, e := range entries {
		if !slices.Contains(want, e.Name()) {
			c.t.Errorf("left over: %s/%s", name, e.Name())
		}
	}
	if len(entries) < len(want) {
		c.t.Errorf("%s has %d entries, want %q", name, len(entries), want)
	}
}

// checkFiles checks that an image has its files and no others.
func (c *campaign) checkFiles(img api.Image) {
	var files []string
	for _, path := range []string{img.RootfsPath, img.KernelPath, img.InitrdPath, img.ModulesDir} {
		if path != "" && (path != img.RootfsPath || img.Managed) {
			files = append(files, filepath.Base(path))
		}
	}
	c.checkDir(filepath.Join("images", img.ID), files)
	c.checkDisk(img.RootfsPath)
}

// checkDisk checks that a disk is sound and has the content it was made with,
// once for each.
func (c *campaign) checkDisk(path string) {
	if c.sound[path] {
		return
	}
	c.sound[path] = true
	tool(c.t, "e2fsck", "-fn", path)
	f, err := os.Open(path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	disk, err := ext4.Open(f)
	if err != nil {
		c.t.Fatal(err)
	}
	got, err := sum(disk, "data")
	if err != nil {
		c.t.Fatal(err)
	}
	if want, err := fs.ReadFile(disk, "data.sha256"); err != nil || got != string(want) {
		c.t.Errorf("%s: the data has sha256 %s, want %s (%v)", path, got, want, err)
	}
}

// checkBlobs checks that what is cached is what its name says.
func (c *campaign) checkBlobs() {
	blobs, err := filepath.Glob(filepath.Join(c.h.home, "cache", "oci", "blobs", "sha256", "*"))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, path := range blobs {
		name := filepath.Base(path)
		if strings.HasSuffix(name, ".partial") {
			continue // for the next pull to go on from
		}
		if got, err := sum(os.DirFS(filepath.Dir(path)), name); err != nil || got != name {
			c.t.Errorf("the cached blob %s has sha256 %s (%v)", name, got, err)
		}
	}
}
