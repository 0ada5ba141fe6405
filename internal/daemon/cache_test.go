package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banger/internal/api"
)

// What an image was made of stays in the cache unless all is to go.
func TestPruneDownloads(t *testing.T) {
	d := newTestDaemon(t)
	img := d.pull("used")
	dir := filepath.Join(d.cacheDir(), "blobs", "sha256")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	own, other := strings.TrimPrefix(img.Digest, "sha256:"), strings.Repeat("a", 64)
	for _, name := range []string{own, other, strings.Repeat("b", 64) + ".partial"} {
		d.write(filepath.Join(dir, name), make([]byte, 8192))
	}
	var cache api.Cache
	d.call("cache.show", nil, &cache)
	if cache.Path != dir || cache.Blobs != 2 || cache.BlobBytes != 16384 || cache.Partials != 1 || cache.PartialBytes != 8192 || cache.LimitBytes != 10<<30 {
		t.Errorf("got %+v", cache)
	}
	for _, row := range []struct {
		req  api.Prune
		want int
	}{
		{api.Prune{DryRun: true}, 2}, {api.Prune{All: true, DryRun: true}, 3}, {api.Prune{}, 2}, {api.Prune{}, 0}, {api.Prune{All: true}, 1},
	} {
		var pruned []api.Pruned
		d.stream("cache.prune", row.req, &pruned)
		if got := names(pruned); len(got) != row.want || !row.req.All && slices.Contains(got, "blob "+own) {
			t.Errorf("%+v: %q, want %d", row.req, got, row.want)
		}
	}
}
