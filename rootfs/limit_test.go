package rootfs

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// endless is a layer of as many entries as are read.
type endless struct {
	entry func(i int) []byte
	rest  []byte
	count int
	peek  int    // after each so many entries
	used  uint64 // the memory in use is looked at, and this is the most
}

func (e *endless) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		if e.count++; e.peek != 0 && e.count%e.peek == 0 {
			e.used = max(e.used, heap())
		}
		e.rest = e.entry(e.count)
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

func numbered(typeflag byte, format string, i int, edits ...func([]byte)) []byte {
	return block(typeflag, fmt.Sprintf(format, i), 0, edits...)
}

// attacks are entries that cost much memory, each in its own way, and how many
// entries one counts for.
var attacks = []struct {
	name  string
	costs int
	entry func(i int) []byte
}{
	{"files in one directory", 1, func(i int) []byte { return numbered(tar.TypeReg, "d/%08d", i) }},
	{"directories", 1, func(i int) []byte { return numbered(tar.TypeDir, "%08d", i) }},
	{"directories of one file", 2, func(i int) []byte { return numbered(tar.TypeReg, "%08d/f", i) }},
	{"hard links to one file", 1, func(i int) []byte {
		if i == 1 {
			return block(tar.TypeReg, "f", 0)
		}
		return numbered(tar.TypeLink, "%08d", i, at(157, "f"))
	}},
	{"hard links that wait", 1, func(i int) []byte { return numbered(tar.TypeLink, "%08d", i, at(157, "gone")) }},
	{"one name", 1, func(int) []byte { return block(tar.TypeReg, "f", 0) }},
	{"pseudo-links of aufs", 1, func(i int) []byte { return numbered(tar.TypeReg, linkDir+"/%08d", i) }},
	{"attributes", 1, func(i int) []byte {
		return append(pax(fmt.Sprintf("SCHILY.xattr.user.%d=%d", i, i)), numbered(tar.TypeReg, "%08d", i)...)
	}},
	{"warnings", 1, func(i int) []byte { return numbered(tar.TypeReg, "../%08d", i) }},
	{"entries that are skipped", 1, func(i int) []byte { return numbered('V', "%08d", i) }},
}

// TestEntriesAreBounded has layers that never end: the limit ends them, and until
// then no entry takes more memory than [Options] says.
func TestEntriesAreBounded(t *testing.T) {
	const most, each = 20_000, 500
	for _, attack := range attacks {
		t.Run(attack.name, func(t *testing.T) {
			before := heap()
			tree := New(Options{MaxEntries: most})
			r := &endless{entry: attack.entry, peek: most/attack.costs - 10}
			err := tree.Apply("", r, memory{})
			var limit *LimitError
			if !errors.As(err, &limit) || limit.Option != "MaxEntries" {
				t.Errorf("got %v, want the limit of MaxEntries", err)
			}
			metadata := tree.used.metadata
			if used := int64(r.used) - int64(before) - metadata; used > most*each {
				t.Errorf("got %d bytes for each entry, besides %d of metadata, want at most %d", used/most, metadata, each)
			}
			if r.count > most+150 { // which the buffer holds
				t.Errorf("got %d entries read, want %d", r.count, most)
			}
		})
	}
}

// TestWhiteoutsAreBounded has whiteouts that each hide a file in a directory of
// its own, all of which is remembered until the layer ends.
func TestWhiteoutsAreBounded(t *testing.T) {
	const most, each = 10_000, 500
	tree := New(Options{MaxEntries: 3*most + 2})
	lower := &endless{entry: func(i int) []byte { return numbered(tar.TypeReg, "%08d/f", i) }}
	if err := tree.Apply("lower", io.LimitReader(lower, 512*(most+1)), memory{}); err != nil {
		t.Fatal(err)
	}
	before := heap()
	r := &endless{entry: func(i int) []byte { return numbered(tar.TypeReg, "%08d/.wh.f", i) }, peek: most - 10}
	var limit *LimitError
	if err := tree.Apply("", r, memory{}); !errors.As(err, &limit) {
		t.Errorf("got %v, want a limit", err)
	}
	if used := int64(r.used) - int64(before); used > most*each {
		t.Errorf("got %d bytes for each whiteout, want at most %d", used/most, each)
	}
}

