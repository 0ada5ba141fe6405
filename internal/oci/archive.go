package oci

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"banger/internal/api"
)

// archive is a tar with the files of an image: a layout, or what `docker save`
// writes. One that is stored as a plain tar is read in place; of others, and of
// streams, each file is put into the cache by its digest.
type archive struct {
	path    string // for errors; where it is read in place
	members map[string]member
}

// member is a regular file of an archive, or a link to one.
type member struct {
	link   string // the name of another
	offset int64  // of its content in the archive
	size   int64
	cached string // its path in the cache
}

// maxMembers bounds the memory that an archive takes.
const maxMembers = 100_000

// openArchive looks into an archive.
func openArchive(ctx context.Context, name string, o Options) (*archive, error) {
	r, err := fileBlob(name).open(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	f := r.(fileReader).File
	plain, err := isPlain(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if plain {
		return indexArchive(f)
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	o.Progress.Say(api.PhaseUnpack, "unpacking "+name+" into the cache")
	stream, err := inflate(&meteredReader{ctx, f, newMeter(o.Progress, api.PhaseUnpack, "", fi.Size())})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer stream.Close()
	return importArchive(ctx, name, stream, o)
}

// isPlain says whether a file is a tar as it is.
func isPlain(f io.ReaderAt) (bool, error) {
	// magic, at 257; POSIX.1-2024, pax, "ustar Interchange Format".
	magic := make([]byte, 5)
	_, err := f.ReadAt(magic, 257)
	if err == io.EOF { // too short
		return false, nil
	}
	return string(magic) == "ustar", err
}

// indexArchive finds where the files of a plain tar are, seeking over their
// contents.
func indexArchive(f *os.File) (*archive, error) {
	a := &archive{path: f.Name(), members: map[string]member{}}
	err := a.each(f, func(h *tar.Header, _ io.Reader) (member, error) {
		at, err := f.Seek(0, io.SeekCurrent) // archive/tar reads no further than it must
		return member{offset: at, size: h.Size}, err
	})
	return a, err
}

// importArchive puts the files of a tar stream into the cache.
func importArchive(ctx context.Context, name string, stream io.Reader, o Options) (*archive, error) {
	c, err := openCache(o.CacheDir)
	if err != nil {
		return nil, err
	}
	a := &archive{path: name, members: map[string]member{}}
	err = a.each(stream, func(h *tar.Header, content io.Reader) (member, error) {
		if h.Size > o.MaxLayerBytes {
			return member{}, &LimitError{Option: "MaxLayerBytes", Value: h.Size, Max: o.MaxLayerBytes}
		}
		d, err := c.add(ctx, content, h.Size)
		return member{cached: c.path(d), size: d.Size}, err
	})
	return a, err
}

// SchemeOf says how to refer to a tar by what is in it: "docker-archive",
// "oci-archive", or "tar" for a root file system, or anything else.
func SchemeOf(name string) string {
	f, err := os.Open(name)
	if err != nil {
		return "tar"
	}
	defer f.Close()
	if plain, err := isPlain(f); err != nil || !plain {
		return "tar"
	}
	a, err := indexArchive(f)
	if err != nil {
		return "tar" // what is wrong with it is found by who reads it
	}
	has := func(name string) bool { _, ok := a.members[name]; return ok }
	layout := has("oci-layout") && has("index.json")
	layers := slices.ContainsFunc(slices.Collect(maps.Keys(a.members)), func(name string) bool { return path.Base(name) == "layer.tar" })
	switch {
	case has("manifest.json") && (layout || layers): // since Docker 25 it is a layout, too
		return "docker-archive"
	case layout:
		return "oci-archive"
	}
	return "tar"
}

// each calls found for each regular file of a tar stream.
func (a *archive) each(stream io.Reader, found func(*tar.Header, io.Reader) (member, error)) error {
	for r := tar.NewReader(stream); ; {
		h, err := r.Next()
		if err == io.EOF { //nolint:errorlint // of the archive, not of what is below it
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", a.path, err)
		}
		var m member
		name := path.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			m, err = found(h, r)
		case tar.TypeSymlink: // Docker's for a layer that several images have
			m.link = path.Join(path.Dir(name), h.Linkname)
		case tar.TypeLink:
			m.link = path.Clean(h.Linkname)
		default:
			continue
		}
		if err == nil && len(a.members) == maxMembers {
			err = fmt.Errorf("%w: more than %d files", api.ErrInvalid, maxMembers)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", a.path, err)
		}
		a.members[name] = m
	}
}

// find returns the file of that name, through links.
func (a *archive) find(name string) (member, error) {
	m, ok := a.members[path.Clean(name)]
	for hops := 0; ok && m.link != "" && hops < 10; hops++ {
		m, ok = a.members[m.link]
	}
	if !ok || m.link != "" {
		return m, fmt.Errorf("%s: no file %s in it: %w", a.path, name, api.ErrNotFound)
	}
	return m, nil
}

// read returns a small file.
func (a *archive) read(ctx context.Context, name string) ([]byte, error) {
	m, err := a.find(name)
	if err != nil {
		return nil, err
	}
	r, err := a.blobOf(m).open(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return readAll(r)
}

// blob implements files.
func (a *archive) blob(name string) blob {
	m, err := a.find(name)
	if err != nil {
		return noBlob{err}
	}
	return a.blobOf(m)
}

func (a *archive) blobOf(m member) blob {
	if m.cached != "" {
		return fileBlob(m.cached)
	}
	return sectionBlob{fileBlob(a.path), m.offset, m.size}
}

// sectionBlob is a part of a file of the user's.
type sectionBlob struct {
	fileBlob
	offset, size int64
}

func (b sectionBlob) open(ctx context.Context) (blobReader, error) {
	r, err := b.fileBlob.open(ctx)
	if err != nil {
		return nil, err
	}
	return sectionReader{r, io.NewSectionReader(r.(fileReader), b.offset, b.size)}, nil
}

// sectionReader reads a part of what it is otherwise.
type sectionReader struct {
	blobReader
	part io.Reader
}

func (r sectionReader) Read(p []byte) (int, error) { return r.part.Read(p) }

// noBlob is a file that is not there.
type noBlob struct{ err error }

func (b noBlob) fetch(context.Context, api.Progress) error { return b.err }
func (b noBlob) open(context.Context) (blobReader, error)  { return nil, b.err }

// Keep puts what r holds into the cache and returns the file's path there. It
// stays until it is used least, as all in the cache: see [Hold].
func Keep(ctx context.Context, r io.Reader, o Options) (string, error) {
	o = o.withDefaults()
	c, err := openCache(o.CacheDir)
	if err != nil {
		return "", err
	}
	o.Progress.Say(api.PhaseCopy, "reading standard input")
	d, err := c.add(ctx, r, 0)
	return c.path(d), err
}

// add puts a stream of unknown digest into the cache. need is how large it will
// be, for errors.
func (c cache) add(ctx context.Context, r io.Reader, need int64) (d v1.Descriptor, err error) {
	// Until its digest is known it is a partial blob of another.
	var some [sha256.Size]byte
	rand.Read(some[:]) // never fails (crypto/rand)
	d.Digest = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(some[:])}
	f, err := c.lock(ctx, d, func() {})
	if err != nil {
		return d, err
	}
	defer func() {
		os.Remove(f.Name()) // under its own name it is not there any more
		_ = unlock(f)       // what had to be durable has been synced
	}()
	sum := sha256.New()
	buf := make([]byte, chunkSize)
	for err == nil {
		var n int
		n, err = r.Read(buf)
		if _, werr := f.Write(buf[:n]); werr != nil {
			return d, c.writeError(f, werr, max(0, need-d.Size))
		}
		sum.Write(buf[:n])
		d.Size += int64(n)
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}
	if err != io.EOF { //nolint:errorlint // the end, not an error about one
		return d, err
	}
	d.Digest.Hex = hex.EncodeToString(sum.Sum(nil))
	if ok, err := c.has(d); ok || err != nil {
		return d, err
	}
	return d, c.commit(f, d)
}

func (a *archive) String() string { return a.path }
