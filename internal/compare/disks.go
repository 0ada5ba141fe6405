package compare

import (
	"context"
	"fmt"
	"slices"

	"banger/ext4"
	"banger/internal/api"
)

// Disks compares a disk with the one that it was cloned from. Contents are read
// where sizes are equal and the inode has changed since: a kernel cannot write to
// a file and leave inode, generation and change time as they were.
func Disks(ctx context.Context, was, is *ext4.FS, p api.Progress) (Report, error) {
	p.Say(api.PhaseCompare, "reading both disks")
	want, err := readDisk(ctx, was)
	if err != nil {
		return Report{}, err
	}
	got, err := readDisk(ctx, is)
	if err != nil {
		return Report{}, err
	}
	var r report
	r.attributes("/", want.root, got.root)
	pairs := r.trees(want, got)
	out := Report{Paths: int64(len(want.files))}
	pairs = slices.DeleteFunc(pairs, func(one pair) bool { return one.want.size == 0 || one.want.changed == one.got.changed })
	var total int64
	for _, one := range pairs {
		total += one.want.size
	}
	for _, one := range pairs {
		if err := ctx.Err(); err != nil {
			return Report{}, err
		}
		f, err := was.Open(one.path[1:])
		if err != nil {
			return Report{}, fmt.Errorf("read disk: %w", err)
		}
		if err := r.content(is, []pair{one}, f); err != nil {
			return Report{}, err
		}
		out.Bytes += one.want.size
		p.Count(api.PhaseCompare, "", out.Bytes, total)
	}
	out.Differences = r.sorted()
	return out, nil
}
