package du

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

const mib = 1 << 20

// tree has a file of 1 MiB in a and, as a second name, in b; and one of 1 MiB of
// data in front of a hole in b.
func tree(t *testing.T) (a, b string) {
	t.Helper()
	dir := t.TempDir()
	a, b = filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for _, d := range []string{a, b} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	data := bytes.Repeat([]byte{1}, mib)
	for _, path := range []string{a + "/shared", b + "/sparse"} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(b+"/sparse", 64*mib); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(a+"/shared", b+"/shared"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/", b+"/link"); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// about allows for what a file system needs beside the data.
func about(got, want int64) bool { return got >= want && got <= want+64<<10 }

func TestMeter(t *testing.T) {
	a, b := tree(t)
	var m Meter
	for _, tt := range []struct {
		path                string
		apparent, allocated int64
	}{
		{a, mib, mib},
		{b, 64 * mib, mib}, // the shared file was with a
		{b, 0, 0},
		{filepath.Join(a, "none"), 0, 0},
	} {
		u, err := m.Add(tt.path)
		if err != nil || u.Apparent != tt.apparent || !about(u.Allocated, tt.allocated) {
			t.Errorf("%s: got %+v, %v; want %d and about %d", tt.path, u, err, tt.apparent, tt.allocated)
		}
	}
}

func TestTally(t *testing.T) {
	a, b := tree(t)
	for _, tt := range []struct {
		paths []string
		want  int64
	}{
		{nil, 0},
		{[]string{a}, 0},
		{[]string{b}, mib},
		{[]string{a, b}, 2 * mib},
		{[]string{filepath.Join(a, "none")}, 0},
	} {
		var tally Tally
		var got int64
		for _, path := range tt.paths {
			freed, err := tally.Add(path)
			if err != nil {
				t.Fatal(err)
			}
			got += freed
		}
		if !about(got, tt.want) {
			t.Errorf("%q: got %d, want about %d", tt.paths, got, tt.want)
		}
	}
}
