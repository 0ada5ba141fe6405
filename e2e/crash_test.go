package e2e

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
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
	kills := 40
	if os.Getenv("BANGER_LONG") != "" {
		kills = 400
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
	t.Logf("and %d more were killed as they started", c.atStart)
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

	images []api.Image // as the last look found them, with vms and kernels
	vms    []api.VM
	now    state

	usual map[string]time.Duration // what an operation took the last time, by its name
	tally map[string]*ends         // by the same
	sound map[string]bool          // IDs of images whose disk has been checked

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
	var names []string
	for _, op := range ops {
		if op.prepare != nil {
			op.prepare()
		}
		names = append(names, op.name)
	}
	usual := cmp.Or(c.usual[ops[len(ops)-1].name], 10*time.Millisecond)
	moment := time.Duration(c.rng.Int64N(int64(usual)))
	what := fmt.Sprintf("%s, killed after %v", strings.Join(names, " and "), moment.Round(time.Millisecond))

	ctx, cancel := context.WithTimeout(c.t.Context(), commandTimeout)
	defer cancel()
	type end struct {
		op   operation
		err  error
		took time.Duration
	}
	ended := make(chan end, len(ops))
	for _, op := range ops {
		go func() {
			began := time.Now()
			err := op.do(ctx)
			ended <- end{op, err, time.Since(began)}
		}()
	}
	time.Sleep(moment)
	c.kill()

	allowed := map[string][]string{} // what a key may be now, when it need not be as before
	for range ops {
		e := <-ended
		if c.tally[e.op.name] == nil {
			c.tally[e.op.name] = &ends{}
		}
		refused := (*api.Error)(nil)
		switch {
		case e.err == nil:
			c.tally[e.op.name].done++
			c.usual[e.op.name] = e.took
			for key, value := range e.op.after {
				allowed[key] = []string{value}
			}
		case errors.As(e.err, &refused):
			c.t.Errorf("%s: %s: %v", what, e.op.name, e.err)
		default:
			c.tally[e.op.name].cut++
			// It would have taken longer, nobody knows how much.
			c.usual[e.op.name] = max(c.usual[e.op.name], 2*moment+10*time.Millisecond)
			for key, value := range e.op.after {
				allowed[key] = []string{c.now[key], value}
			}
		}
	}
	before := c.now
	if c.rng.IntN(3) == 0 { // what is cached is not downloaded again
		if err := os.RemoveAll(filepath.Join(c.h.home, "cache")); err != nil {
			c.t.Fatal(err)
		}
	}
	for c.rng.IntN(4) == 0 {
		c.killAtStart()
	}
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
		c.t.Logf("the above was found after %s", what)
	}
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

// checkFiles checks that an image has its files, no others, and, once for each
// image, that its disk is sound and has the content it was made with.
func (c *campaign) checkFiles(img api.Image) {
	var files []string
	for _, path := range []string{img.RootfsPath, img.KernelPath, img.InitrdPath, img.ModulesDir} {
		if path == "" {
			continue
		}
		if _, err := os.Stat(path); err != nil {
			c.t.Error(err)
		}
		if path != img.RootfsPath || img.Managed {
			files = append(files, filepath.Base(path))
		}
	}
	c.checkDir(filepath.Join("images", img.ID), files)
	if c.sound[img.ID] {
		return
	}
	c.sound[img.ID] = true
	tool(c.t, "e2fsck", "-fn", img.RootfsPath)
	f, err := os.Open(img.RootfsPath)
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
		c.t.Errorf("image %s: the data has sha256 %s, want %s (%v)", img.ID, got, want, err)
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

func sha256Hex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
