package inflate

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// FuzzDeflate compares with compress/flate.
func FuzzDeflate(f *testing.F) {
	for seed := range uint64(20) {
		stream := randomStream(rand.New(rand.NewPCG(seed, 8)))
		if len(stream) < 4000 {
			f.Add(stream)
		}
	}
	for _, data := range samples() {
		for _, level := range []int{0, 1, 6, 9} {
			gz := compress(f, level, data[:min(len(data), 6000)])
			f.Add(gz[len(plainHeader):])
		}
	}
	f.Fuzz(func(t *testing.T, deflated []byte) {
		compareDeflate(t, deflated)
	})
}

// FuzzGzip compares with compress/gzip.
func FuzzGzip(f *testing.F) {
	one := compress(f, 6, []byte("what is it that is what it is"))
	f.Add(one)
	f.Add(slices.Concat(one, one))
	for flags := range byte(32) {
		gz := slices.Clone(one)
		gz[3] = flags
		f.Add(slices.Insert(gz, len(plainHeader), []byte("\x02\x00ab"+"name\x00"+"comment\x00")...))
	}
	f.Fuzz(func(t *testing.T, gz []byte) {
		compare(t, gz)
	})
}
