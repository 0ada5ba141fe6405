package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var otherUUID = [16]byte{1, 2, 3, 4, 5, 6, 0x47, 8, 0x89, 10, 11, 12, 13, 14, 15, 16}

// A clone is another file system with the same files, and e2fsck finds nothing.
func TestSetUUID(t *testing.T) {
	t.Parallel()
	w, f := image(t, Options{Size: 10*groupSize + 5*mib, Label: "sixteen bytes ok"})
	files := everything()
	put(t, w, files)
	finish(t, w, f)
	if err := errors.Join(SetUUID(f, otherUUID), SetLabel(f, "clone")); err != nil {
		t.Fatal(err)
	}
	fsck(t, f)
	fsys := must[*FS](t)(Open(f))
	if got := fsys.UUID(); got != otherUUID {
		t.Errorf("UUID = %x, want %x", got, otherUUID)
	}
	if got := fsys.Label(); got != "clone" {
		t.Errorf("label = %q, want %q", got, "clone")
	}
	compare(t, fsys, files)

	for _, g := range []int64{1, 3, 5, 7, 9} {
		sb := make([]byte, superSize)
		must[int](t)(f.ReadAt(sb, g*groupSize))
		if got := [16]byte(sb[sbUUID:]); got != otherUUID {
			t.Errorf("UUID in group %d = %x, want %x", g, got, otherUUID)
		}
		if got := le.Uint16(sb[sbGroupNr:]); int64(got) != g {
			t.Errorf("superblock in group %d says it is of %d", g, got)
		}
	}
	// e2fsck takes a backup for what it is: a copy that restores the primary.
	must[int](t)(f.WriteAt(make([]byte, superSize), superOffset))
	need(t, "e2fsck")
	repair := exec.Command("e2fsck", "-fy", "-b", fmt.Sprint(3*blocksPerGroup), "-B", "4096", f.Name())
	if out, _ := repair.CombinedOutput(); repair.ProcessState.ExitCode() != 1 {
		t.Fatalf("%v: %v\n%s", repair, repair.ProcessState, out)
	}
	fsys = must[*FS](t)(Open(f))
	if got := fsys.UUID(); got != otherUUID {
		t.Errorf("UUID of the restored superblock = %x, want %x", got, otherUUID)
	}
	fsck(t, f)
}

// File systems of mke2fs have their backups elsewhere.
func TestSetUUIDMke2fs(t *testing.T) {
	t.Parallel()
	need(t, "mke2fs")
	for name, options := range map[string][]string{
		"blocks_1k":     {"-b", "1024"},
		"meta_bg":       {"-b", "1024", "-O", "meta_bg,^resize_inode", "-g", "256"},
		"sparse_super2": {"-O", "sparse_super2,^resize_inode"},
		"every_group":   {"-b", "1024", "-O", "^sparse_super,^resize_inode"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := filepath.Join(t.TempDir(), "image")
			tool(t, append(append([]string{"mke2fs", "-q", "-t", "ext4", "-O", "metadata_csum_seed"}, options...), disk, "160M")...)
			f := must[*os.File](t)(os.OpenFile(disk, os.O_RDWR, 0))
			defer f.Close()
			if err := SetUUID(f, otherUUID); err != nil {
				t.Fatal(err)
			}
			fsck(t, f)
			fsys := must[*FS](t)(Open(f))
			backups := fsys.backups()
			told := tool(t, "dumpe2fs", disk)
			if got, want := len(backups), strings.Count(told, "Backup superblock at"); got != want || want == 0 {
				t.Errorf("%d backups, want %d", got, want)
			}
			for _, g := range backups {
				sb := make([]byte, superSize)
				must[int](t)(f.ReadAt(sb, (g*fsys.groupBlocks+fsys.firstBlock)*fsys.blockSize))
				if got := [16]byte(sb[sbUUID:]); got != otherUUID {
					t.Errorf("UUID in group %d = %x, want %x", g, got, otherUUID)
				}
			}
		})
	}
}

func TestSetUUIDMistakes(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		change func(m *memory)
		want   error
	}{
		"no_seed": {func(m *memory) {
			le.PutUint32(m.b[superOffset+sbIncompat:], le.Uint32(m.b[superOffset+sbIncompat:])&^incompatCsumSeed)
			sealSuper(m.b[superOffset:], 0)
		}, errors.ErrUnsupported},
		"unclean": {func(m *memory) { m.b[superOffset+sbIncompat] |= incompatRecover }, ErrUnclean},
		"backup":  {func(m *memory) { m.b[groupSize+sbLabel]++ }, errDamaged},
		"primary": {func(m *memory) { m.b[superOffset+sbLabel]++ }, errDamaged},
	} {
		m := &memory{}
		w := must[*Writer](t)(NewWriter(m, Options{Size: groupSize + 64*mib, NoJournal: true}))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		row.change(m)
		before := bytes.Clone(m.b)
		if err := SetUUID(m, otherUUID); !errors.Is(err, row.want) {
			t.Errorf("%s: SetUUID = %v, want %v", name, err, row.want)
		}
		if !bytes.Equal(m.b, before) {
			t.Errorf("%s: the image has changed", name)
		}
	}
	if err := SetUUID(&memory{}, [16]byte{}); err == nil || !strings.Contains(err.Error(), "zero") {
		t.Errorf("SetUUID of zero = %v", err)
	}
	if err := SetLabel(&memory{}, "seventeen bytes !"); err == nil || !strings.Contains(err.Error(), "longer than 16") {
		t.Errorf("SetLabel of 17 bytes = %v", err)
	}
}
