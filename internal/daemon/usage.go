package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"banger/internal/api"
	"banger/internal/du"
)

// usage measures what we have on the disk. A file that a kernel and images share
// counts with the kernel.
func (d *daemon) usage(ctx context.Context) ([]api.DiskUsage, error) {
	reclaimable := map[string]int64{}
	pruned, err := d.prune(ctx, api.Prune{All: true, DryRun: true}, nil)
	if err != nil {
		return nil, err
	}
	for _, p := range pruned {
		reclaimable[p.Kind] += p.FreedBytes
	}
	var meter du.Meter
	staging := api.DiskUsage{Kind: "staging", Path: d.Dirs.State, ReclaimableBytes: reclaimable["staging"]}
	all := []api.DiskUsage{}
	for _, area := range []struct{ kind, dir, pruned string }{
		{"kernels", d.kernels.Dir, "kernel"},
		{"images", d.images.Dir, "image"},
		{"vms", d.vms.Dir, ""},
	} {
		line := api.DiskUsage{Kind: area.kind, Path: area.dir, ReclaimableBytes: reclaimable[area.pruned]}
		entries, err := os.ReadDir(area.dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			u, err := meter.Add(filepath.Join(area.dir, e.Name()))
			if err != nil {
				return nil, err
			}
			switch {
			case isStaging(e.Name()):
				add(&staging, 1, u)
			case e.IsDir():
				add(&line, 1, u)
			default:
				add(&line, 0, u)
			}
		}
		all = append(all, line)
	}
	cache := api.DiskUsage{Kind: "cache", Path: d.Dirs.Cache, ReclaimableBytes: reclaimable["blob"]}
	u, err := meter.Add(d.Dirs.Cache)
	if err != nil {
		return nil, err
	}
	add(&cache, u.Files, u)
	return append(all, cache, staging), nil
}

func add(line *api.DiskUsage, count int, u du.Usage) {
	line.Count += count
	line.SizeBytes += u.Apparent
	line.AllocatedBytes += u.Allocated
}

// isStaging says whether an entry is no image, kernel or VM yet, or not any more.
func isStaging(name string) bool {
	return strings.HasSuffix(name, ".staging") || strings.HasPrefix(name, ".staging-") || strings.HasPrefix(name, ".removing-")
}

// prune removes what nothing names, and with req.All what nothing uses: images,
// kernels and blobs. VMs are never removed.
func (d *daemon) prune(ctx context.Context, req api.Prune, p api.Progress) ([]api.Pruned, error) {
	var tally du.Tally // a kernel may share its files with images that go, too
	pruned, err := d.images.Prune(ctx, req, &tally)
	if err != nil {
		return pruned, err
	}
	gone := map[string]bool{} // in a dry run they are still there
	for _, one := range pruned {
		gone[one.Name] = req.DryRun && one.Kind == "image"
	}
	images, err := d.images.List(ctx)
	if err != nil {
		return pruned, err
	}
	images = slices.DeleteFunc(images, func(img api.Image) bool { return gone[img.Name] || img.Name == "" && gone[img.ID] })
	kernels := map[string]bool{}
	for _, img := range images {
		kernels[img.KernelRef] = true
	}
	more, err := d.kernels.Prune(ctx, req, &tally, func(name string) bool { return kernels[name] })
	if pruned = append(pruned, more...); err != nil {
		return pruned, err
	}
	more, err = d.pruneCache(images, req, p)
	return append(pruned, more...), err
}
