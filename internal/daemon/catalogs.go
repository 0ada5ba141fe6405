package daemon

import (
	"cmp"
	"context"
	"runtime"

	"banger/internal/api"
	"banger/internal/image"
	"banger/internal/oci"
)

// web is how catalogs are read from elsewhere.
type web struct{ fetch image.Fetch }

func (w web) Document(ctx context.Context, url string) ([]byte, error) {
	o, err := w.fetch()
	if err != nil {
		return nil, err
	}
	return oci.Document(ctx, url, o)
}

func (w web) Artifact(ctx context.Context, ref string, names ...string) (map[string][]byte, error) {
	o, err := w.fetch()
	if err != nil {
		return nil, err
	}
	return oci.Artifact(ctx, ref, o, names...)
}

func (d *daemon) showCatalogEntry(_ context.Context, req api.CatalogFind) (api.CatalogEntry, error) {
	e, err := d.images.Catalogs.Find(req.Name, cmp.Or(req.Arch, runtime.GOARCH))
	return e, api.Hint(err, "see what there is: banger catalog list")
}
