package vm

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"banger/internal/vmm"
)

// followInterval is how often a console that is followed is looked at.
const followInterval = 100 * time.Millisecond

// Logs writes the VM's console since its last start to w; with follow also what
// comes, until the VM has ended. A console of more than a few MiB has lost its
// beginning.
func (h *Host) Logs(ctx context.Context, id string, follow bool, w io.Writer) (err error) {
	l := logReader{path: filepath.Join(h.dir(id), vmm.ConsoleLog)}
	defer func() { err = errors.Join(err, l.close()) }()
	tick := time.NewTicker(followInterval)
	defer tick.Stop()
	for {
		vm, err := h.Status(id) // before reading, so that what the end has left is read too
		if err != nil {
			return err
		}
		if err := l.copy(w); err != nil || !follow || !vm.State.Live() {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// logReader reads a file that is replaced by a new one when it is full.
type logReader struct {
	path string
	file *os.File // nil until there is one
}

// copy writes what is new.
func (l *logReader) copy(w io.Writer) error {
	now, err := os.Open(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if l.file != nil {
		same, err := sameFile(l.file, now)
		if err == nil {
			_, err = io.Copy(w, l.file)
		}
		if err != nil || same {
			return errors.Join(err, now.Close())
		}
		if err := l.file.Close(); err != nil {
			return errors.Join(err, now.Close())
		}
	}
	l.file = now
	_, err = io.Copy(w, now)
	return err
}

func (l *logReader) close() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}

func sameFile(a, b *os.File) (bool, error) {
	x, err := a.Stat()
	if err != nil {
		return false, err
	}
	y, err := b.Stat()
	return os.SameFile(x, y), err
}
