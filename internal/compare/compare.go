// Package compare holds a disk against what it should be: against the layers it
// was made from ([Layers]), or against the disk it was cloned from ([Disks]). It
// reads both sides path by path and tells every difference.
//
// It exists to find the mistakes of the way from layers to disks, so it shares
// nothing with it but [archive/tar]: the layers are merged here once more, by the
// rules of https://github.com/opencontainers/image-spec/blob/main/layer.md and
// what runtimes do where that is silent, in the plainest way: a tree of names,
// whose whiteouts look at every name below them, and a copy of that tree for the
// hard links of a layer to what the layer hides. Layers are read twice, first for
// their names and then for their contents, which are compared as they pass by.
//
// Compared are type, permissions, owner, modification time to the nanosecond,
// device numbers, symlink targets, sizes, which names are one file, link counts,
// extended attributes, ACLs by what they say, and contents. The root directory's
// own permissions, owner and time are what no two packers agree on; only its
// extended attributes count. A lost+found that no layer has is the file system's
// own. Memory grows with the number of paths, not with their contents.
package compare

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"banger/internal/api"
)

// A Layer is a layer of an image.
type Layer struct {
	Digest string
	Open   func(context.Context, api.Progress) (io.ReadCloser, error) // gives its tar stream; io.EOF when it is verified
}

// Made says how a disk was made.
type Made struct {
	Layers  []Layer         // base first
	Created time.Time       // of what no layer describes; zero: 1970
	Added   []api.AddedFile // what came on top of the layers
}

// A Report is the outcome of a comparison.
type Report struct {
	Paths       int64
	Bytes       int64            // of contents that were read on both sides
	Added       []string         // paths that are there for Made.Added, directories included
	Replaced    []string         // those of Added that stand where a layer had something else
	Differences []api.Difference // sorted by path
}

// maxText bounds a value in a difference, in bytes.
const maxText = 200

// Kinds of differences whose path is on one side only.
const (
	missing = "missing"
	extra   = "extra"
)

// report collects differences.
type report struct {
	list      []api.Difference
	want, got []byte // buffers
}

func (r *report) add(path, what, want, got string) {
	r.list = append(r.list, api.Difference{Path: api.Text(path), What: what, Want: short(want), Got: short(got)})
}

func short(s string) string {
	if len(s) > maxText {
		s = fmt.Sprintf("%s... (%d bytes)", s[:maxText], len(s))
	}
	return api.Text(s)
}

// sorted returns the differences by path, and those of one path as they were found.
func (r *report) sorted() []api.Difference {
	slices.SortStableFunc(r.list, func(a, b api.Difference) int { return cmp.Compare(a.Path, b.Path) })
	return r.list
}

// Changes turns differences into what `docker diff` says: a line for each path,
// and for what is gone only its topmost directory.
func Changes(all []api.Difference) []api.Change {
	changes := []api.Change{}
	gone := map[string]bool{} // also directories that are something else now
	for _, d := range all {
		if last := len(changes) - 1; last >= 0 && changes[last].Path == d.Path {
			changes[last].What = append(changes[last].What, d.What)
			continue
		}
		c := api.Change{Kind: "C", Path: d.Path}
		switch d.What {
		case missing:
			c.Kind = "D"
		case extra:
			c.Kind = "A"
		default:
			c.What = []string{d.What}
		}
		if c.Kind == "D" || d.What == "type" {
			gone[d.Path] = true
		}
		if c.Kind == "D" && gone[d.Path[:max(0, strings.LastIndexByte(d.Path, '/'))]] {
			continue
		}
		changes = append(changes, c)
	}
	return changes
}

// Kind names the type of a file.
func Kind(mode fs.FileMode) string {
	switch mode.Type() {
	case 0:
		return "file"
	case fs.ModeDir:
		return "directory"
	case fs.ModeSymlink:
		return "symlink"
	case fs.ModeNamedPipe:
		return "fifo"
	case fs.ModeSocket:
		return "socket"
	case fs.ModeDevice:
		return "block device"
	case fs.ModeDevice | fs.ModeCharDevice:
		return "character device"
	}
	return mode.Type().String()
}
