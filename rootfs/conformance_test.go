package rootfs

import (
	"slices"
	"strings"
	"testing"
)

type layers = [][]entry

// rule is what layers mean in one respect, and the rows that show it.
type rule struct {
	name   string
	does   string
	source string // "silent": the image specification says nothing; layer.md is a part of it
	rows   []row
}

// row is one case of a rule.
type row struct {
	name   string
	layers layers
	want   string // listing of the tree
	warns  string // kinds of warnings, sorted
	err    string // part of the error, instead of a tree

	// umoci is what "umoci unpack" makes of it where that is something else:
	// a listing, "error", or "*" where it depends on the machine. why says why
	// we differ.
	umoci, why string
}

// conformance is all rules; docs/conformance.md is made of it.
var conformance = slices.Concat(rulesOfEntries, rulesOfWhiteouts, rulesOfPaths, rulesOfLinks, rulesOfTypes, rulesOfAttributes)

// base is a lower layer that many rows begin with.
var base = []entry{dir("d"), file("d/low", "low"), file("d/other", "other"), dir("d/sub"), file("d/sub/deep", "deep")}

// long is the longest name, and deep a path that with it is a byte too long.
var (
	long = strings.Repeat("n", 255)
	deep = strings.Repeat(long+"/", 14) + long
)

// rows yields every row of every rule.
func rows(yield func(row) bool) {
	for _, rule := range conformance {
		for _, r := range rule.rows {
			if !yield(r) {
				return
			}
		}
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for r := range rows {
		if seen[r.name] {
			t.Errorf("two rows are called %s", r.name)
		}
		seen[r.name] = true
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			tree, err := apply(t, r.layers...)
			if r.err != "" {
				if err == nil {
					t.Fatalf("got\n%swant an error with %q", list(tree), r.err)
				}
				if !strings.Contains(err.Error(), r.err) {
					t.Fatalf("got error %q, want one with %q", err, r.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, want := list(tree), lines(r.want); got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
			if got := warningKinds(tree); got != r.warns {
				t.Errorf("got warnings %q, want %q: %v", got, r.warns, tree.Warnings)
			}
		})
	}
}
