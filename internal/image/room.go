package image

import (
	"fmt"
	"syscall"

	"github.com/docker/go-units"

	"banger/internal/oci"
)

// room fails at once when the file system of dir has no room for what is sure to
// come: the contents of layers take at least what they take compressed, and those
// that are still to be downloaded take that once more where the cache is on the
// same file system.
func room(dir string, layers ...oci.Layer) error {
	var need int64
	for _, l := range layers {
		need += l.Size
	}
	download, cache, err := oci.Missing(layers)
	if err != nil {
		return err
	}
	var here, there syscall.Stat_t
	if download > 0 && syscall.Stat(dir, &here) == nil && syscall.Stat(cache, &there) == nil && here.Dev == there.Dev {
		need += download
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return nil // whoever writes there will tell
	}
	if free := int64(st.Bavail) * st.Bsize; free < need {
		return fmt.Errorf("write to %s: %w: it takes at least %s, and %s are free", dir, syscall.ENOSPC,
			units.BytesSize(float64(need)), units.BytesSize(float64(free)))
	}
	return nil
}
