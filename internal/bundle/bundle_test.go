package bundle

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"banger/ext4"
	"banger/internal/api"
)

// need skips the test when a tool is missing, and fails it when BANGER_REQUIRE
// names that tool or says "all".
func need(t *testing.T, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		required := strings.Split(os.Getenv("BANGER_REQUIRE"), ",")
		if slices.Contains(required, tool) || slices.Contains(required, "all") {
			t.Fatalf("needs %s: %v", tool, err)
		}
		t.Skipf("needs %s: %v", tool, err)
	}
}

const diskSize = 24 << 20

// disk makes a file system with some noise in it, and an agent.
func disk(t *testing.T, noise int64, agent string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "rootfs.ext4"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	w, err := ext4.NewWriter(f, ext4.Options{Size: diskSize, NoJournal: true})
	if err != nil {
		t.Fatal(err)
	}
	add := func(parent ext4.Ino, name string, mode fs.FileMode, r io.Reader, size int64) ext4.Ino {
		h := &ext4.Header{Mode: mode}
		if r != nil {
			if h.Content, err = w.WriteContent(r, size); err != nil {
				t.Fatal(err)
			}
		}
		ino, err := w.Create(parent, name, h)
		if err != nil {
			t.Fatal(err)
		}
		return ino
	}
	add(ext4.Root, "noise", 0o644, rand.NewChaCha8([32]byte{}), noise)
	if agent != "" {
		at := ext4.Root
		for _, name := range []string{"usr", "local", "bin"} {
			at = add(at, name, fs.ModeDir|0o755, nil, 0)
		}
		add(at, "banger-vsock-agent", 0o755, strings.NewReader(agent), int64(len(agent)))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return f
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func empty(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func content(t *testing.T, f *os.File) []byte {
	t.Helper()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func allocated(t *testing.T, f *os.File) int64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(f.Name(), &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

func inflate(t *testing.T, b []byte) []byte {
	t.Helper()
	d, err := zstd.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	out, err := io.ReadAll(d)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func anything(Manifest) error { return nil }

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	const agent = "\x7fELF and so on"
	rootfs := disk(t, 9<<20, agent)
	give := Manifest{
		Name: "web", Arch: "arm64", KernelRef: "debian", SourceDigest: "sha256:12ab",
		Process: api.Process{Cmd: []string{"/bin/sh"}, Env: []string{"A=b"}},
	}
	var packed, again bytes.Buffer
	counted := map[string]api.Event{}
	made, err := Pack(t.Context(), &packed, rootfs, give, func(e api.Event) { counted[e.Phase] = e })
	if err != nil {
		t.Fatal(err)
	}
	for _, phase := range []string{api.PhaseHash, api.PhasePack} {
		if e := counted[phase]; e.Done != e.Total || e.Total == 0 || e.Total >= diskSize {
			t.Errorf("%s: counted %d of %d bytes, want all but the holes in %d", phase, e.Done, e.Total, diskSize)
		}
	}
	want := give
	want.Version, want.AgentVersion = Version, "sha256:"+hexSum([]byte(agent))
	want.Rootfs = Rootfs{SHA256: hexSum(content(t, rootfs)), Size: diskSize}
	if diff := cmp.Diff(made, want); diff != "" {
		t.Errorf("Pack: manifest (-got +want):\n%s", diff)
	}
	out := empty(t)
	checked := 0
	got, err := Unpack(bytes.NewReader(inflate(t, packed.Bytes())), out, func(m Manifest) error {
		checked++
		if info, err := out.Stat(); err != nil || info.Size() != 0 {
			t.Errorf("the manifest came after the file: %v, %v", info, err)
		}
		return nil
	})
	if err != nil || checked != 1 {
		t.Fatalf("Unpack: %v, and %d checks, want 1", err, checked)
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("Unpack: manifest (-got +want):\n%s", diff)
	}
	if !bytes.Equal(content(t, out), content(t, rootfs)) {
		t.Error("rootfs.ext4 is not what was packed")
	}
	if got, most := allocated(t, out), int64(11<<20); got > most {
		t.Errorf("%d bytes allocated, want at most %d: holes were filled", got, most)
	}
	// Another file with the same bytes, but without holes, is the same bundle.
	full, err := os.Create(filepath.Join(t.TempDir(), "full"))
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	if _, err := full.Write(content(t, rootfs)); err != nil {
		t.Fatal(err)
	}
	if _, err := Pack(t.Context(), &again, full, give, nil); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(packed.Bytes(), again.Bytes()) {
		t.Error("packed again it is another bundle")
	}
}

func TestPackWithoutAgent(t *testing.T) {
	t.Parallel()
	m, err := Pack(t.Context(), io.Discard, disk(t, 1, ""), Manifest{Name: "web", Arch: "amd64"}, nil)
	if err != nil || m.AgentVersion != "" {
		t.Errorf("got %+v, %v; want no agent", m, err)
	}
}

func TestPackRefusesWhatIsNoFileSystem(t *testing.T) {
	t.Parallel()
	f := empty(t)
	if err := f.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	if _, err := Pack(t.Context(), io.Discard, f, Manifest{}, nil); err == nil {
		t.Error("packed a file of zeros")
	}
}

type full struct{ left int }

func (f *full) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, syscall.ENOSPC
	}
	return len(p), nil
}

func TestPackOnFullDisk(t *testing.T) {
	t.Parallel()
	if _, err := Pack(t.Context(), &full{left: 4 << 20}, disk(t, 18<<20, ""), Manifest{}, nil); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v, want ENOSPC", err)
	}
}

func TestFramesDoNotDependOnThreads(t *testing.T) {
	t.Parallel()
	in := make([]byte, 5*frameSize/2)
	if _, err := rand.NewChaCha8([32]byte{1}).Read(in[:frameSize]); err != nil {
		t.Fatal(err)
	}
	copy(in[frameSize+1000:], in[:frameSize/2])
	var first []byte
	for _, threads := range []int{1, 2, 5} {
		var out bytes.Buffer
		fw, err := newFrameWriter(&out, threads)
		if err != nil {
			t.Fatal(err)
		}
		for b := in; len(b) > 0; { // pieces of no particular size
			n := min(len(b), 1+len(b)/3)
			if _, err := fw.Write(b[:n]); err != nil {
				t.Fatal(err)
			}
			b = b[n:]
		}
		if err := errors.Join(fw.Close(), fw.Close()); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(inflate(t, out.Bytes()), in) {
			t.Errorf("%d threads: inflated is not what was written", threads)
		}
		if first == nil {
			first = out.Bytes()
		} else if !bytes.Equal(out.Bytes(), first) {
			t.Errorf("%d threads give other bytes than 1", threads)
		}
	}
}

// one is an entry of an archive.
type one struct {
	tar.Header
	body string
}

func archive(t testing.TB, entries ...one) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		h.Size, h.Mode = int64(len(e.body)), 0o644
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func named(name, body string) one { return one{tar.Header{Name: name}, body} }

func manifestOf(rootfs string, change func(*Manifest)) one {
	m := Manifest{Version: 1, Name: "web", Arch: "amd64", Rootfs: Rootfs{SHA256: hexSum([]byte(rootfs)), Size: int64(len(rootfs))}}
	if change != nil {
		change(&m)
	}
	b, _ := json.Marshal(m) // plain data
	return named(manifestName, string(b))
}

func TestHostile(t *testing.T) {
	t.Parallel()
	const data = "the file system"
	rootfs, good := named(rootfsName, data), manifestOf(data, nil)
	link := func(kind byte) one {
		return one{tar.Header{Typeflag: kind, Name: rootfsName, Linkname: "/etc/passwd"}, ""}
	}
	whole := archive(t, good, rootfs)
	tests := []struct {
		name string
		data []byte
		want string // in the error; "" for none
	}{
		{"good", whole, ""},
		{"good_rootfs_first", archive(t, rootfs, good), ""},
		{"good_padded", append(slices.Clone(whole), make([]byte, 10<<10)...), ""},
		{"good_unknown_field", archive(t, named(manifestName, strings.Replace(good.body, "{", `{"future":{"a":[1]},`, 1)), rootfs), ""},
		{"empty", nil, "has no manifest.json"},
		{"no_rootfs", archive(t, good), "has no rootfs.ext4"},
		{"no_manifest", archive(t, rootfs), "has no manifest.json"},
		{"third_file", archive(t, good, rootfs, named("extra", "x")), "nothing else"},
		{"directory", archive(t, one{tar.Header{Typeflag: tar.TypeDir, Name: "rootfs.ext4"}, ""}), "not a regular file"},
		{"parent_directory", archive(t, one{tar.Header{Typeflag: tar.TypeDir, Name: "./"}, ""}, good, rootfs), "nothing else"},
		{"dot_slash", archive(t, good, named("./rootfs.ext4", data)), "nothing else"},
		{"dot_dot", archive(t, good, named("../rootfs.ext4", data)), "nothing else"},
		{"absolute", archive(t, good, named("/rootfs.ext4", data)), "nothing else"},
		{"below", archive(t, good, named("rootfs.ext4/x", data)), "nothing else"},
		{"other_case", archive(t, good, named("ROOTFS.EXT4", data)), "nothing else"},
		{"control_in_name", archive(t, good, one{tar.Header{Name: "rootfs.ext4\n", Format: tar.FormatPAX}, data}), "nothing else"},
		{"symlink", archive(t, good, link(tar.TypeSymlink)), "not a regular file"},
		{"hard_link", archive(t, good, link(tar.TypeLink)), "not a regular file"},
		{"device", archive(t, good, link(tar.TypeBlock)), "not a regular file"},
		{"fifo", archive(t, good, link(tar.TypeFifo)), "not a regular file"},
		{"rootfs_twice", archive(t, good, rootfs, rootfs), "twice"},
		{"manifest_twice", archive(t, good, good, rootfs), "twice"},
		{"wrong_sha", archive(t, good, named(rootfsName, "The file system")), "sha256"},
		{"wrong_sha_rootfs_first", archive(t, named(rootfsName, "The file system"), good), "sha256"},
		{"wrong_size", archive(t, good, named(rootfsName, data+"x")), "16 bytes, the manifest says 15"},
		{"wrong_size_rootfs_first", archive(t, named(rootfsName, data+"x"), good), "16 bytes"},
		{"truncated_manifest", whole[:600], "unexpected EOF"},
		{"truncated_header", whole[:1100], "unexpected EOF"},
		{"truncated_rootfs", whole[:2*512+512+3], "unexpected EOF"},
		{"trailing_data", append(slices.Clone(whole), "more"...), "behind its end"},
		{"trailing_archive", append(slices.Clone(whole), archive(t, named("evil", "x"))...), "behind its end"},
		{"trailing_zeros", append(slices.Clone(whole), make([]byte, maxPadding+1)...), "behind its end"},
		{"garbage", bytes.Repeat([]byte("garbage!"), 200), "invalid tar header"},
		{"manifest_too_large", archive(t, named(manifestName, strings.Repeat(" ", maxManifest+1))), "limit"},
		{"manifest_not_json", archive(t, named(manifestName, "name: web")), "invalid character"},
		{"manifest_and_more", archive(t, named(manifestName, good.body+"{}")), "invalid character"},
		{"version_2", archive(t, manifestOf(data, func(m *Manifest) { m.Version = 2 })), "version 2"},
		{"version_0", archive(t, named(manifestName, "{}")), "version 0"},
		{"short_sha", archive(t, manifestOf(data, func(m *Manifest) { m.Rootfs.SHA256 = "12ab" })), "rootfs.sha256"},
		{"upper_sha", archive(t, manifestOf(data, func(m *Manifest) { m.Rootfs.SHA256 = strings.ToUpper(m.Rootfs.SHA256) }), rootfs), "sha256"},
		{"negative_size", archive(t, manifestOf(data, func(m *Manifest) { m.Rootfs.Size = -1 })), "rootfs.size"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			out := empty(t)
			_, err := Unpack(bytes.NewReader(tt.data), out, anything)
			if tt.want == "" {
				if err != nil || string(content(t, out)) != data {
					t.Errorf("got %q, %v; want %q", content(t, out), err, data)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if !errors.Is(err, api.ErrInvalid) {
				t.Errorf("%v is not ErrInvalid", err)
			}
		})
	}
}

// TestBomb reads what claims to be far larger than its manifest says: it ends
// at the header.
func TestBomb(t *testing.T) {
	t.Parallel()
	var head bytes.Buffer
	w := tar.NewWriter(&head)
	m := manifestOf("small", nil)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeReg, Name: manifestName, Size: int64(len(m.body))},
		{Typeflag: tar.TypeReg, Name: rootfsName, Size: 1 << 50},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Name == manifestName {
			if _, err := io.WriteString(w, m.body); err != nil {
				t.Fatal(err)
			}
		}
	}
	endless := &counter{r: io.MultiReader(&head, zeroReader{})}
	if _, err := Unpack(endless, empty(t), anything); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
	if endless.n > 1<<20 {
		t.Errorf("read %d bytes of it", endless.n)
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func TestCheckEndsIt(t *testing.T) {
	t.Parallel()
	stop := errors.New("not for us")
	out := empty(t)
	_, err := Unpack(bytes.NewReader(archive(t, manifestOf("data", nil), named(rootfsName, "data"))), out, func(Manifest) error { return stop })
	if !errors.Is(err, stop) || len(content(t, out)) != 0 {
		t.Errorf("got %v and %d bytes, want the check's error and none", err, len(content(t, out)))
	}
}

func TestPeek(t *testing.T) {
	t.Parallel()
	m, rootfs := manifestOf("data", nil), named(rootfsName, "data")
	for name, entries := range map[string][]one{"first": {m, rootfs}, "last": {rootfs, m}} {
		if got, err := Peek(bytes.NewReader(archive(t, entries...))); err != nil || got.Name != "web" {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	whole := archive(t, m, rootfs)
	if _, err := Peek(io.MultiReader(bytes.NewReader(whole[:1024]), errorReader{errors.New("read too far")})); err != nil {
		t.Errorf("behind the manifest: %v", err)
	}
	for name, data := range map[string][]byte{
		"empty": nil, "none": archive(t, rootfs), "garbage": bytes.Repeat([]byte("garbage!"), 200),
		"link": archive(t, one{tar.Header{Typeflag: tar.TypeSymlink, Name: manifestName, Linkname: "x"}, ""}),
	} {
		if _, err := Peek(bytes.NewReader(data)); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
}

func TestReadErrorIsNotTheArchives(t *testing.T) {
	t.Parallel()
	broken := errors.New("connection lost")
	whole := archive(t, manifestOf("data", nil), named(rootfsName, "data"))
	for _, n := range []int{0, 100, 600, 1800, len(whole)} {
		r := io.MultiReader(bytes.NewReader(whole[:n]), errorReader{broken})
		if _, err := Unpack(r, empty(t), anything); !errors.Is(err, broken) || errors.Is(err, api.ErrInvalid) {
			t.Errorf("after %d bytes: got %v, want the reader's error", n, err)
		}
	}
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

// TestSparseTar reads what GNU tar makes of files with holes, in both formats
// that it knows.
func TestSparseTar(t *testing.T) {
	t.Parallel()
	need(t, "tar")
	rootfs := disk(t, 100<<10, "")
	dir := filepath.Dir(rootfs.Name())
	m := manifestOf(string(content(t, rootfs)), nil)
	if err := os.WriteFile(filepath.Join(dir, manifestName), []byte(m.body), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"gnu", "posix"} {
		tarball, err := exec.CommandContext(t.Context(), "tar", "-C", dir, "--format="+format, "-S", "-c", rootfsName, manifestName).Output()
		if err != nil {
			t.Fatal(err)
		}
		if len(tarball) > 4<<20 {
			t.Errorf("%s: an archive of %d bytes has no holes", format, len(tarball))
		}
		out := empty(t)
		if _, err := Unpack(bytes.NewReader(tarball), out, anything); err != nil {
			t.Errorf("%s: %v", format, err)
		}
		if !bytes.Equal(content(t, out), content(t, rootfs)) {
			t.Errorf("%s: rootfs.ext4 is not what was packed", format)
		}
	}
}

func TestSparseReader(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 20 {
		f := empty(t)
		for range rnd.IntN(6) {
			if _, err := f.WriteAt([]byte(fmt.Sprint("data ", i)), rnd.Int64N(200<<10)); err != nil {
				t.Fatal(err)
			}
		}
		if rnd.IntN(2) == 0 {
			if err := f.Truncate(rnd.Int64N(300 << 10)); err != nil {
				t.Fatal(err)
			}
		}
		r, err := newSparseReader(f)
		if err != nil {
			t.Fatal(err)
		}
		data, err := r.allData()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if r.read != data {
			t.Errorf("file %d: %d bytes of data were read, and there are %d", i, r.read, data)
		}
		if err != nil || !bytes.Equal(got, content(t, f)) {
			t.Errorf("file %d: got %d bytes, %v; want the %d of the file", i, len(got), err, len(content(t, f)))
		}
	}
}

func TestWriteSparse(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range 20 {
		b := make([]byte, 1+rnd.IntN(3<<20))
		for range rnd.IntN(20) {
			b[rnd.IntN(len(b))] = 1
		}
		f := empty(t)
		if err := writeSparse(f, bytes.NewReader(b), int64(len(b))); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(content(t, f), b) {
			t.Errorf("case %d: the file is not what was written", i)
		}
		if got := allocated(t, f); got > 21*block {
			t.Errorf("case %d: %d bytes allocated for at most 20 blocks", i, got)
		}
	}
}

// FuzzUnpack holds that whatever is accepted is what its manifest says.
func FuzzUnpack(f *testing.F) {
	f.Add(archive(f, manifestOf("data", nil), named(rootfsName, "data")))
	f.Add(archive(f, named(rootfsName, "data"), manifestOf("data", nil)))
	f.Fuzz(func(t *testing.T, data []byte) {
		out := empty(t)
		m, err := Unpack(bytes.NewReader(data), out, anything)
		if err != nil {
			return
		}
		if got := content(t, out); int64(len(got)) != m.Rootfs.Size || hexSum(got) != m.Rootfs.SHA256 {
			t.Errorf("accepted %d bytes with sha256 %s, the manifest says %+v", len(got), hexSum(got), m.Rootfs)
		}
	})
}

func BenchmarkUnpack(b *testing.B) {
	const size = 256 << 20 // of which a quarter is data
	noise := make([]byte, size/4)
	if _, err := rand.NewChaCha8([32]byte{}).Read(noise); err != nil {
		b.Fatal(err)
	}
	body := string(append(noise, make([]byte, size-len(noise))...))
	data := archive(b, manifestOf(body, nil), named(rootfsName, body))
	b.SetBytes(size)
	for b.Loop() {
		f, err := os.CreateTemp(b.TempDir(), "")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Unpack(bytes.NewReader(data), f, anything); err != nil {
			b.Fatal(err)
		}
		f.Close()
		os.Remove(f.Name())
	}
}
