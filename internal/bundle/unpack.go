package bundle

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"banger/internal/api"
)

// maxPadding bounds the zeros behind the end of an archive; tar pads to a
// record of 10 KiB, and to at most 1 MiB when asked (-b).
const maxPadding = 1 << 20

// Unpack reads a bundle's uncompressed archive to its end and writes its
// rootfs.ext4 to disk, an empty file, with holes where it is zero. check is called
// with the manifest as soon as it is known, and its error ends all. Of bad
// archives the error is [api.ErrInvalid]; whatever the error, disk is of no use.
func Unpack(r io.Reader, disk *os.File, check func(Manifest) error) (Manifest, error) {
	u := unpacker{disk: disk, check: check}
	err := u.all(r)
	if u.refused != nil {
		return u.manifest, u.refused
	}
	if err != nil {
		return u.manifest, fmt.Errorf("read bundle: %w", err)
	}
	return u.manifest, nil
}

type unpacker struct {
	disk  *os.File
	check func(Manifest) error

	manifest Manifest
	refused  error  // by check
	rootfs   Rootfs // as it was found
	seen     map[string]bool
}

func (u *unpacker) all(r io.Reader) error {
	u.seen = map[string]bool{}
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return damaged(err)
		}
		if err := u.entry(h, archive); err != nil {
			return fmt.Errorf("%.100q: %w", h.Name, err)
		}
	}
	for _, name := range []string{manifestName, rootfsName} {
		if !u.seen[name] {
			return fmt.Errorf("%w: it has no %s", api.ErrInvalid, name)
		}
	}
	return onlyZeros(r)
}

func (u *unpacker) entry(h *tar.Header, r io.Reader) error {
	switch {
	case h.Name != manifestName && h.Name != rootfsName:
		return fmt.Errorf("%w: a bundle holds %s and %s, nothing else", api.ErrInvalid, manifestName, rootfsName)
	case h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeGNUSparse:
		return fmt.Errorf("%w: it is not a regular file (tar type %q)", api.ErrInvalid, h.Typeflag)
	case u.seen[h.Name]:
		return fmt.Errorf("%w: it is there twice", api.ErrInvalid)
	}
	u.seen[h.Name] = true
	if h.Name == manifestName {
		return u.readManifest(h, r)
	}
	return u.readRootfs(h, r)
}

func (u *unpacker) readManifest(h *tar.Header, r io.Reader) (err error) {
	if h.Size > maxManifest {
		return fmt.Errorf("%w: %d bytes, the limit is %d", api.ErrInvalid, h.Size, maxManifest)
	}
	if u.manifest, err = parseManifest(r); err != nil {
		return damaged(err)
	}
	if u.refused = u.check(u.manifest); u.refused != nil {
		return u.refused
	}
	return u.compare()
}

func (u *unpacker) readRootfs(h *tar.Header, r io.Reader) error {
	// Said before the work when the manifest came first, as Pack has it.
	if u.seen[manifestName] && h.Size != u.manifest.Rootfs.Size {
		return fmt.Errorf("%w: it has %d bytes, the manifest says %d", api.ErrInvalid, h.Size, u.manifest.Rootfs.Size)
	}
	sum := sha256.New()
	if err := writeSparse(u.disk, io.TeeReader(r, sum), h.Size); err != nil {
		return damaged(err)
	}
	u.rootfs = Rootfs{SHA256: hex.EncodeToString(sum.Sum(nil)), Size: h.Size}
	return u.compare()
}

// compare holds the file against the manifest once both are there.
func (u *unpacker) compare() error {
	want := u.manifest.Rootfs
	if !u.seen[manifestName] || !u.seen[rootfsName] || u.rootfs == want {
		return nil
	}
	return fmt.Errorf("%w: %s has %d bytes and sha256 %s, the manifest says %d and %s",
		api.ErrInvalid, rootfsName, u.rootfs.Size, u.rootfs.SHA256, want.Size, want.SHA256)
}

// onlyZeros reads the padding behind the end of the archive.
func onlyZeros(r io.Reader) error {
	b := make([]byte, 32<<10)
	for total := 0; ; {
		n, err := r.Read(b)
		if total += n; !zero(b[:n]) || total > maxPadding {
			return fmt.Errorf("%w: there is data behind its end", api.ErrInvalid)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// damaged marks what archive/tar and the end of the data say of a bad archive.
func damaged(err error) error {
	switch {
	case errors.Is(err, tar.ErrHeader), errors.Is(err, tar.ErrFieldTooLong), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: %w", api.ErrInvalid, err)
	}
	return err
}

// Peek reads a bundle's uncompressed archive up to its manifest.
func Peek(r io.Reader) (Manifest, error) {
	u := unpacker{check: func(Manifest) error { return nil }, seen: map[string]bool{}}
	archive := tar.NewReader(r)
	for !u.seen[manifestName] {
		h, err := archive.Next()
		if err == nil && h.Name == manifestName {
			err = u.entry(h, archive)
		}
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: it has no %s", api.ErrInvalid, manifestName)
		}
		if err != nil {
			return u.manifest, fmt.Errorf("read bundle: %w", damaged(err))
		}
	}
	return u.manifest, nil
}
