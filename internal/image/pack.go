package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"banger/ext4"
	"banger/internal/api"
	"banger/internal/bundle"
)

// PackFile writes the bundle of a disk to path: to a temporary file beside it,
// which takes the name when it is complete. It returns the entry that a catalog
// beside the bundle would have for it. An existing file is replaced only with
// force.
func PackFile(ctx context.Context, path, disk string, m bundle.Manifest, force bool, p api.Progress) (e api.CatalogEntry, err error) {
	if _, err := os.Lstat(path); err == nil && !force {
		return e, api.Hint(fmt.Errorf("write %s: %w", path, api.ErrExists), "use --force to replace it")
	}
	rootfs, err := os.Open(disk)
	if err != nil {
		return e, err
	}
	defer rootfs.Close()
	tmp := fmt.Sprintf("%s.%s.tmp", path, newID())
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return e, err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(explain(err, filepath.Dir(path)), os.Remove(tmp))
		}
	}()
	sum := sha256.New()
	if m, err = bundle.Pack(ctx, io.MultiWriter(f, sum), rootfs, m, p); err != nil {
		return e, err
	}
	info, err := f.Stat()
	if err = errors.Join(err, f.Sync()); err != nil {
		return e, err
	}
	e = bundleEntry(m, api.CatalogFile{URL: filepath.Base(path), SHA256: hex.EncodeToString(sum.Sum(nil)), Size: info.Size()})
	e.Distro = distro(rootfs)
	return e, os.Rename(tmp, path)
}

// DescribeBundle returns the entry that a catalog would have for the bundle at
// path, published as file.
func DescribeBundle(path string, file api.CatalogFile) (e api.CatalogEntry, err error) {
	f, err := os.Open(path)
	if err != nil {
		return e, err
	}
	defer f.Close()
	z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return e, err
	}
	defer z.Close()
	m, err := bundle.Peek(z)
	if err != nil {
		return e, fmt.Errorf("%s: %w", path, err)
	}
	return bundleEntry(m, file), nil
}

func bundleEntry(m bundle.Manifest, file api.CatalogFile) api.CatalogEntry {
	return api.CatalogEntry{Name: m.Name, Arch: m.Arch, KernelRef: m.KernelRef, Bundle: &file}
}

// distro returns what the file system says it is, "" when it does not say.
func distro(rootfs io.ReaderAt) string {
	fsys, err := ext4.Open(rootfs)
	if err != nil {
		return ""
	}
	b, err := fs.ReadFile(fsys, "etc/os-release")
	if err != nil {
		return ""
	}
	return parseOSRelease(b)["ID"]
}
