package daemon

import (
	"context"
	"fmt"
	"strings"

	"banger/internal/api"
	"banger/internal/oci"
)

// showCache says what is in the cache of downloads.
func (d *daemon) showCache() (api.Cache, error) {
	o, err := d.fetch()
	if err != nil {
		return api.Cache{}, err
	}
	return oci.CacheUsage(o)
}

// pruneDownloads removes from the cache what no image was made of.
func (d *daemon) pruneDownloads(ctx context.Context, req api.Prune, p api.Progress) ([]api.Pruned, error) {
	images, err := d.images.List(ctx)
	if err != nil {
		return nil, err
	}
	return d.pruneCache(images, req, p)
}

// pruneCache removes blobs that none of the images was made of, and with req.All
// those too, but no blob that a pull uses.
func (d *daemon) pruneCache(images []api.Image, req api.Prune, p api.Progress) ([]api.Pruned, error) {
	blobs := map[string]bool{}
	for _, img := range images {
		blobs[img.Digest], blobs[img.Source.ConfigDigest] = true, true
		for _, l := range img.Source.Layers {
			blobs[l.Digest] = true
		}
		// What came by standard input is kept in the cache: its ref is a path there.
		if _, hex, ok := strings.Cut(img.Ref, d.cacheDir()+"/blobs/sha256/"); ok {
			hex, _, _ = strings.Cut(hex, ":")
			blobs["sha256:"+hex] = true
		}
	}
	pruned, inUse, err := oci.Prune(d.cacheDir(), func(digest string) bool { return !req.All && blobs[digest] }, req.DryRun)
	if inUse > 0 {
		p.Warn("cache", fmt.Sprintf("%d blobs stay in the cache: a pull under way uses them", inUse))
	}
	return pruned, err
}
