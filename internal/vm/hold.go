package vm

import (
	"errors"
	"io/fs"
	"path/filepath"

	"banger/internal/api"
)

// Hold keeps a VM that does not run from starting until release is called, and
// returns the path of its disk. [api.ErrInUse] while it runs.
func (h *Host) Hold(id string) (disk string, release func() error, err error) {
	lock, err := acquire(h.dir(id))
	if errors.Is(err, fs.ErrNotExist) {
		err = api.ErrNotFound
	}
	if err != nil {
		return "", nil, err
	}
	return filepath.Join(h.dir(id), diskFile), lock.Close, nil
}
