// Package clone copies disks: the copy is as large as the original seems, but
// takes only the blocks that hold data, or none at all where the file system can
// share them (reflink).
package clone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/api"
)

// Options say how a file is cloned.
type Options struct {
	Size int64 // of the clone, in bytes, when it is larger than the original
	Sync bool  // the clone is on stable storage when File returns
}

// File makes dst, which must not exist, a file that begins with the content of
// src. It shares src's blocks where the file system can (FICLONE), and copies
// them around the holes where not. After an error dst may exist.
func File(ctx context.Context, dst, src string, o Options, p api.Progress) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(dst, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	how := "shares the blocks of " + filepath.Base(src)
	if unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) != nil {
		copied, err := sparseCopy(ctx, out, in, info.Size(), p)
		if err != nil {
			return fmt.Errorf("copy %s: %w", src, err)
		}
		how = fmt.Sprintf("copied %d MiB; this file system cannot share blocks", copied>>20)
	}
	if err := out.Truncate(max(o.Size, info.Size())); err != nil {
		return err
	}
	p.Note(api.PhaseCopy, how)
	if o.Sync {
		return out.Sync()
	}
	return nil
}

// copyChunk is how much is copied between two looks at the context.
const copyChunk = 32 << 20

// sparseCopy copies size bytes of in to the empty file out, but not its holes,
// and returns how many bytes that were.
func sparseCopy(ctx context.Context, out, in *os.File, size int64, p api.Progress) (copied int64, err error) {
	total, err := dataIn(in, size)
	if err != nil {
		return 0, err
	}
	var told time.Time
	for at := int64(0); at < size; {
		start, end, err := nextData(in, at, size)
		if err != nil {
			return copied, err
		}
		for start < end {
			if err := ctx.Err(); err != nil {
				return copied, err
			}
			n, err := copyRange(out, in, start, min(end-start, copyChunk))
			if err != nil {
				return copied, err
			}
			start, copied = start+n, copied+n
			if now := time.Now(); copied == total || now.Sub(told) >= progressPeriod {
				told = now
				p.Count(api.PhaseCopy, "", copied, total)
			}
		}
		at = end
	}
	return copied, nil
}

// progressPeriod is the least time between two reports.
const progressPeriod = 200 * time.Millisecond

// dataIn returns how many of the file's first size bytes are in no hole.
func dataIn(f *os.File, size int64) (total int64, err error) {
	for at := int64(0); at < size; {
		start, end, err := nextData(f, at, size)
		if err != nil {
			return 0, err
		}
		total, at = total+end-start, end
	}
	return total, nil
}

// nextData returns the first stretch of data at or after at; an empty one at
// size when only a hole is left.
func nextData(f *os.File, at, size int64) (start, end int64, err error) {
	start, err = unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO): // lseek(2): beyond the last data
		return size, size, nil
	case errors.Is(err, unix.EINVAL): // a file system that does not know holes
		return at, size, nil
	case err != nil:
		return 0, 0, os.NewSyscallError("lseek", err)
	}
	end, err = unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
	return min(start, size), min(end, size), os.NewSyscallError("lseek", err)
}

// copyRange copies up to n bytes at the same offset of both files; within the
// kernel where it can.
func copyRange(out, in *os.File, at, n int64) (int64, error) {
	from, to := at, at
	for {
		done, err := unix.CopyFileRange(int(in.Fd()), &from, int(out.Fd()), &to, int(n), 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err == nil && done > 0:
			return int64(done), nil
		case err == nil || errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) ||
			errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPERM):
			// copy_file_range(2) may decline for reasons of its own.
			done, err := io.Copy(io.NewOffsetWriter(out, at), io.NewSectionReader(in, at, n))
			if err == nil && done < n {
				err = io.ErrUnexpectedEOF // the original is being cut
			}
			return done, err
		default:
			return 0, os.NewSyscallError("copy_file_range", err)
		}
	}
}
