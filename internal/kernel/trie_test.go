package kernel

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// lookUp finds the values of a key in an index file as libkmod does: from the
// root, prefix by prefix.
func lookUp(b []byte, key string) (values []string, err error) {
	be := binary.BigEndian
	if be.Uint32(b) != 0xb007f457 || be.Uint32(b[4:])>>16 != 2 {
		return nil, fmt.Errorf("bad header % x", b[:8])
	}
	text := func(p []byte) (string, []byte) {
		s, rest, _ := strings.Cut(string(p), "\x00")
		return s, []byte(rest)
	}
	ref := be.Uint32(b[8:])
	for {
		p := b[ref&0x0fffffff:]
		if ref&0x80000000 != 0 {
			var prefix string
			prefix, p = text(p)
			var ok bool
			if key, ok = strings.CutPrefix(key, prefix); !ok {
				return nil, nil
			}
		}
		next := uint32(0)
		if ref&0x20000000 != 0 {
			first, last := p[0], p[1]
			if first > last || last > 127 {
				return nil, fmt.Errorf("children from %d to %d", first, last)
			}
			if key != "" && key[0] >= first && key[0] <= last {
				next = be.Uint32(p[2+4*int(key[0]-first):])
			}
			p = p[2+4*(int(last)-int(first)+1):]
		}
		if key == "" {
			if ref&0x40000000 == 0 {
				return nil, nil
			}
			n := be.Uint32(p)
			p = p[4:]
			for range n {
				var v string
				v, p = text(p[4:])
				values = append(values, v)
			}
			return values, nil
		}
		if next == 0 {
			return nil, nil
		}
		key, ref = key[1:], next
	}
}

func TestWriteIndex(t *testing.T) {
	t.Parallel()
	b := writeIndex([]indexEntry{
		{"once", 9, "later"},
		{"once", 2, "sooner"},
		{"once", 2, "sooner"},
		{"ask", 0, "1"},
		{"ate", 0, "2"},
		{"on", 0, "3"},
		{"one", 0, ""},
		{"naïve", 0, "never"},
	})
	for key, want := range map[string][]string{
		"once": {"sooner", "later"},
		"ask":  {"1"}, "ate": {"2"}, "on": {"3"}, "one": {""},
		"": nil, "o": nil, "onc": nil, "onces": nil, "zebra": nil, "a": nil, "na": nil,
	} {
		got, err := lookUp(b, key)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: got %q, %v, want %q", key, got, err, want)
		}
	}
	empty, err := lookUp(writeIndex(nil), "x")
	if err != nil || empty != nil {
		t.Errorf("empty index: got %q, %v, want nothing", empty, err)
	}
}

// FuzzWriteIndex looks every key up again.
func FuzzWriteIndex(f *testing.F) {
	f.Add("ask ate on once one once")
	f.Add("pci:v*d* pci:v0001d0002* pci:v* p")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ContainsFunc(text, func(r rune) bool { return r == 0 || r > 127 }) {
			t.Skip()
		}
		want := make(map[string][]string)
		var entries []indexEntry
		for i, key := range strings.Fields(text) {
			v := fmt.Sprint(i)
			want[key] = append(want[key], v)
			entries = append(entries, indexEntry{key, uint32(i), v})
		}
		b := writeIndex(entries)
		for key, values := range want {
			for _, k := range []string{key, key + "!"} {
				got, err := lookUp(b, k)
				if err != nil || !slices.Equal(got, want[k]) {
					t.Errorf("%q: got %q, %v, want %q", k, got, err, values)
				}
			}
		}
	})
}
