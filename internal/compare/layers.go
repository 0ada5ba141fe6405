package compare

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"

	"banger/ext4"
	"banger/internal/api"
)

// Layers compares a disk with what its layers add up to. An error means that
// there was nothing to compare, or not all of it.
func Layers(ctx context.Context, disk *ext4.FS, made Made, p api.Progress) (Report, error) {
	m := newMerge(made.Created)
	p.Say(api.PhaseVerify, "reading the names in the layers")
	for _, l := range made.Layers {
		if err := m.apply(ctx, l, p); err != nil {
			return Report{}, err
		}
	}
	if err := m.addFiles(made.Added); err != nil {
		return Report{}, err
	}
	p.Say(api.PhaseVerify, "reading the disk")
	got, err := readDisk(ctx, disk)
	if err != nil {
		return Report{}, err
	}
	want := m.tree()
	got.withoutLostFound(want)
	out := Report{Paths: int64(len(want.files))}
	var r report
	r.xattrs("/", want.root, got.root)
	pairs := r.trees(want, got)
	r.nlinks(got)
	if out.Bytes, err = r.contents(ctx, disk, made.Layers, pairs, p); err != nil {
		return Report{}, err
	}
	m.root.walk("", func(path string, n *name) {
		if n.layer == m.layer {
			out.Added = append(out.Added, api.Text(path))
		}
		if m.replaced[n] {
			out.Replaced = append(out.Replaced, api.Text(path))
		}
	})
	slices.Sort(out.Added)
	slices.Sort(out.Replaced)
	out.Differences = r.sorted()
	return out, nil
}

// contents compares the contents of files, in the order of the layers.
func (r *report) contents(ctx context.Context, disk *ext4.FS, layers []Layer, pairs []pair, p api.Progress) (total int64, err error) {
	wanted := make([]map[int][]pair, len(layers)) // by layer and entry
	for _, one := range pairs {
		switch {
		case one.want.sha256 != "":
			n, err := r.sum(disk, one)
			if total += n; err != nil {
				return total, err
			}
		case one.want.size > 0:
			i := one.want.layer - 1
			if wanted[i] == nil {
				wanted[i] = map[int][]pair{}
			}
			wanted[i][one.want.entry] = append(wanted[i][one.want.entry], one)
		}
	}
	p.Say(api.PhaseVerify, fmt.Sprintf("comparing the contents of %d files", len(pairs)))
	for i, l := range layers {
		if wanted[i] == nil {
			continue
		}
		err := eachEntry(ctx, l, p, func(n int, _ *tar.Header, content io.Reader) error {
			if len(wanted[i][n]) == 0 {
				return nil
			}
			total += wanted[i][n][0].want.size
			return r.content(disk, wanted[i][n], content)
		})
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// chunk is how much is compared at a time, in bytes.
const chunk = 256 << 10

// content compares the content of an entry with that of files: one, but where the
// names of an entry have become several files.
func (r *report) content(disk *ext4.FS, pairs []pair, content io.Reader) error {
	files := make([]io.Reader, len(pairs))
	for i, one := range pairs {
		f, err := disk.Open(one.path[1:])
		if err != nil {
			return err
		}
		defer f.Close()
		files[i] = f
	}
	if r.want == nil {
		r.want, r.got = make([]byte, chunk), make([]byte, chunk)
	}
	want, got := r.want, r.got
	for at, end := int64(0), false; !end; {
		n, err := io.ReadFull(content, want)
		end = err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !end {
			return err
		}
		for i, f := range files {
			if f == nil {
				continue
			}
			if _, err := io.ReadFull(f, got[:n]); err != nil {
				return fmt.Errorf("read disk: %s: %w", pairs[i].path, err)
			}
			if !bytes.Equal(want[:n], got[:n]) {
				r.add(pairs[i].path, "content", "", fmt.Sprintf("another byte at %d", at+firstDifference(want[:n], got[:n])))
				files[i] = nil
			}
		}
		at += int64(n)
	}
	return nil
}

func firstDifference(a, b []byte) int64 {
	for i := range a {
		if a[i] != b[i] {
			return int64(i)
		}
	}
	return int64(len(a))
}

// sum compares a file whose digest is known.
func (r *report) sum(disk *ext4.FS, one pair) (int64, error) {
	f, err := disk.Open(one.path[1:])
	if err != nil {
		return 0, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return n, fmt.Errorf("read disk: %w", err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != one.want.sha256 {
		r.add(one.path, "content", "sha256 "+one.want.sha256, "sha256 "+got)
	}
	return n, nil
}
