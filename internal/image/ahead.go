package image

import (
	"context"
	"errors"
	"runtime"

	"banger/internal/api"
	"banger/internal/oci"
)

// mostAhead is how many layers are open at a time, at the most: each has goroutines
// and some MiB of its own.
const mostAhead = 8

// ReadAhead is how many bytes the open layers of one conversion may be inflated
// ahead by default: 16 MiB for each processor that can do it, and 64 MiB at the
// most. More keeps no processor busier: what is not warm in a cache any more when
// it is written, and pages that are touched for the first time, cost a tenth of
// the time of a small image.
func ReadAhead() int64 { return min(64<<20, int64(runtime.GOMAXPROCS(0))*16<<20) }

// opener opens layers ahead of who reads them, so that they are inflated on other
// processors: as many at a time as there are processors, from two to mostAhead.
type opener struct {
	layers []oci.Layer // not yet opened
	open   []opened    // in order
}

type opened struct {
	r   *oci.Stream
	err error
}

// next returns the next layer. It is the caller's to close.
func (o *opener) next(ctx context.Context, p api.Progress) (*oci.Stream, error) {
	for len(o.layers) > 0 && len(o.open) < min(max(2, runtime.GOMAXPROCS(0)), mostAhead) {
		r, err := o.layers[0].Open(ctx, p)
		o.open, o.layers = append(o.open, opened{r, err}), o.layers[1:]
	}
	first := o.open[0]
	o.open = o.open[1:]
	return first.r, first.err
}

// close ends what has been opened and not returned.
func (o *opener) close() (err error) {
	for _, l := range o.open {
		if l.r != nil {
			err = errors.Join(err, l.r.Close())
		}
	}
	return err
}
