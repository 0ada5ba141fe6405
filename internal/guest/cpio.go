package guest

import (
	"fmt"
	"io"
)

// File types and numbers of cpio and of the devices in it.
const (
	typeDir     = 0o040000
	typeFile    = 0o100000
	typeCharDev = 0o020000
	cpioAlign   = 4
)

// cpio writes an archive in the "newc" format that the kernel unpacks;
// Documentation/driver-api/early-userspace/buffer-format.rst. Everything in it
// belongs to root and has no time, so the same files make the same bytes.
type cpio struct {
	w   io.Writer
	n   int64 // bytes written
	ino int
	err error
}

func (c *cpio) dir(name string) { c.entry(name, typeDir|0o755, 0, 0, nil) }

func (c *cpio) file(name string, perm uint32, content []byte) {
	c.entry(name, typeFile|perm, 0, 0, content)
}

func (c *cpio) charDev(name string, perm uint32, major, minor int) {
	c.entry(name, typeCharDev|perm, major, minor, nil)
}

// close ends the archive and returns the first error of all.
func (c *cpio) close() error {
	c.ino = -1
	c.entry("TRAILER!!!", 0, 0, 0, nil)
	return c.err
}

func (c *cpio) entry(name string, mode uint32, major, minor int, content []byte) {
	links := 1
	if mode&typeDir == typeDir {
		links = 2
	}
	c.ino++
	c.write(fmt.Appendf(nil, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		c.ino, mode, 0, 0, links, 0, len(content), 0, 0, major, minor, len(name)+1, 0, name))
	c.pad()
	c.write(content)
	c.pad()
}

func (c *cpio) pad() { c.write(make([]byte, -c.n&(cpioAlign-1))) }

func (c *cpio) write(b []byte) {
	if c.err != nil {
		return
	}
	n, err := c.w.Write(b)
	c.n, c.err = c.n+int64(n), err
}
