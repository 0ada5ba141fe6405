package rootfs

import (
	"fmt"
	"io"
)

// Limits of Linux, which no tree may exceed: a guest could not use the file.
const (
	maxName             = 255       // bytes of one name; NAME_MAX, limits.h
	maxPath             = 4095      // bytes of a path without its NUL, and of a symlink's target; PATH_MAX, limits.h
	maxLinks            = 40        // symlinks in one resolution; MAXSYMLINKS, include/linux/namei.h
	maxXattrName        = 255       // XATTR_NAME_MAX, limits.h
	maxXattrValue       = 64 << 10  // XATTR_SIZE_MAX, limits.h
	maxXattrList        = 64 << 10  // names with their NULs; XATTR_LIST_MAX, limits.h
	maxID         int64 = 1<<32 - 1 // uid_t and gid_t are 32 bits
	maxMajor            = 1<<12 - 1 // MINORBITS is 20; include/linux/kdev_t.h
	maxMinor            = 1<<20 - 1
)

// maxPAX is the longest PAX header or GNU long name that archive/tar accepts, in bytes.
const maxPAX = 1 << 20

// LimitError says which limit a layer exceeds.
type LimitError struct {
	What   string // is limited: "entries"
	Option string // of [Options]: what would allow more; "" when nothing does
	Max    int64
}

// Error implements error.
func (e *LimitError) Error() string {
	option := e.Option
	if option == "" {
		option = "fixed"
	}
	return fmt.Sprintf("more than the limit of %d %s (%s)", e.Max, e.What, option)
}

// usage is what the layers of a tree have used of its limits.
type usage struct {
	stream   int64 // bytes read
	content  int64 // bytes of files, holes included
	entries  int64
	metadata int64 // bytes
}

func (o *Options) setDefaults() {
	for _, limit := range []struct {
		field *int64
		value int64
	}{
		{&o.MaxBytes, 64 << 30},
		{&o.MaxEntries, 5_000_000},
		{&o.MaxMetadata, 1 << 30},
	} {
		if *limit.field == 0 {
			*limit.field = limit.value
		}
	}
}

// use accounts for entries and bytes of metadata. Nothing is ever given back: a
// layer that replaces its own entries for ever must end as well.
func (t *Tree) use(entries, metadata int64) error {
	t.used.entries += entries
	if t.used.entries > t.opts.MaxEntries {
		return &LimitError{"entries", "MaxEntries", t.opts.MaxEntries}
	}
	t.used.metadata += metadata
	if t.used.metadata > t.opts.MaxMetadata {
		return &LimitError{"bytes of names and attributes", "MaxMetadata", t.opts.MaxMetadata}
	}
	return nil
}

// useContent accounts for a file. The stream's own bytes do not bound it: a few
// bytes of a sparse file can stand for exabytes of zeros.
func (t *Tree) useContent(size int64) error {
	if size > t.opts.MaxBytes-t.used.content {
		return &LimitError{"bytes in files", "MaxBytes", t.opts.MaxBytes}
	}
	t.used.content += size
	return nil
}

// meter counts what is read of a layer. It hides whether the layer can seek:
// archive/tar would seek over what it skips, and a digest would miss it.
type meter struct {
	r io.Reader
	t *Tree
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.t.used.stream += int64(n)
	if m.t.used.stream > m.t.opts.MaxBytes {
		return n, &LimitError{"bytes in layers", "MaxBytes", m.t.opts.MaxBytes}
	}
	return n, err
}
