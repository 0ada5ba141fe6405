package ext4

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The hash is the one that debugfs computes.
func TestNameHash(t *testing.T) {
	t.Parallel()
	need(t, "debugfs")
	seed := [4]uint32{0x03020100, 0x07060504, 0x0b0a0908, 0x0f0e0d0c}
	for _, name := range []string{
		"a", "ab", "abc", "abcd", "passwd", "libc.so.6", noiseName(31), noiseName(32), noiseName(33), noiseName(64), noiseName(255),
		"ünïcödé", "\xff\x80\x7f", "日本語日本語日本語日本語",
	} {
		out, err := exec.Command("debugfs", "-R",
			"dx_hash -h half_md4 -s 00010203-0405-0607-0809-0a0b0c0d0e0f "+name).Output()
		if err != nil {
			t.Fatal(err)
		}
		major, minor := nameHash(seed, name)
		if got := fmt.Sprintf("is 0x%x (minor 0x%x)", major, minor); !strings.Contains(string(out), got) {
			t.Errorf("%q: %s, want %s", name, got, out)
		}
	}
}

// Directories are linear up to one block and indexed beyond, in one level and
// in two. Every block is reached through the index: e2fsck checks the order.
func TestIndex(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		names   int
		length  int
		blocks  int64
		indexed bool
	}{
		{"one_block", 253, 8, 1, false},
		{"one_more", 254, 8, 3, true},
		{"many", 50_000, 12, 275, true},
		{"long", 2_000, 255, 155, true},
		{"one_level", 13 * 507, 255, 508, true},
		{"two_levels", 13*507 + 1, 255, 510, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w, f := image(t, Options{})
			files := []want{{path: "d", Header: Header{Mode: fs.ModeDir | 0o755}}}
			for i := range row.names {
				files = append(files, want{path: fmt.Sprintf("d/%0*d", row.length, i), Header: Header{Mode: 0o644}})
			}
			put(t, w, files)
			fsys := finish(t, w, f)
			compare(t, fsys, files)
			n := must[*node](t)(fsys.lookup("d", true))
			if got := n.flags&flagIndex != 0; got != row.indexed {
				t.Errorf("indexed = %v, want %v", got, row.indexed)
			}
			if got := n.size / blockSize; got != row.blocks {
				t.Errorf("%d blocks, want %d", got, row.blocks)
			}
		})
	}
}

// e2fsck -D rewrites every directory in its own way; nothing gets lost.
func TestRebuiltByE2fsck(t *testing.T) {
	t.Parallel()
	need(t, "e2fsck")
	w, f := image(t, Options{})
	files := append(everything(), want{path: "d", Header: Header{Mode: fs.ModeDir | 0o755}})
	for i := range 50_000 {
		files = append(files, want{path: fmt.Sprintf("d/%d", i), Header: Header{Mode: 0o644}})
	}
	put(t, w, files)
	finish(t, w, f)
	out, err := exec.Command("e2fsck", "-fyD", f.Name()).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Optimizing directories") {
		t.Fatalf("e2fsck -fyD: %v\n%s", err, out)
	}
	fsck(t, f)
	fsys := must[*FS](t)(Open(f))
	compare(t, fsys, files)
}

// colliding returns n pairs of names of 8 bytes with equal hashes.
func colliding(t testing.TB, n int) (pairs [][2]string) {
	t.Helper()
	seen := map[uint32]string{}
	for i := 0; len(pairs) < n; i++ {
		name := "x" + strconv.FormatInt(int64(i)+1<<34, 36)
		major, _ := nameHash([4]uint32{}, name)
		if other, ok := seen[major]; ok {
			pairs = append(pairs, [2]string{other, name})
		}
		seen[major] = name
	}
	return pairs
}

// acrossLeaves returns names of one directory in which the two of a pair with
// equal hashes are the last of one leaf and the first of the next.
func acrossLeaves(t testing.TB) (names []string, pair [2]string) {
	t.Helper()
	pair = colliding(t, 1)[0]
	limit, _ := nameHash([4]uint32{}, pair[0])
	const perLeaf = leafFill / (direntHead + 8)
	for i, before, after := 0, 0, 0; before < 2*perLeaf-1 || after < 3*perLeaf; i++ {
		name := fmt.Sprintf("%08d", i)
		major, _ := nameHash([4]uint32{}, name)
		if major < limit && before < 2*perLeaf-1 {
			before++
			names = append(names, name)
		} else if major > limit && after < 3*perLeaf {
			after++
			names = append(names, name)
		}
	}
	return append(names, pair[0], pair[1]), pair
}

// A leaf that begins with the hash that ended the one before says so, or the
// kernel does not find its first name.
func TestHashContinues(t *testing.T) {
	t.Parallel()
	names, _ := acrossLeaves(t)
	w, f := image(t, Options{})
	dir := must[Ino](t)(w.Create(Root, "d", &Header{Mode: fs.ModeDir | 0o755}))
	for _, name := range names {
		must[Ino](t)(w.Create(dir, name, &Header{Mode: 0o644}))
	}
	fsys := finish(t, w, f)
	n := must[*node](t)(fsys.node(dir))
	root := must[[]byte](t)(fsys.readBlock(must[[]span](t)(fsys.spans(n))[0].start))
	count := int(binary.LittleEndian.Uint16(root[dxRootCount+2:]))
	continued := 0
	for i := 1; i < count; i++ {
		continued += int(root[dxRootCount+dxEntry*i]) & 1
	}
	if continued != 1 {
		t.Errorf("%d leaves of %d are continued, want 1", continued, count)
	}
}

// Sixteen times the names in a directory take some sixteen times the time; 256
// times and more if each were looked for among the others.
func TestLinearTime(t *testing.T) {
	elapsed := func(n int) time.Duration {
		least := time.Hour
		for range 5 {
			start := cpuTime(t)
			w := must[*Writer](t)(NewWriter(discard{}, Options{NoJournal: true}))
			h := Header{Mode: 0o644}
			for i := range n {
				must[Ino](t)(w.Create(Root, fmt.Sprint(i), &h))
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			least = min(least, cpuTime(t)-start)
		}
		return least
	}
	few, many := elapsed(2_000), elapsed(32_000)
	t.Logf("2,000 names take %v, 32,000 take %v", few, many)
	if ratio := float64(many) / float64(few); ratio > 60 {
		t.Errorf("%.0f times as long, want 60 at most", ratio)
	}
}
