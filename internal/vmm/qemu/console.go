package qemu

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"banger/internal/vmm"
)

// maxConsoleLog bounds each of the two files of a console, in bytes.
const maxConsoleLog = 4 << 20

// consoleLog is the file that a console is kept in. Full, it becomes the old
// one and another is begun, so a guest cannot fill the host's disk.
type consoleLog struct {
	path  string
	limit int64
	file  *os.File
	size  int64
}

// rotateConsoleLog puts the log of the last start aside.
func rotateConsoleLog(dir string) error {
	path := filepath.Join(dir, vmm.ConsoleLog)
	if err := os.Rename(path, path+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func openConsoleLog(dir string) (*consoleLog, error) {
	c := &consoleLog{path: filepath.Join(dir, vmm.ConsoleLog), limit: maxConsoleLog}
	return c, c.open()
}

func (c *consoleLog) open() error {
	f, err := os.OpenFile(c.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	c.file, c.size = f, info.Size()
	return nil
}

func (c *consoleLog) close() error { return c.file.Close() }

// copy writes all of r to the log and calls first at its first byte. When the
// log cannot be written it reads on: a guest whose console is stuck is stuck.
func (c *consoleLog) copy(r io.Reader, first func()) error {
	var failed error
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if first != nil {
				first()
				first = nil
			}
			if failed == nil {
				failed = c.write(buf[:n])
			}
		}
		if err != nil {
			return failed
		}
	}
}

func (c *consoleLog) write(p []byte) error {
	if c.size+int64(len(p)) > c.limit {
		if err := errors.Join(os.Rename(c.path, c.path+".1"), c.file.Close(), c.open()); err != nil {
			return err
		}
	}
	n, err := c.file.Write(p)
	c.size += int64(n)
	return err
}
