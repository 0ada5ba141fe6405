package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// patched is an image with some bytes replaced, which can be read only so often.
type patched struct {
	io.ReaderAt
	bytes map[int64]byte
	reads int
}

// maxReads is far more than any reading of the images here takes.
const maxReads = 1 << 20

var errTooMany = errors.New("too many reads: this has no end")

func (p *patched) ReadAt(b []byte, off int64) (int, error) {
	if p.reads++; p.reads > maxReads {
		return 0, errTooMany
	}
	n, err := p.ReaderAt.ReadAt(b, off)
	for at, v := range p.bytes {
		if at >= off && at < off+int64(n) {
			b[at-off] = v
		}
	}
	return n, err
}

// A victim is an image to be damaged, and the offsets of the bytes that matter.
type victim struct {
	image   *memory
	offsets []int64
}

func (v *victim) add(from, n int64) {
	for i := range n {
		v.offsets = append(v.offsets, from+i)
	}
}

// ownVictim is an image of the writer.
func ownVictim(t testing.TB) *victim {
	v := &victim{image: &memory{}}
	w := must[*Writer](t)(NewWriter(v.image, Options{Size: 16 * mib, NoJournal: true}))
	files := append(everything(), want{path: "many", Header: Header{Mode: fs.ModeDir | 0o755}},
		want{path: "pieces", Header: Header{Mode: 0o644}, data: strings.Repeat(noise(4096)+strings.Repeat("\x00", 4096), 400)})
	slices.SortFunc(files, func(a, b want) int { return strings.Compare(order(a), order(b)) })
	for i := range 500 {
		files = append(files, want{path: fmt.Sprintf("many/%020d", i), Header: Header{Mode: 0o644}})
	}
	put(t, w, files)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	v.add(superOffset, superSize)
	v.add(blockSize, descSize)
	v.add(w.lay.inodeTable(0)*blockSize, w.inodesUsed()*inodeSize)
	v.add(w.next*blockSize, (w.blocks.next-w.next)*blockSize)
	return v
}

// foreignVictim is an image of mke2fs. Its files hold next to nothing: what is
// not zero in it matters.
func foreignVictim(t testing.TB, options ...string) *victim {
	need(t, "mke2fs")
	source, name := t.TempDir(), filepath.Join(t.TempDir(), "image")
	files := []string{"a", "sub/b", "sub/sub/c", "sub/" + noiseName(255)}
	for i := range 60 {
		files = append(files, fmt.Sprintf("many/%030d", i))
	}
	for _, name := range files {
		at := filepath.Join(source, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(filepath.Base(name)), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	far := must[*os.File](t)(os.Create(filepath.Join(source, "zeros")))                 // read last
	for _, at := range []int64{1, 11 * kib, 13 * kib, 200 * kib, 300 * kib, 70 * mib} { // mapped at every depth
		must[int](t)(far.WriteAt([]byte("x"), at))
	}
	if err := errors.Join(far.Close(), os.Link(filepath.Join(source, "a"), filepath.Join(source, "linked")),
		os.Symlink("sub/b", filepath.Join(source, "fast")), os.Symlink(strings.Repeat("./", 100)+"a", filepath.Join(source, "slow"))); err != nil {
		t.Fatal(err)
	}
	const id = "00112233-4455-4677-8899-aabbccddeeff"
	tool(t, slices.Concat([]string{"env", "E2FSPROGS_FAKE_TIME=1600000000", "mke2fs", "-q", "-N", "128", "-U", id, "-E", "hash_seed=" + id, "-d", source},
		options, []string{name, "2M"})...)
	v := &victim{image: &memory{must[[]byte](t)(os.ReadFile(name))}}
	const row = 64 // bytes
	for at := int64(superOffset); at+row <= int64(len(v.image.b)); at += row {
		if !bytes.Equal(v.image.b[at:at+row], zeroBlock[:row]) {
			v.add(at, row)
		}
	}
	return v
}

// FuzzDamaged changes bytes of metadata and reads all that is left. Nearly all
// damage would be noticed at once if there were checksums, so there are none.
func FuzzDamaged(f *testing.F) {
	plain := []string{"-O", "^metadata_csum,^has_journal,^resize_inode"}
	victims := []*victim{
		ownVictim(f),
		foreignVictim(f, append(plain, "-t", "ext4", "-b", "1024")...),
		foreignVictim(f, append(plain, "-t", "ext2", "-b", "1024", "-I", "128")...), // mapped by blocks
		foreignVictim(f, append(plain, "-t", "ext4", "-O", "inline_data", "-I", "512")...),
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 400 {
		b := make([]byte, 4*(1+random.IntN(40)))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		f.Add(byte(i), b)
	}
	f.Fuzz(func(t *testing.T, which byte, patches []byte) {
		v := victims[int(which)%len(victims)]
		p := &patched{ReaderAt: v.image, bytes: map[int64]byte{}}
		for ; len(patches) >= 4; patches = patches[4:] {
			at := int(patches[0]) | int(patches[1])<<8 | int(patches[2])<<16
			p.bytes[v.offsets[at%len(v.offsets)]] = patches[3]
		}
		for i, b := range v.image.b[superOffset+sbROCompat : superOffset+sbROCompat+4] {
			p.bytes[int64(superOffset+sbROCompat+i)] = b &^ byte(uint32(roCompatMetadataCsum)>>(8*i))
		}
		fsys, err := Open(p)
		if err != nil {
			return
		}
		if names, _ := walk(fsys); names > maxNames {
			t.Errorf("more than %d names", maxNames)
		}
		// A file of zeros can be as large as a damaged inode says.
		_ = fsys.WriteTar(&limited{8 * mib})
		if p.reads > maxReads {
			t.Error(errTooMany)
		}
	})
}

// limited is where only so many bytes can be written to.
type limited struct{ left int }

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}
