package rootfs

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// model states the rules the slow and plain way, for layers without symlinks: a
// map from path to inode, all whiteouts of a layer first, then its entries in order.
type model map[string]*item

func (m model) remove(path string) {
	delete(m, path)
	m.removeBelow(path)
}

func (m model) removeBelow(path string) {
	for p := range m {
		if strings.HasPrefix(p, path+"/") {
			delete(m, p)
		}
	}
}

func (m model) put(path string, it *item) {
	for i, c := range path {
		if c != '/' {
			continue
		}
		if parent := m[path[:i]]; parent == nil || !parent.mode.IsDir() {
			m.remove(path[:i])
			m[path[:i]] = &item{mode: fs.ModeDir | 0o755}
		}
	}
	if old := m[path]; old == nil || !old.mode.IsDir() || !it.mode.IsDir() {
		m.remove(path)
	}
	m[path] = it
}

// file returns the file at path, not a directory.
func (m model) file(path string) *item {
	if it := m[path]; it != nil && !it.mode.IsDir() {
		return it
	}
	return nil
}

func (m model) files() []string {
	var paths []string
	for p, it := range m {
		if !it.mode.IsDir() {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	return paths
}

func (m model) apply(layer []entry) (err error) {
	hidden := model{}
	for p, it := range m {
		hidden[p] = it
	}
	for _, e := range layer {
		parent, name := "", e.Name
		if i := strings.LastIndexByte(e.Name, '/'); i >= 0 {
			parent, name = e.Name[:i], e.Name[i+1:]
		}
		if name == opaqueMarker {
			m.removeBelow(parent)
		} else if hides, ok := strings.CutPrefix(name, whiteoutPrefix); ok {
			m.remove(strings.TrimPrefix(parent+"/"+hides, "/"))
		}
	}
	for p := range m {
		delete(hidden, p)
	}
	late := map[*item]string{}
	for _, e := range layer {
		switch {
		case strings.Contains(e.Name, whiteoutPrefix):
		case e.Typeflag == tar.TypeDir:
			m.put(strings.TrimSuffix(e.Name, "/"), &item{mode: fs.ModeDir | mode(e.Mode)})
		case e.Typeflag == tar.TypeReg:
			m.put(e.Name, &item{mode: mode(e.Mode), body: e.body})
		case e.Typeflag == tar.TypeLink:
			it := m.file(e.Linkname)
			if it == nil {
				it = hidden.file(e.Linkname)
			}
			if it == nil && m[e.Linkname] == nil && hidden[e.Linkname] == nil || late[it] != "" {
				it = &item{}
				late[it] = e.Linkname
			} else if it == nil {
				return errIsDir
			}
			m.put(e.Name, it)
		}
	}
	for more := true; more; {
		more, err = false, nil
		for p, it := range m {
			if late[it] == "" {
				continue
			}
			err = errNoFile
			if target := m.file(late[it]); target != nil && late[target] == "" {
				m[p], more = target, true
			}
		}
	}
	return err
}

func (m model) String() string {
	names := map[*item]int{}
	for _, it := range m {
		names[it]++
	}
	var items []item
	for p, it := range m {
		line := *it
		line.path, line.inode, line.nlink, line.mtime = p, it, names[it], time.Unix(0, 0)
		items = append(items, line)
	}
	return listing(items)
}

// randomLayer returns a layer over a tree of few paths, so that they collide.
// Links mostly go to known, the names of files in the layers below.
func randomLayer(r *rand.Rand, tag int, known []string) []entry {
	path := func() string {
		parts := make([]string, 1+r.IntN(3))
		for i := range parts {
			parts[i] = string(rune('a' + r.IntN(3)))
		}
		return strings.Join(parts, "/")
	}
	var entries []entry
	for i := range 1 + r.IntN(9) {
		p := path()
		switch r.IntN(5) {
		case 0:
			entries = append(entries, dir(p).mode(int64(r.IntN(512))))
		case 1, 2:
			entries = append(entries, file(p, fmt.Sprint(tag, i)))
			known = append(known, p)
		case 3:
			target := path()
			if len(known) > 0 && r.IntN(8) > 0 {
				target = known[r.IntN(len(known))]
			}
			entries = append(entries, link(p, target))
		case 4:
			parent := ""
			if j := strings.LastIndexByte(p, '/'); j >= 0 {
				parent, p = p[:j+1], p[j+1:]
			}
			name := whiteoutPrefix + p
			if parent != "" && r.IntN(3) == 0 {
				name = opaqueMarker
			}
			entries = append(entries, hide(parent+name))
		}
	}
	return slices.DeleteFunc(entries, func(e entry) bool {
		return e.Typeflag == tar.TypeLink && slices.ContainsFunc(entries, func(o entry) bool { return murky(e.Linkname, o) })
	})
}

// murky reports whether an entry makes the target of a link of its layer vanish
// without a whiteout. If there is a whiteout as well, whether the link finds it
// depends on their order; no tool makes such layers.
func murky(target string, o entry) bool {
	name := strings.TrimSuffix(o.Name, "/")
	return !strings.Contains(name, whiteoutPrefix) &&
		(strings.HasPrefix(target, name+"/") && o.Typeflag != tar.TypeDir || strings.HasPrefix(name, target+"/") || name == target && o.Typeflag == tar.TypeDir)
}

// TestModel compares random images with the model. It holds the rule that is
// hardest to keep in one pass: where a whiteout stands in its layer never matters.
func TestModel(t *testing.T) {
	t.Parallel()
	const images = 2500
	failed, linked := 0, 0
	for seed := range uint64(images) {
		r := rand.New(rand.NewPCG(seed, 0))
		var image layers
		m := model{}
		var want error
		for tag := range 1 + r.IntN(4) {
			image = append(image, randomLayer(r, tag, m.files()))
			if want = m.apply(image[tag]); want != nil {
				break
			}
		}
		tree, err := apply(t, image...)
		if (err != nil) != (want != nil) {
			t.Fatalf("seed %d: got error %v, want %v\n%s", seed, err, want, describe(image))
		}
		if err != nil {
			failed++
			continue
		}
		if got := list(tree); got != m.String() {
			t.Fatalf("seed %d: got\n%swant\n%s%s", seed, got, m, describe(image))
		}
		if strings.Contains(m.String(), " = ") {
			linked++
		}
	}
	if failed > images/2 || linked < images/10 {
		t.Errorf("got %d errors and %d trees with hard links of %d: the images are poor", failed, linked, images)
	}
}

func describe(image layers) string {
	var b strings.Builder
	for i, layer := range image {
		fmt.Fprintf(&b, "layer %d:\n", i+1)
		for _, e := range layer {
			fmt.Fprintf(&b, "  %c %s %s %q\n", e.Typeflag, e.Name, e.Linkname, e.body)
		}
	}
	return b.String()
}
