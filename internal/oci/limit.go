package oci

import (
	"fmt"
	"math"

	"github.com/docker/go-units"

	"banger/internal/api"
)

// defaultRatioFrom is how many bytes a layer may have uncompressed whatever it is stored
// in. It is for files of zeros: a preallocated database or swap file is stored in
// a thousandth of its size by gzip, which can do no better than 1,032 to 1 (RFC
// 1951: 258 bytes in 2 bits), and in a thirty-thousandth by zstd (RFC 8878: a
// block of 128 KiB in 4 bytes).
//
// Beyond it [Options.MaxRatio] counts. Programs and documents are stored in a half to a
// tenth of their size; a disk image with 4 GiB of data in 60 GiB passes, too.
// A bomb of 64 MiB becomes 16 GiB and not 64, one of 100 KiB becomes 4 GiB, and
// both are an error seconds after they were downloaded.
const defaultRatioFrom = 4 << 30

// LimitError says that a layer has more bytes uncompressed than is allowed. It
// is an [api.ErrInvalid].
type LimitError struct {
	Option string // of [Options]: what would allow more
	Value  int64  // what it is
	Max    int64  // bytes that it allows
	Stored int64  // bytes
}

// Error implements error.
func (e *LimitError) Error() string {
	if e.Option == "MaxRatio" {
		return fmt.Sprintf("more than %s uncompressed of %s stored: beyond %s, the limit is %d to 1 (%s)",
			units.BytesSize(float64(e.Max)), units.BytesSize(float64(e.Stored)), units.BytesSize(float64(e.Max-e.Value*e.Stored)), e.Value, e.Option)
	}
	return fmt.Sprintf("more than the limit of %s uncompressed (%s)", units.BytesSize(float64(e.Max)), e.Option)
}

// Unwrap returns the sentinel that callers branch on.
func (e *LimitError) Unwrap() error { return api.ErrInvalid }

// limit is what bounds an uncompressed layer.
type limit struct {
	bytes int64
	ratio int64 // 0: none
	from  int64 // bytes that it does not count for
}

func (o Options) limit() limit { return limit{o.MaxLayerBytes, o.MaxRatio, o.ratioFrom} }

// check reports when n bytes uncompressed are too many for a layer that is stored
// in so many. What is promised for stored is as good as what has been read: when
// it is less, the stream ends with that error before the decompressor is far.
func (l limit) check(n, stored int64) error {
	switch {
	case n > l.bytes:
		return &LimitError{Option: "MaxLayerBytes", Value: l.bytes, Max: l.bytes, Stored: stored}
	case l.ratio == 0 || stored > (math.MaxInt64-l.from)/l.ratio:
		return nil
	}
	if most := l.from + l.ratio*stored; n > most {
		return &LimitError{Option: "MaxRatio", Value: l.ratio, Max: most, Stored: stored}
	}
	return nil
}
