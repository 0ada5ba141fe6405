package compare_test

import (
	"archive/tar"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
)

// TestRandom converts random layers, full of names that meet, and finds the disk
// equal to them. Two ways from layers to a tree, written apart, agree.
func TestRandom(t *testing.T) {
	t.Parallel()
	n := 200
	if os.Getenv("BANGER_LONG") != "" {
		n = 4_000
	}
	converted := 0
	for seed := range n {
		layers := randomLayers(rand.New(rand.NewPCG(uint64(seed), 7)))
		var archives [][]byte
		for _, entries := range layers {
			archives = append(archives, archive(t, entries))
		}
		b, err := build(t, pure, archives...)
		if err != nil {
			continue // a link to nowhere, a circle of symlinks
		}
		converted++
		if got := b.differences(t); got != nil {
			t.Fatalf("seed %d:\n%s\nlayers:\n%s", seed, strings.Join(got, "\n"), show(layers))
		}
		if err := os.Remove(b.path); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d of %d converted", converted, n)
	if converted < n/4 {
		t.Errorf("%d of %d could be converted: the layers prove little", converted, n)
	}
}

func randomLayers(r *rand.Rand) [][]entry {
	some := func() string {
		path := ""
		for range 1 + r.IntN(3) {
			path += string("abcd"[r.IntN(4)]) + "/"
		}
		return strings.TrimSuffix(path, "/")
	}
	var known []string // paths so far: links mostly lead to one
	layers := make([][]entry, 1+r.IntN(4))
	for i := range layers {
		for range 1 + r.IntN(8) {
			path := some()
			var e entry
			switch r.IntN(12) {
			case 0, 1, 2:
				e = file(path, fmt.Sprint(path, i, r.IntN(9)))
			case 3, 4:
				e = dir(path)
			case 5:
				e = symlink(path, []string{"/", "../", ""}[r.IntN(3)]+some())
			case 6, 7:
				target := some()
				if len(known) > 0 && r.IntN(8) > 0 {
					target = known[r.IntN(len(known))]
				}
				e = link(path, target)
				if r.IntN(2) == 0 {
					e = e.mode(int64(r.IntN(0o10000))).owner(r.IntN(3), 0).time(time.Unix(int64(r.IntN(9)), 0))
				}
			case 8, 9:
				at := strings.LastIndexByte(path, '/') + 1
				e = hide(path[:at] + ".wh." + path[at:])
			case 10:
				e = hide(path + "/.wh..wh..opq")
			case 11:
				e = device(tar.TypeChar, path, int64(r.IntN(2)), 0)
			}
			layers[i] = append(layers[i], e)
			known = append(known, path)
		}
	}
	return layers
}

func show(layers [][]entry) string {
	var b strings.Builder
	for i, entries := range layers {
		for _, e := range entries {
			fmt.Fprintf(&b, "%d %c %s -> %s %o\n", i, e.Typeflag, e.Name, e.Linkname, e.Mode)
		}
	}
	return b.String()
}
