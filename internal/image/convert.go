package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"banger/ext4"
	"banger/internal/agent"
	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/oci"
	"banger/rootfs"
)

// FormatNumber is the version of the disks that Convert writes: it changes
// whenever the same image and options give other bytes than before, and is part
// of the file system's UUID.
const FormatNumber = 1

// Options say how a disk is made.
type Options struct {
	SizeBytes    int64 // exact; 0: content x 1.25, at least 1 GiB
	NoGuestFiles bool  // the image alone, nothing of ours
	Sync         bool  // durable when ConvertFile returns
	Force        bool  // replace an existing file
	Limits       api.Limits
}

// Disk is what a conversion made.
type Disk struct {
	SizeBytes int64     // apparent
	ModTime   time.Time // of the file
	Added     []api.AddedFile
	Warnings  []api.Warning
	Phases    []api.Phase // how long it took
}

// ConvertFile writes the image as a file system to path: to a temporary file
// beside it, which takes the name when it is complete.
func ConvertFile(ctx context.Context, src *oci.Image, path string, o Options, p api.Progress) (disk Disk, err error) {
	if _, err := os.Lstat(path); err == nil && !o.Force {
		return disk, api.Hint(fmt.Errorf("write %s: %w", path, api.ErrExists), "use --force to replace it")
	}
	if err := room(filepath.Dir(path), src.Layers...); err != nil {
		return disk, explain(err, filepath.Dir(path))
	}
	tmp := fmt.Sprintf("%s.%s.tmp", path, newID())
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return disk, err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			err = errors.Join(explain(err, filepath.Dir(path)), os.Remove(tmp))
		}
	}()
	if disk, err = Convert(ctx, src, f, o, p); err != nil {
		return disk, err
	}
	if o.Sync {
		t := newTimeline()
		p.Say("flush", "flushing to the host's disk")
		if err := f.Sync(); err != nil {
			return disk, err
		}
		t.mark("flush")
		disk.Phases = append(disk.Phases, t.phases...)
	}
	return disk, os.Rename(tmp, path)
}

// Convert writes the image as a file system to f: the layers stream into it one
// after the other, the tree of names is written last. The bytes depend on
// nothing but the image, the options and this build.
func Convert(ctx context.Context, src *oci.Image, f *os.File, o Options, p api.Progress) (disk Disk, err error) {
	var files []agent.File
	if !o.NoGuestFiles {
		// Asked for before the first byte is written: a build without an agent
		// should say so at once.
		if files, err = guest.Files(); err != nil {
			return disk, err
		}
	}
	created := src.Created
	if !created.IsZero() {
		created = ext4.ClampTime(created)
	}
	var out ext4.File = f
	if o.Sync {
		early := newWriteback(f)
		defer early.stop()
		out = early
	}
	id := identity(src, files, o)
	w, err := ext4.NewWriter(out, ext4.Options{Size: o.SizeBytes, UUID: id("uuid"), HashSeed: id("hash seed"), Time: created})
	if err != nil {
		return disk, err
	}

	sums, err := sumUp(src.Layers, p)
	if err != nil {
		return disk, err
	}

	t := newTimeline()
	ctx, cancel := context.WithCancel(ctx)
	fetch := prefetch(ctx, src, sums)
	// What a layer could not be fetched for is the error of reading it.
	defer func() { cancel(); <-fetch }()

	tree := rootfs.New(rootfs.Options{
		Time: created, MaxBytes: o.Limits.Bytes, MaxEntries: o.Limits.Entries, MaxMetadata: o.Limits.MetadataBytes,
	})
	waited, err := applyAll(ctx, tree, src.Layers, w, sums)
	if err != nil {
		return disk, err
	}
	t.mark("convert", waiting(waited), api.Phase{Name: "fetch", Duration: <-fetch})
	p.Say("finish", "writing names and metadata")
	if err := addFiles(tree, files, created, w); err != nil {
		return disk, err
	}
	if err := writeTree(w, tree); err != nil {
		return disk, err
	}
	if err := w.Close(); err != nil {
		return disk, err
	}
	info, err := f.Stat()
	if err != nil {
		return disk, err
	}
	t.mark("finish")
	return Disk{SizeBytes: info.Size(), ModTime: info.ModTime(), Added: added(files), Warnings: warnings(tree), Phases: t.phases}, nil
}

// identity gives the disk names of its own that are the same wherever it is
// made: the hash of all that its bytes depend on.
func identity(src *oci.Image, files []agent.File, o Options) func(purpose string) [16]byte {
	h := sha256.New()
	fmt.Fprintf(h, "banger disk %d\nsource %s %s\nsize %d\n", FormatNumber, src.Digest, src.Platform, o.SizeBytes)
	for _, f := range files {
		fmt.Fprintf(h, "file %q %o %q %x\n", f.Path, f.Mode, f.Link, sha256.Sum256(f.Content))
	}
	all := h.Sum(nil)
	return func(purpose string) (id [16]byte) {
		sum := sha256.Sum256(append([]byte(purpose), all...))
		copy(id[:], sum[:])
		return id
	}
}
