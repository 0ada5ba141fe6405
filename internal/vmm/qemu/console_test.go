package qemu

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/vmm"
)

func TestConsoleLogIsBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, err := openConsoleLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	c.limit = 100
	var firsts int
	if err := c.copy(&slowReader{parts: []string{strings.Repeat("a", 60), strings.Repeat("b", 60), strings.Repeat("c", 30), strings.Repeat("d", 70)}},
		func() { firsts++ }); err != nil {
		t.Fatal(err)
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	if firsts != 1 {
		t.Errorf("first called %d times, want 1", firsts)
	}
	for name, want := range map[string]string{
		vmm.ConsoleLog:        strings.Repeat("d", 70),
		vmm.ConsoleLog + ".1": strings.Repeat("b", 60) + strings.Repeat("c", 30),
	} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// A full disk must not stop the guest: what it writes is read and lost.
func TestConsoleLogReadsOnWhenItCannotWrite(t *testing.T) {
	t.Parallel()
	c, err := openConsoleLog(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	r := &slowReader{parts: []string{"one", "two", "three"}}
	if err := c.copy(r, nil); err == nil {
		t.Error("no error from a log that is closed")
	}
	if len(r.parts) != 0 {
		t.Errorf("left %q unread", r.parts)
	}
}

// slowReader returns one part for each Read.
type slowReader struct{ parts []string }

func (r *slowReader) Read(p []byte) (int, error) {
	if len(r.parts) == 0 {
		return 0, os.ErrClosed
	}
	n := copy(p, r.parts[0])
	r.parts = r.parts[1:]
	return n, nil
}
