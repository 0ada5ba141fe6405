package ext4

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// The kernel puts directories into inodes too, in both parts, and mke2fs longer
// symlinks.
func TestInlineOfKernel(t *testing.T) {
	t.Parallel()
	need(t, "mke2fs")
	f := must[*os.File](t)(os.Create(filepath.Join(t.TempDir(), "image")))
	defer f.Close()
	source, target := t.TempDir(), noise(200)
	if err := os.Symlink(target, filepath.Join(source, "link")); err != nil {
		t.Fatal(err)
	}
	tool(t, "mke2fs", "-q", "-t", "ext4", "-O", "inline_data", "-I", "512", "-d", source, f.Name(), "32M")
	_, dir, unmount := mount(t, f, "defaults")
	want := map[string]string{}
	var err error
	for i := range 12 { // of which three fit in the first part
		name := fmt.Sprintf("dir/sub/%d", i)
		want[name] = noise(10 * i)
		err = errors.Join(err, os.MkdirAll(filepath.Join(dir, "dir/sub"), 0o755), os.WriteFile(filepath.Join(dir, name), []byte(want[name]), 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	unmount()
	fsys := must[*FS](t)(Open(f))
	for _, name := range []string{"dir/sub", "dir/sub/11", "link"} {
		n := must[*node](t)(fsys.lookup(name, false))
		if n.flags&flagInline == 0 {
			t.Errorf("%s is not inline", name)
		}
	}
	if got := must[string](t)(fsys.ReadLink("link")); got != target {
		t.Errorf("link leads to %q, want %q", got, target)
	}
	if got := len(must[[]fs.DirEntry](t)(fsys.ReadDir("dir/sub"))); got != len(want) {
		t.Errorf("%d entries, want %d", got, len(want))
	}
	for name, data := range want {
		if got, err := fs.ReadFile(fsys, name); err != nil || string(got) != data {
			t.Errorf("%s has %d bytes, %v, want these %d", name, len(got), err, len(data))
		}
	}
}
