package daemon

import (
	"os"
	"path/filepath"
	"testing"
)

// A daemon that was killed while it gave an image its kernel has left files
// that the image's row does not name; those of the row stay.
func TestCleanHalfAKernel(t *testing.T) {
	d := newTestDaemon(t)
	img := d.pull("web")
	stray := filepath.Join(filepath.Dir(img.RootfsPath), "initrd")
	d.write(stray, []byte("half"))
	if found := d.problems(false); len(found) != 1 {
		t.Errorf("check: %+v, want one problem", found)
	}
	if err := d.images.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stray); !os.IsNotExist(err) {
		t.Errorf("%s: %v, want that it is gone", stray, err)
	}
	d.sound()
}
