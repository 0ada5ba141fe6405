package image

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
	"syscall"
	"time"

	"banger/ext4"
	"banger/internal/agent"
	"banger/internal/api"
	"banger/internal/oci"
	"banger/rootfs"
)

// sink lets a tree store content in a file system that is being written.
type sink struct{ w *ext4.Writer }

func (s sink) WriteContent(r io.Reader, size int64) (rootfs.Content, error) {
	return s.w.WriteContent(r, size)
}

// applyAll streams the layers into the tree, base first, and their contents into
// the disk: the bytes on it do not depend on which of them are inflated ahead. It
// returns how long it had to wait for downloads.
func applyAll(ctx context.Context, tree *rootfs.Tree, layers []oci.Layer, w *ext4.Writer, p api.Progress) (waited time.Duration, err error) {
	ahead := &opener{layers: layers}
	defer func() { err = errors.Join(err, ahead.close()) }()
	for _, l := range layers {
		r, err := ahead.next(ctx, p)
		if err != nil {
			return waited, err
		}
		if err := errors.Join(tree.Apply(l.Digest, r, sink{w}), r.Close()); err != nil {
			return waited, err
		}
		waited += r.Waited()
	}
	return waited, nil
}

// prefetch starts to fetch what is not cached, and gives on the channel, which it
// closes, how long that took; 0 when there was nothing to be done, or it failed.
func prefetch(ctx context.Context, src *oci.Image, p api.Progress) <-chan time.Duration {
	done := make(chan time.Duration, 1)
	began := time.Now()
	go func() {
		defer close(done)
		missing := slices.ContainsFunc(src.Layers, func(l oci.Layer) bool {
			cached, err := l.Cached()
			return err != nil || cached < l.Size
		})
		if err := src.Prefetch(ctx, p); err == nil && missing {
			done <- time.Since(began)
		}
	}()
	return done
}

// addFiles puts files on top of the tree, as a last layer would: through links
// such as lib -> usr/lib, owned by root.
func addFiles(tree *rootfs.Tree, files []agent.File, created time.Time, w *ext4.Writer) error {
	for _, f := range files {
		n := &rootfs.Node{Mode: fs.ModeSymlink | 0o777, Target: f.Link, ModTime: created}
		if f.Link == "" {
			content, err := w.WriteContent(strings.NewReader(string(f.Content)), int64(len(f.Content)))
			if err != nil {
				return fmt.Errorf("add %s: %w", f.Path, err)
			}
			n = &rootfs.Node{Mode: fs.FileMode(f.Mode), ModTime: created, Size: int64(len(f.Content)), Content: content}
		}
		if err := tree.Add(f.Path, n); err != nil {
			return fmt.Errorf("add %s: %w", f.Path, err)
		}
	}
	return nil
}

// writeTree writes the names. Hard links are nodes that come up again.
func writeTree(w *ext4.Writer, tree *rootfs.Tree) error {
	if err := w.SetRoot(header(tree.Root)); err != nil {
		return err
	}
	return (&treeWriter{w: w, linked: map[*rootfs.Node]ext4.Ino{}}).directory(ext4.Root, tree.Root, "/")
}

type treeWriter struct {
	w      *ext4.Writer
	linked map[*rootfs.Node]ext4.Ino // nodes of several names that have one already
}

func (t *treeWriter) directory(parent ext4.Ino, dir *rootfs.Node, at string) error {
	for name, n := range dir.Children() {
		if ino, again := t.linked[n]; again {
			if err := t.w.Link(parent, name, ino); err != nil {
				return fmt.Errorf("write %q: %w", path.Join(at, name), err)
			}
			continue
		}
		ino, err := t.w.Create(parent, name, header(n))
		if err != nil {
			return fmt.Errorf("write %q: %w", path.Join(at, name), err)
		}
		if n.IsDir() {
			if err := t.directory(ino, n, path.Join(at, name)); err != nil {
				return err
			}
		} else if n.Nlink() > 1 {
			t.linked[n] = ino
		}
	}
	return nil
}

func header(n *rootfs.Node) *ext4.Header {
	h := &ext4.Header{
		Mode: n.Mode, UID: n.UID, GID: n.GID, ModTime: n.ModTime, Xattrs: n.Xattrs,
		Major: n.Major, Minor: n.Minor, Target: n.Target,
	}
	if c, ok := n.Content.(ext4.Content); ok {
		h.Content = c
	}
	return h
}

// added describes files; an empty list is not nil, which says that nobody knows.
func added(files []agent.File) []api.AddedFile {
	all := make([]api.AddedFile, len(files))
	for i, f := range files {
		all[i] = api.AddedFile{Path: f.Path, Link: f.Link}
		if f.Link == "" {
			sum := sha256.Sum256(f.Content)
			all[i].Mode, all[i].SHA256 = fmt.Sprintf("%04o", f.Mode), hex.EncodeToString(sum[:])
		}
	}
	return all
}

func warnings(tree *rootfs.Tree) []api.Warning {
	var all []api.Warning
	for _, w := range tree.Warnings {
		all = append(all, api.Warning{Kind: string(w.Kind), Layer: w.Layer, Path: api.Text(w.Path), Message: w.Message})
	}
	return all
}

// explain adds to an error of the writer what the user can do about it.
func explain(err error, dir string) error {
	var small *ext4.SizeError
	switch {
	case errors.As(err, &small):
		return api.Hint(err, fmt.Sprintf("use --size %d, or leave --size out", small.Need))
	case errors.Is(err, syscall.ENOSPC):
		var st syscall.Statfs_t
		if syscall.Statfs(dir, &st) != nil {
			return err
		}
		return api.Hint(err, fmt.Sprintf("%s has %d MiB free: make room there, or set BANGER_HOME to a larger disk",
			dir, st.Bavail*uint64(st.Bsize)>>20))
	}
	if allow := allowing(err); allow != "" {
		return api.Hint(err, "if you trust the image, pull or convert it with --limit "+allow)
	}
	return err
}

// allowing returns what raises the limit that err is about, "name=value", or "".
func allowing(err error) string {
	var inTree *rootfs.LimitError
	var inStream *oci.LimitError
	var option string
	var limit int64
	switch {
	case errors.As(err, &inTree):
		option, limit = inTree.Option, inTree.Max
	case errors.As(err, &inStream):
		option, limit = inStream.Option, inStream.Value
	}
	switch option {
	case "MaxBytes", "MaxLayerBytes":
		return fmt.Sprintf("bytes=%dg", max(1, 2*limit>>30))
	case "MaxRatio":
		return fmt.Sprintf("ratio=%d", 10*limit)
	case "MaxEntries":
		return fmt.Sprintf("entries=%d", 2*limit)
	case "MaxMetadata":
		return fmt.Sprintf("metadata=%dg", max(1, 2*limit>>30))
	}
	return ""
}
