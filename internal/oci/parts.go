package oci

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A blob of at least rangedParts parts is fetched by ranges, over several
// connections at once. Parts are fetched in their order, so that readers can
// follow: at four connections of 16 MiB they are at most 64 MiB behind, and a
// request, with its redirect, is a few percent of the time that its part takes
// at 10 MB/s.
const (
	defaultPartSize = 16 << 20
	rangedParts     = 4
)

// part is a range of a blob that one request asks for.
type part struct {
	start, end int64 // end is behind the last byte
	done       int64 // bytes from start on that the file has
	taken      bool  // somebody fetches it
}

// open says whether somebody may take it.
func (p part) open() bool { return !p.taken && p.done < p.end-p.start }

// plan cuts a blob into parts: one, when it is not worth more.
func plan(size, partSize int64) []part {
	if size < rangedParts*partSize {
		return []part{{end: size}}
	}
	var parts []part
	for at := int64(0); at < size; at += partSize {
		parts = append(parts, part{start: at, end: min(at+partSize, size)})
	}
	return parts
}

func doneOf(parts []part) (n int64) {
	for _, p := range parts {
		n += p.done
	}
	return n
}

// The partial file of a blob of one part has that part's bytes and no others. Of
// several parts it has a record behind the blob's end, which says how much of
// each part is there: the mark, and numbers of 8 bytes, big endian: the size of
// a part, then for each part its bytes done. It may say less than there is, and
// after a power cut more: then the digest is wrong, and the download starts over.
const recordMark = "bgrparts"

func recordSize(parts []part) int64 { return int64(len(recordMark) + 8 + 8*len(parts)) }

// record returns all of a record.
func record(parts []part) []byte {
	rec := binary.BigEndian.AppendUint64([]byte(recordMark), uint64(parts[0].end))
	for _, p := range parts {
		rec = binary.BigEndian.AppendUint64(rec, uint64(p.done))
	}
	return rec
}

// noteDone brings a record up to date on one part.
func noteDone(f *os.File, parts []part, i int) error {
	at := parts[len(parts)-1].end + int64(len(recordMark)) + 8 + 8*int64(i)
	_, err := f.WriteAt(binary.BigEndian.AppendUint64(nil, uint64(parts[i].done)), at)
	return err
}

// keptParts returns the parts of a blob, with what a partial file has of them. A
// file that is not as we write it has nothing.
func keptParts(f *os.File, size, partSize int64) ([]part, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look into partial blob: %w", err)
	}
	parts := plan(size, partSize)
	if fi.Size() <= size { // its first bytes
		for i := range parts {
			p := &parts[i]
			p.done = min(max(0, fi.Size()-p.start), p.end-p.start)
		}
		return parts, nil
	}
	rec := make([]byte, recordSize(parts))
	if len(parts) == 1 || fi.Size() != size+int64(len(rec)) {
		return parts, nil
	}
	if _, err := f.ReadAt(rec, size); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("look into partial blob: %w", err)
	}
	kept := plan(size, partSize)
	for i := range kept {
		n := binary.BigEndian.Uint64(rec[len(recordMark)+8+8*i:])
		kept[i].done = int64(min(n, uint64(kept[i].end-kept[i].start)))
	}
	if string(rec[:len(recordMark)]) != recordMark || binary.BigEndian.Uint64(rec[len(recordMark):]) != uint64(partSize) {
		return parts, nil
	}
	return kept, nil
}

// missing returns how many bytes of the blob are still to be downloaded.
func (c cache) missing(d v1.Descriptor, partSize int64) (int64, error) {
	if ok, err := c.has(d); ok || err != nil {
		return 0, err
	}
	f, err := os.Open(c.partial(d))
	if errors.Is(err, fs.ErrNotExist) {
		return d.Size, nil
	} else if err != nil {
		return 0, fmt.Errorf("look into partial blob: %w", err)
	}
	defer f.Close()
	if err := c.use(f); errors.Is(err, fs.ErrNotExist) {
		return d.Size, nil
	} else if err != nil {
		return 0, fmt.Errorf("look into partial blob: %w", err)
	}
	parts, err := keptParts(f, d.Size, partSize)
	return d.Size - doneOf(parts), err
}
