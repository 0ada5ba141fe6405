package kernel

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"banger/internal/api"
)

// Limits of a package: what it unpacks to, and one file in it.
const (
	maxPackage     = 8 << 30
	maxPackageFile = 1 << 30
)

// arMagic begins an ar archive, and so a Debian package.
const arMagic = "!<arch>\n"

// readDeb calls visit for every entry of a Debian package's file tree, with its
// path cleaned and relative: "boot/vmlinuz-6.1.0". Nothing of the package's
// control part is looked at.
func readDeb(ctx context.Context, r io.Reader, visit func(name string, h *tar.Header, data []byte) error) error {
	member, err := debData(bufio.NewReaderSize(r, 1<<16))
	if err != nil {
		return err
	}
	if closer, ok := member.(io.Closer); ok {
		defer func() { _ = closer.Close() }() // of a reader: frees memory
	}
	limited := &io.LimitedReader{R: member, N: maxPackage}
	t := tar.NewReader(limited)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if limited.N <= 0 || err == nil && h.Size > maxPackageFile {
			return errTooLarge
		}
		if err != nil {
			return fmt.Errorf("read data.tar: %w", err)
		}
		data := make([]byte, h.Size)
		if _, err := io.ReadFull(t, data); err != nil {
			return fmt.Errorf("read %s: %w", h.Name, noEOF(err))
		}
		// Cleaning a rooted path cannot climb out of it.
		if err := visit(path.Clean("/" + h.Name)[1:], h, data); err != nil {
			return err
		}
	}
}

// debData returns the unpacked data.tar of a package: deb(5), an ar archive of
// debian-binary, control.tar and data.tar, the last two maybe compressed.
func debData(r *bufio.Reader) (io.Reader, error) {
	magic := make([]byte, len(arMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != arMagic {
		return nil, fmt.Errorf("not a Debian package: %w", api.ErrInvalid)
	}
	for first := true; ; first = false {
		var head [60]byte // ar(5): name 16, mtime 12, uid 6, gid 6, mode 8, size 10, end 2
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return nil, fmt.Errorf("package has no data.tar: %w", noEOF(err))
		}
		name := strings.TrimRight(string(head[:16]), "/ ")
		size, err := strconv.ParseInt(strings.TrimSpace(string(head[48:58])), 10, 64)
		if err != nil || size < 0 || string(head[58:]) != "`\n" {
			return nil, fmt.Errorf("package has a bad ar header: %w", api.ErrInvalid)
		}
		if first && name != "debian-binary" {
			return nil, fmt.Errorf("not a Debian package: begins with %q: %w", name, api.ErrInvalid)
		}
		if strings.HasPrefix(name, "data.tar") {
			return openMember(name, io.LimitReader(r, size))
		}
		if _, err := io.CopyN(io.Discard, r, size+size&1); err != nil {
			return nil, fmt.Errorf("skip %s: %w", name, noEOF(err))
		}
	}
}

// openMember unpacks a member, by what it begins with and not by its name.
func openMember(name string, r io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(r, 1<<16)
	head, err := b.Peek(8)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, noEOF(err))
	}
	c := codecOf(head)
	if c == nil {
		return b, nil // a plain tar: it begins with a file name
	}
	if c.open == nil {
		return nil, fmt.Errorf("open %s: %s compression: %w", name, c.name, errors.ErrUnsupported)
	}
	u, err := c.open(b)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return u, nil
}
