package kernel

import (
	"encoding/binary"
	"slices"
	"strings"
)

// The index files that libkmod looks names up in (modprobe, udev and systemd
// through it; without them a modprobe finds nothing, whatever modules.dep
// says): a trie with merged edges, all numbers big-endian.
//
//	u32 magic, u32 version, u32 reference to the root
//	node: prefix NUL                          if refPrefix
//	      u8 first, u8 last, u32 ref[...]     if refChildren; 0: no such child
//	      u32 n, n x {u32 priority, value NUL} if refValues
//
// A reference is a file offset with flags that say what the node has. See
// libkmod/libkmod-index.c in kmod.
const (
	indexMagic   = 0xb007f457
	indexVersion = 0x00020001

	refPrefix   = 0x80000000
	refValues   = 0x40000000
	refChildren = 0x20000000
)

// indexEntry is one value of a key. Lower priorities come first.
type indexEntry struct {
	key      string
	priority uint32
	value    string
}

// writeIndex returns the index file of entries. Keys that are not ASCII cannot
// be in one and are left out.
func writeIndex(entries []indexEntry) []byte {
	entries = slices.DeleteFunc(slices.Clone(entries), func(e indexEntry) bool {
		return strings.ContainsFunc(e.key, func(r rune) bool { return r == 0 || r > 127 })
	})
	slices.SortFunc(entries, func(a, b indexEntry) int {
		if c := strings.Compare(a.key, b.key); c != 0 {
			return c
		}
		if a.priority != b.priority {
			return int(a.priority) - int(b.priority)
		}
		return strings.Compare(a.value, b.value)
	})
	w := indexWriter{binary.BigEndian.AppendUint32(nil, indexMagic)}
	w.u32(indexVersion)
	w.u32(0)
	root := w.node(slices.Compact(entries), 0)
	binary.BigEndian.PutUint32(w.buf[8:], root)
	return w.buf
}

type indexWriter struct{ buf []byte }

func (w *indexWriter) u32(v uint32)   { w.buf = binary.BigEndian.AppendUint32(w.buf, v) }
func (w *indexWriter) text(s string)  { w.buf = append(append(w.buf, s...), 0) }
func (w *indexWriter) offset() uint32 { return uint32(len(w.buf)) }

// node writes the node of entries, which are sorted and agree on the first skip
// bytes of their keys, after the nodes below it. It returns its reference.
func (w *indexWriter) node(entries []indexEntry, skip int) uint32 {
	// Sorted: what the first and the last key share, all of them share.
	prefix := ""
	if len(entries) > 0 {
		prefix = commonPrefix(entries[0].key[skip:], entries[len(entries)-1].key[skip:])
	}
	end := skip + len(prefix)
	here := 0 // entries that end at this node
	for here < len(entries) && len(entries[here].key) == end {
		here++
	}
	values, below := entries[:here], entries[here:]

	var children []uint32
	var first, last byte
	if len(below) > 0 {
		first, last = below[0].key[end], below[len(below)-1].key[end]
		children = make([]uint32, int(last)-int(first)+1)
	}
	for len(below) > 0 {
		c, n := below[0].key[end], 0
		for n < len(below) && below[n].key[end] == c {
			n++
		}
		children[c-first] = w.node(below[:n], end+1)
		below = below[n:]
	}

	ref := w.offset()
	if prefix != "" {
		ref |= refPrefix
		w.text(prefix)
	}
	if children != nil {
		ref |= refChildren
		w.buf = append(w.buf, first, last)
		for _, c := range children {
			w.u32(c)
		}
	}
	if len(values) > 0 {
		ref |= refValues
		w.u32(uint32(len(values)))
		for _, v := range values {
			w.u32(v.priority)
			w.text(v.value)
		}
	}
	return ref
}

func commonPrefix(a, b string) string {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return a[:n]
}
