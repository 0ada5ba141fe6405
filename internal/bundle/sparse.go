package bundle

import (
	"bytes"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// block is the smallest hole that is worth one; file systems allocate by it.
const block = 4096

// zeros is compared with, a block at a time.
var zeros [block]byte

func zero(b []byte) bool {
	for len(b) > block {
		if !bytes.Equal(b[:block], zeros[:]) {
			return false
		}
		b = b[block:]
	}
	return bytes.Equal(b, zeros[:len(b)])
}

// writeSparse writes size bytes of r to the empty file f; whole blocks of zeros
// become holes.
func writeSparse(f *os.File, r io.Reader, size int64) error {
	buf := make([]byte, 1<<20)
	for at := int64(0); at < size; {
		b := buf[:min(int64(len(buf)), size-at)]
		if _, err := io.ReadFull(r, b); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if err := writeData(f, b, at); err != nil {
			return err
		}
		at += int64(len(b))
	}
	return f.Truncate(size)
}

// writeData writes the runs of blocks in b that are not zero, each at once.
func writeData(f *os.File, b []byte, at int64) error {
	for len(b) > 0 {
		n := min(len(b), block)
		hole := zero(b[:n])
		for n < len(b) && zero(b[n:min(len(b), n+block)]) == hole {
			n = min(len(b), n+block)
		}
		if !hole {
			if _, err := f.WriteAt(b[:n], at); err != nil {
				return err
			}
		}
		b, at = b[n:], at+int64(n)
	}
	return nil
}

// sparseReader reads a file from its start and does not go to the disk, or
// through the page cache, for holes.
type sparseReader struct {
	f        *os.File
	at, size int64
	data     int64 // at < data: a hole until there
	hole     int64 // data up to there
	read     int64 // of the data, how much was returned
}

func newSparseReader(f *os.File) (*sparseReader, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return &sparseReader{f: f, size: info.Size()}, nil
}

// Read implements [io.Reader].
func (r *sparseReader) Read(p []byte) (int, error) {
	if r.at >= r.size {
		return 0, io.EOF
	}
	if r.at >= r.hole {
		if err := r.find(); err != nil {
			return 0, err
		}
	}
	if r.at < r.data {
		n := int(min(int64(len(p)), r.data-r.at))
		clear(p[:n])
		r.at += int64(n)
		return n, nil
	}
	n, err := r.f.ReadAt(p[:min(int64(len(p)), r.hole-r.at)], r.at)
	r.at, r.read = r.at+int64(n), r.read+int64(n)
	if n > 0 {
		return n, nil
	}
	if err == io.EOF { // shorter than it was
		err = io.ErrUnexpectedEOF
	}
	return 0, err
}

// allData returns how much data there is, before anything is read.
func (r *sparseReader) allData() (total int64, err error) {
	scan := sparseReader{f: r.f, size: r.size}
	for scan.at < scan.size {
		if err := scan.find(); err != nil {
			return 0, err
		}
		total += scan.hole - scan.data
		scan.at = scan.hole
	}
	return total, nil
}

// find looks for the next data and its end (lseek(2), SEEK_DATA). Where the file
// system cannot tell, all is data.
func (r *sparseReader) find() (err error) {
	r.data, err = r.f.Seek(r.at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO): // a hole to the end
		r.data, r.hole = r.size, r.size
		return nil
	case errors.Is(err, unix.EINVAL):
		r.data, r.hole = r.at, r.size
		return nil
	case err != nil:
		return err
	}
	r.hole, err = r.f.Seek(r.data, unix.SEEK_HOLE)
	r.hole = min(r.hole, r.size)
	return err
}
