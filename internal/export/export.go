// Package export makes archives of disks: [Tar] writes the tree as one tar, and
// [OCI] an OCI image layout in a tar, which skopeo, podman and banger read. The
// same disk gives the same bytes.
package export

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"banger/ext4"
	"banger/internal/api"
)

// A Source is the disk to export.
type Source struct {
	Disk  *ext4.FS
	Image api.Image // what it is; the zero value when nobody knows

	// Without are files of ours to leave out, where they are still as we put them
	// there; directories that are there for nothing else go with them. What they
	// have replaced does not come back.
	Without []api.AddedFile
}

// Tar writes the tree as a tar archive, as [ext4.FS.WriteTar] does.
func Tar(ctx context.Context, w io.Writer, s Source, p api.Progress) error {
	out, err := s.leaveOut()
	if err != nil {
		return err
	}
	total, err := contents(s.Disk, out)
	if err != nil {
		return err
	}
	m := &meter{ctx: ctx, w: w, progress: p, total: total}
	if err := s.Disk.WriteTarFunc(m, func(p string) bool { return !out[p] }); err != nil {
		return err
	}
	m.done = m.total
	m.report()
	return nil
}

// contents returns the bytes of all files but those left out.
func contents(disk *ext4.FS, out map[string]bool) (total int64, err error) {
	seen := map[ext4.Ino]bool{}
	err = fs.WalkDir(disk, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || out[p] {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		s := info.Sys().(*ext4.Stat) //nolint:forcetypeassert // what it promises
		if s.Links == 1 || !seen[s.Ino] {
			seen[s.Ino] = s.Links > 1
			total += s.Size
		}
		return nil
	})
	return total, err
}

// leaveOut returns the paths of what is to be left out.
func (s Source) leaveOut() (map[string]bool, error) {
	out := map[string]bool{}
	for _, f := range s.Without {
		at, err := real(s.Disk, f.Path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path, err)
		}
		if same, err := isOurs(s.Disk, at, f); err != nil {
			return nil, err
		} else if !same {
			continue
		}
		out[at] = true
		for dir := path.Dir(at); dir != "."; dir = path.Dir(dir) {
			if only, err := s.holdsOnly(dir, out); err != nil {
				return nil, err
			} else if !only {
				break
			}
			out[dir] = true
		}
	}
	return out, nil
}

// isOurs says whether a file is as we put it there.
func isOurs(disk *ext4.FS, at string, f api.AddedFile) (bool, error) {
	info, err := disk.Lstat(at)
	if err != nil {
		return false, err
	}
	if f.Link != "" {
		target, err := disk.ReadLink(at)
		return err == nil && target == f.Link, nil
	}
	if !info.Mode().IsRegular() {
		return false, nil
	}
	file, err := disk.Open(at)
	if err != nil {
		return false, err
	}
	defer file.Close()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return false, err
	}
	return hex.EncodeToString(h.Sum(nil)) == f.SHA256, nil
}

// holdsOnly says whether a directory is one that we made, and has nothing in it
// but what is left out: 0755 of root, from when the image was made, as conversion
// makes directories that no layer has.
func (s Source) holdsOnly(dir string, out map[string]bool) (bool, error) {
	created := s.Image.Source.Created
	if created.IsZero() {
		created = time.Unix(0, 0)
	}
	info, err := s.Disk.Lstat(dir)
	if err != nil {
		return false, err
	}
	st := info.Sys().(*ext4.Stat) //nolint:forcetypeassert // what it promises
	if st.Mode != fs.ModeDir|0o755 || st.UID != 0 || st.GID != 0 || len(st.Xattrs) > 0 || !st.ModTime.Equal(ext4.ClampTime(created)) {
		return false, nil
	}
	entries, err := s.Disk.ReadDir(dir)
	if err != nil {
		return false, err
	}
	return !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !out[path.Join(dir, e.Name())] }), nil
}

// real returns where a path leads, without symlinks in its directories.
func real(disk *ext4.FS, p string) (string, error) {
	at, rest := ".", strings.Split(p, "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, part)
		info, err := disk.Lstat(next)
		if err != nil {
			return "", err
		}
		if info.Mode().Type() != fs.ModeSymlink || len(rest) == 0 {
			at = next
			continue
		}
		if links++; links > 40 {
			return "", errors.New("too many symbolic links")
		}
		target, err := disk.ReadLink(next)
		if err != nil {
			return "", err
		}
		if strings.HasPrefix(target, "/") {
			at = "."
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at, nil
}

// meter counts what is written, and ends with its context.
type meter struct {
	ctx         context.Context //nolint:containedctx // a Writer is given none
	w           io.Writer
	progress    api.Progress
	done, total int64
	last        time.Time
}

func (m *meter) Write(b []byte) (int, error) {
	if m.ctx.Err() != nil {
		return 0, context.Cause(m.ctx)
	}
	n, err := m.w.Write(b)
	m.done += int64(n)
	if now := time.Now(); now.Sub(m.last) >= 200*time.Millisecond {
		m.last = now
		m.report()
	}
	return n, err
}

func (m *meter) report() {
	if m.total > 0 {
		m.progress.Count(api.PhaseExport, "", min(m.done, m.total), m.total) // headers do not count
	}
}
