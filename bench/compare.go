package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// cell is where results belong.
type cell struct {
	img, contestant string
	cold            bool
}

// results are what all runs took, and what was wrong with whose disk.
type results struct {
	runs  map[cell][]measure
	wrong map[cell]error
	again time.Duration // of a second pull, beyond the manifest
}

// order is that of the images in the report.
var order = []string{"debian", "debian-zstd", "flat", "small", "large", "huge"}

// compare runs all contestants on all images and writes the report.
func compare(ctx context.Context) (err error) {
	start, s := time.Now(), scaleOf(os.Getenv)
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return err
	}
	c, err := newContest(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(c.work)) }()
	r := results{runs: map[cell][]measure{}, wrong: map[cell]error{}}
	for _, img := range order {
		if err := c.runAll(ctx, img, s, &r); err != nil {
			return fmt.Errorf("image %s: %w", img, err)
		}
	}
	if r.again, err = c.again(ctx, "debian", s.runs); err != nil {
		return err
	}
	text, err := report(ctx, c, s, r)
	if err != nil {
		return err
	}
	fmt.Println(text)
	say("done in %.0f s", time.Since(start).Seconds())
	if !s.quick {
		if err := publish("docs/benchmarks.md", text); err != nil {
			return err
		}
	}
	var all []error
	for at, err := range r.wrong {
		all = append(all, fmt.Errorf("%s on %s: %w", at.contestant, at.img, err))
	}
	if s.quick { // what a smoke test is for
		return errors.Join(all...)
	}
	return nil
}

// newContest makes what there has to be before the first run.
func newContest(ctx context.Context, s scale) (c *contest, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	cache = filepath.Join(cache, "banger-bench")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	c = &contest{trees: map[string]string{}, sizes: map[string]int64{}}
	if c.self, err = os.Executable(); err != nil {
		return nil, err
	}
	// In a process of its own, for it takes memory: see command.
	makeThem := exec.CommandContext(ctx, c.self, "images", cache)
	makeThem.Stderr = os.Stderr
	if err := makeThem.Run(); err != nil {
		return nil, fmt.Errorf("make images: %w", err)
	}
	if c.images, err = openImages(cache, s); err != nil {
		return nil, err
	}
	if c.host, err = serve(ctx, c.images); err != nil {
		return nil, err
	}
	if c.work, err = os.MkdirTemp(cache, "work-"); err != nil {
		return nil, err
	}
	return c, nil
}

// runAll runs all contestants on one image: in turns, so that what else the
// machine does meanwhile hits all of them.
func (c *contest) runAll(ctx context.Context, img string, s scale, r *results) error {
	// This fills the cache, and says how large the others' disks have to be.
	if _, err := command(ctx, c.home(), "bin/banger", "-q", "convert", "--no-guest-files", c.host+"/"+img+":bench", "-o", c.out()); err != nil {
		return err
	}
	info, err := os.Stat(c.out())
	if err != nil {
		return err
	}
	c.sizes[img] = info.Size()
	if err := errors.Join(c.check(ctx, img, false), c.clean()); err != nil {
		return err
	}
	for round := range s.runs {
		for _, cold := range []bool{false, true} {
			for _, k := range contestants {
				if !k.fit(img) || round >= s.runsOf(img, k, cold) {
					continue
				}
				if err := c.runOne(ctx, cell{img, k.name, cold}, k, round == 0, r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// runsOf says how often a contestant runs on an image, so that all of it takes a
// quarter of an hour.
func (s scale) runsOf(img string, k contestant, cold bool) int {
	switch {
	case cold && (!canDrop() || img == "huge" || k.slow && img != "debian"):
		return 0
	case img == "huge", k.slow && cold:
		return 1
	case cold, k.slow, img == "large":
		return s.fewRuns
	}
	return s.runs
}

// runOne makes one run, of whose disk is checked once what can be checked.
func (c *contest) runOne(ctx context.Context, at cell, k contestant, first bool, r *results) error {
	if r.wrong[at] != nil || r.wrong[cell{at.img, at.contestant, false}] != nil {
		return nil
	}
	input := c.images[at.img].blobs
	if err := settle(ctx, at.cold, input); err != nil {
		return err
	}
	m, err := k.run(ctx, c, at.img)
	if err == nil && first && !at.cold && m.disk > 0 {
		err = c.check(ctx, at.img, k.mend)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		say("%s on %s: %v", k.name, at.img, err)
		r.wrong[at] = err
	} else {
		r.runs[at] = append(r.runs[at], m)
		say("%-12s %-32s %6.2f s  %4d MiB%s", at.img, strings.NewReplacer("*", "", "\\", "").Replace(k.name), m.wall.Seconds(), m.memory>>20, map[bool]string{true: "  cold"}[at.cold])
	}
	return c.clean()
}

// canDrop says whether the page cache may be emptied here.
func canDrop() bool {
	f, err := os.OpenFile("/proc/sys/vm/drop_caches", os.O_WRONLY, 0)
	if err != nil {
		return false
	}
	f.Close()
	return true
}
