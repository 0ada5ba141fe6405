package ext4

import (
	"fmt"
	"os"
	"slices"
	"testing"
)

// Groups that hold nothing have no bitmaps, and no inode table is ever to be
// zeroed by the kernel.
func TestLazyGroups(t *testing.T) {
	t.Parallel()
	w, f := image(t, Options{Size: 40 * 128 * mib})
	for i := range inodesPerGroup { // of two groups
		must[Ino](t)(w.Create(Root, fmt.Sprint(i), &Header{Mode: 0o644}))
	}
	finish(t, w, f)
	descs := make([]byte, 40*descSize)
	if _, err := f.ReadAt(descs, blockSize); err != nil {
		t.Fatal(err)
	}
	for g := range int64(40) {
		d := descs[g*descSize:]
		want := uint16(groupInodeZeroed)
		if g >= 2 {
			want |= groupInodeUninit
		}
		// Content and the journal are in group 0; groups 16 and 32 hold the
		// metadata of their neighbours; the last must have a bitmap.
		if !slices.Contains([]int64{0, 16, 32, 39}, g) {
			want |= groupBlockUninit
		}
		if got := le.Uint16(d[gdFlags:]); got != want {
			t.Errorf("group %d: flags = %d, want %d", g, got, want)
		}
		unused := uint16(inodesPerGroup)
		switch g {
		case 0:
			unused = 0
		case 1:
			unused = inodesPerGroup - 11
		}
		if got := le.Uint16(d[gdItableUnusedLo:]); got != unused {
			t.Errorf("group %d: %d inodes unused, want %d", g, got, unused)
		}
		if g == 39 {
			continue // empty and without padding, its bitmap is zeros
		}
		if isZero(t, f, w.lay.blockBitmap(g)) != (want&groupBlockUninit != 0) ||
			isZero(t, f, w.lay.inodeBitmap(g)) != (want&groupInodeUninit != 0) {
			t.Errorf("group %d: bitmaps do not match flags %d", g, want)
		}
	}
}

func isZero(t testing.TB, f *os.File, block int64) bool {
	t.Helper()
	b := make([]byte, blockSize)
	if _, err := f.ReadAt(b, block*blockSize); err != nil {
		t.Fatal(err)
	}
	return [blockSize]byte(b) == zeroBlock
}

func TestJournalSize(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ size, want int64 }{ // both in MiB
		{16, 4},
		{127, 4},
		{128, 16},
		{1023, 16},
		{1024, 32},
		{2047, 32},
		{2048, 64},
		{16<<10 - 1, 64},
		{16 << 10, 128},
		{32 << 10, 256},
		{64 << 10, 512},
		{128<<10 - 1, 512},
		{128 << 10, 1024},
		{1 << 20, 1024},
	} {
		if got := journalBlocks(row.size*mib/blockSize) * blockSize / mib; got != row.want {
			t.Errorf("%d MiB: journal = %d MiB, want %d MiB", row.size, got, row.want)
		}
	}
}

// The journal is in one piece at every size, known from the start or not, but
// where no piece between two backups is large enough.
func TestJournalPlace(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{
		{Size: 16 * mib},
		{Size: 200 * mib},
		{Size: gib},
		{Size: 5 * gib},
		{Size: 16 * gib},
		{Size: 40 * gib},
		{Size: 100 * gib},
		{Size: 200 * gib},
		{MinSize: 1},
		{},
		{MinSize: 20 * gib},
		{MinSize: 256 * gib},
		{MinSize: 300 * gib},
	} {
		w, f := image(t, o)
		put(t, w, []want{{path: "x", Header: Header{Mode: 0o644}, data: noise(mib)}})
		finish(t, w, f)
		if len(w.journal) != 1 {
			t.Errorf("%+v: journal is in %d pieces: %v", o, len(w.journal), w.journal)
		}
	}
	if w := must[*Writer](t)(NewWriter(discard{}, Options{Size: 8 * gib, NoJournal: true})); len(w.journal) != 0 {
		t.Errorf("there is a journal where none was wanted")
	}
}

func TestSizeErrorText(t *testing.T) {
	t.Parallel()
	got := (&SizeError{Size: 1, Blocks: 2, Inodes: 3, Need: 4}).Error()
	if want := "size 1 is too small: 2 blocks of content and 3 inodes need 4 bytes"; got != want {
		t.Errorf("error = %q, want %q", got, want)
	}
}