// TestMetadataIsBounded has entries that carry as much as they can.
func TestMetadataIsBounded(t *testing.T) {
	const most = 1 << 20
	long := strings.Repeat(strings.Repeat("n", 250)+"/", 16)
	for name, entry := range map[string]func(i int) []byte{
		"names":           func(i int) []byte { return append(pax(fmt.Sprintf("path=%0250d", i)), block(tar.TypeReg, "f", 0)...) },
		"symlink targets": func(i int) []byte { return append(pax("linkpath="+long), numbered(tar.TypeSymlink, "%08d", i)...) },
		"links that wait": func(i int) []byte {
			return append(pax(fmt.Sprintf("path=l/%s%d", long[:3900], i), "linkpath="+long), block(tar.TypeLink, "f", 0)...)
		},
		"pseudo-links": func(i int) []byte {
			return append(pax(fmt.Sprintf("path=%s/%0250d", linkDir, i)), block(tar.TypeReg, "f", 0)...)
		},
		"attributes": func(i int) []byte {
			return append(pax(fmt.Sprintf("SCHILY.xattr.user.a=%060000d", i)), block(tar.TypeReg, "f", 0)...)
		},
		"attributes of one byte": func(i int) []byte {
			return append(pax(fmt.Sprintf("SCHILY.xattr.user.%d=", i)), block(tar.TypeReg, "f", 0)...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := heap()
			tree := New(Options{MaxMetadata: most})
			r := &endless{entry: entry, peek: 500}
			err := tree.Apply("", r, memory{})
			used := int64(max(r.used, heap())) - int64(before)
			var limit *LimitError
			if !errors.As(err, &limit) || limit.Option != "MaxMetadata" {
				t.Errorf("got %v, want the limit of MaxMetadata", err)
			}
			if most := int64(3*most + 500*r.count); used > most {
				t.Errorf("got %d bytes in use after %d entries, want at most %d", used, r.count, most)
			}
			runtime.KeepAlive(tree)
		})
	}
}

// TestHeadersAreBounded has headers that pretend to be of 1 GiB, or never lead to a file.
func TestHeadersAreBounded(t *testing.T) {
	for _, test := range []struct {
		name  string
		first []byte
		entry func(i int) []byte
		want  string
	}{
		{"PAX", block(tar.TypeXHeader, "pax", 1<<30), func(int) []byte { return make([]byte, 512) }, "limit of 1048576 bytes in a header (fixed)"},
		{"global", block(tar.TypeXGlobalHeader, "pax", 1<<30), func(int) []byte { return make([]byte, 512) }, "limit of 1048576 bytes in a header (fixed)"},
		{"GNU name", block(tar.TypeGNULongName, "name", 1<<30), func(int) []byte { return []byte(strings.Repeat("n", 512)) }, "limit of 1048576 bytes in a header (fixed)"},
		{"GNU link", block(tar.TypeGNULongLink, "name", 1<<30), func(int) []byte { return []byte(strings.Repeat("n", 512)) }, "limit of 1048576 bytes in a header (fixed)"},
		{"sparse map", block(tar.TypeGNUSparse, "f", 0, gnuSparse(1<<40), at(482, "\x01")), func(int) []byte {
			b := bytes.Repeat([]byte("00000000001\x0000000000000\x00"), 21)
			return append(b, "\x01\x00\x00\x00\x00\x00\x00\x00"...)
		}, "sparse map too long"},
		{"headers without a file", nil, func(int) []byte { return pax("comment=1") }, "in layers (MaxBytes)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r := &endless{rest: test.first, entry: test.entry}
			err := New(Options{MaxBytes: 1 << 26}).Apply("", r, memory{})
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 1<<28 {
				t.Errorf("allocated %d MiB", used>>20)
			}
		})
	}
}

// TestWarningsAreBounded has an image of very many layers that are warned of.
func TestWarningsAreBounded(t *testing.T) {
	t.Parallel()
	tree := New(Options{})
	stream := archive(t, file("../a", ""), file("../b", ""))
	for range maxAllWarnings {
		if err := tree.Apply("", bytes.NewReader(stream), memory{}); err != nil {
			t.Fatal(err)
		}
	}
	named, summed := 0, 0
	for _, w := range tree.Warnings {
		if w.Path != "" {
			named++
		} else if w.Message == "2 more of this kind" {
			summed++
		}
	}
	if named != maxAllWarnings || summed != maxAllWarnings/2 {
		t.Errorf("got %d warnings and %d sums, want %d and %d", named, summed, maxAllWarnings, maxAllWarnings/2)
	}
}

// TestTenMillionEntries reads layers of that many up to the limit by default.
func TestTenMillionEntries(t *testing.T) {
	if os.Getenv("BANGER_LONG") == "" {
		t.Skip("BANGER_LONG is not set")
	}
	for _, attack := range attacks[:3] {
		start := time.Now()
		r := &endless{entry: attack.entry}
		err := New(Options{}).Apply("", r, memory{})
		var limit *LimitError
		if !errors.As(err, &limit) || r.count > 5_000_200 {
			t.Errorf("%s: got %v after %d entries, want a limit", attack.name, err, r.count)
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		t.Logf("%s: %d entries in %v, %d MiB; %v", attack.name, r.count, time.Since(start).Round(time.Millisecond), m.HeapInuse>>20, err)
	}
}
