package compare

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"
)

// trees compares all but contents. It returns the files that have the same size
// on both sides, by a path that both have: those whose contents can be compared.
func (r *report) trees(want, got tree) (pairs []pair) {
	wantNames, gotNames := want.names(), got.names()
	seen := map[[2]*file]bool{} // of those with several names
	for _, p := range slices.Sorted(maps.Keys(want.files)) {
		w, g := want.files[p], got.files[p]
		if g == nil {
			r.add(p, missing, Kind(w.mode), "")
			continue
		}
		if w.mode.Type() != g.mode.Type() {
			r.add(p, "type", Kind(w.mode), Kind(g.mode))
			continue
		}
		r.attributes(p, w, g)
		if w.mode.IsDir() || seen[[2]*file{w, g}] {
			continue
		}
		if w.names > 1 || g.names > 1 {
			seen[[2]*file{w, g}] = true
			if one, other := wantNames.of(w, p), gotNames.of(g, p); !slices.Equal(one, other) {
				r.add(p, "links", list(one), list(other))
			}
		}
		if w.mode.IsRegular() && (w.size == g.size || w.size < 0) {
			pairs = append(pairs, pair{path: p, want: w, got: g})
		}
	}
	for p, g := range got.files {
		if want.files[p] == nil {
			r.add(p, extra, "", Kind(g.mode))
		}
	}
	return pairs
}

// A pair is a regular file on both sides.
type pair struct {
	path      string
	want, got *file
}

// attributes compares what an inode says of itself.
func (r *report) attributes(p string, want, got *file) {
	if w, g := Octal(want.mode), Octal(got.mode); w != g {
		r.add(p, "mode", w, g)
	}
	if want.uid != got.uid || want.gid != got.gid {
		r.add(p, "owner", fmt.Sprintf("%d:%d", want.uid, want.gid), fmt.Sprintf("%d:%d", got.uid, got.gid))
	}
	if !want.mtime.Equal(got.mtime) {
		r.add(p, "mtime", date(want.mtime), date(got.mtime))
	}
	if want.major != got.major || want.minor != got.minor {
		r.add(p, "device", fmt.Sprintf("%d:%d", want.major, want.minor), fmt.Sprintf("%d:%d", got.major, got.minor))
	}
	if want.target != got.target {
		r.add(p, "target", want.target, got.target)
	}
	if want.mode.IsRegular() && want.size >= 0 && want.size != got.size {
		r.add(p, "size", fmt.Sprint(want.size), fmt.Sprint(got.size))
	}
	r.xattrs(p, want, got)
}

func (r *report) xattrs(p string, want, got *file) {
	names := maps.Clone(want.xattrs)
	if names == nil {
		names = map[string]string{}
	}
	maps.Copy(names, got.xattrs)
	for _, attr := range slices.Sorted(maps.Keys(names)) {
		w, inWant := want.xattrs[attr]
		g, inGot := got.xattrs[attr]
		if w != g || inWant != inGot {
			r.add(p, "xattr "+attr, quoted(w, inWant), quoted(g, inGot))
		}
	}
}

// nlinks holds the link count of each inode of a disk against its names, and
// reports it at the first.
func (r *report) nlinks(disk tree) {
	subdirs := disk.subdirs()
	names := disk.names()
	for p, f := range disk.files {
		want := f.names
		if f.mode.IsDir() {
			want = 2 + subdirs[p]
			if f.links == 1 { // more than can be counted; fs/ext4/namei.c, ext4_inc_count
				continue
			}
		}
		if f.links != want && names.of(f, p)[0] == p {
			r.add(p, "nlink", fmt.Sprint(want), fmt.Sprint(f.links))
		}
	}
}

// names are the paths, sorted, of files that have more than one.
type names map[*file][]string

func (t tree) names() names {
	n := names{}
	for p, f := range t.files {
		if f.names > 1 {
			n[f] = append(n[f], p)
		}
	}
	for _, paths := range n {
		slices.Sort(paths)
	}
	return n
}

// of returns the paths of a file, of which one is known.
func (n names) of(f *file, path string) []string {
	if f.names > 1 {
		return n[f]
	}
	return []string{path}
}

// Octal is a mode as chmod(1) takes it: "4755".
func Octal(mode fs.FileMode) string {
	bits := uint32(mode.Perm())
	for bit, c := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if mode&bit != 0 {
			bits |= c
		}
	}
	return fmt.Sprintf("%04o", bits)
}

func date(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func quoted(value string, there bool) string {
	if !there {
		return "none"
	}
	return fmt.Sprintf("%q", value)
}

// list shows the names of one file.
func list(names []string) string {
	const most = 4
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], " "), len(names)-most)
	}
	return strings.Join(names, " ")
}
