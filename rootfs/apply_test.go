package rootfs

import (
	"archive/tar"
	"bytes"
	"compress/bzip2"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"
)

// testdata returns the directory of archives that come with archive/tar.
func testdata(t *testing.T) string {
	t.Helper()
	dir := testdataDir()
	_, err := os.Stat(dir)
	need(t, "goroot", err == nil)
	return dir
}

func testdataDir() string {
	return filepath.Join(runtime.GOROOT(), "src", "archive", "tar", "testdata") //nolint:staticcheck // tests run where they are built
}

func openTestdata(t *testing.T, path string) io.Reader {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	switch filepath.Ext(path) {
	case ".bz2":
		return bzip2.NewReader(bytes.NewReader(b))
	case ".base64":
		return base64.NewDecoder(base64.StdEncoding, bytes.NewReader(b))
	}
	return bytes.NewReader(b)
}

// glance is a sink that keeps only the beginning of a file, for files of hundreds of megabytes.
type glance struct{}

func (glance) WriteContent(r io.Reader, size int64) (Content, error) {
	start, err := io.ReadAll(io.LimitReader(r, 100))
	if err != nil {
		return nil, err
	}
	rest, err := io.Copy(io.Discard, r)
	if err == nil && int64(len(start))+rest != size {
		err = fmt.Errorf("got %d bytes, want %d", int64(len(start))+rest, size)
	}
	return string(start), err
}

// TestArchiveTestdata applies every archive that archive/tar is tested with:
// each is the tree or the error that is named here, or a tree with a file.
func TestArchiveTestdata(t *testing.T) {
	t.Parallel()
	const malformed = "error: invalid tar header"
	wants := map[string]string{
		"gnu-long-nul.tar":              `0123456789 644 "" @1000:1000 t=1486082191.000000000`,
		"gnu-sparse-big.tar.base64":     "error: bytes in files",
		"gnu-sparse-many-zeros.tar.bz2": "error: sparse map too long",
		"hardlink.tar": `file.txt 644 "Slartibartfast\n" @1000:100 t=1425484303.000000000 links=2
			hard.txt = file.txt`,
		"hdr-only.tar": `badlink -> missing @319973:5000 t=1442274044.000000000
			dir/ 750 @319973:5000
			fifo fifo 640 @319973:5000 t=1442273806.000000000
			file 640 "The quick brown fox jumped over the lazy dog!\n" @319973:5000 t=1442273747.000000000 links=2
			hardlink = file
			null char 1:3 666 @319973:5000 t=1442264573.000000000
			sda block 8:0 660 @319973:5000 t=1442264573.000000000
			symlink -> file @319973:5000 t=1442273756.000000000`,
		"issue10968.tar":             malformed,
		"issue11169.tar":             malformed,
		"issue12435.tar":             malformed,
		"neg-size.tar.base64":        malformed,
		"nil-uid.tar":                `P1050238.JPG.log 664 "44,44,POWERON\x00" t=1365454838.000000000`,
		"pax-bad-hdr-file.tar":       malformed,
		"pax-bad-hdr-large.tar.bz2":  "error: limit of 1048576 bytes in a header",
		"pax-bad-mtime-file.tar":     malformed,
		"pax-nul-path.tar":           malformed,
		"pax-nul-xattrs.tar":         malformed,
		"pax-path-hdr.tar":           "", // it ends before the file
		"pax-sparse-big.tar.base64":  "error: bytes in files",
		"ustar-file-devs.tar":        `file 644 ""`,
		"writer-big-long.tar.base64": "error: bytes in files",
		"writer-big.tar":             "error: bytes in files",
		"xattrs.tar": `small.txt 644 "Kilts" @1000:10 t=1386065770.448252320 {user.key="value"} {user.key2="value2"}
			small2.txt 644 "Google.com\n" @1000:10 t=1386065770.449252304`,
	}
	names, err := filepath.Glob(filepath.Join(testdata(t), "*.tar*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 40 {
		t.Fatalf("got %d archives, want at least 40", len(names))
	}
	for _, path := range names {
		name := filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree := New(Options{MaxBytes: 1 << 30})
			err := tree.Apply(name, openTestdata(t, path), glance{})
			w, named := wants[name]
			reason, fails := strings.CutPrefix(w, "error: ")
			switch {
			case fails && (err == nil || !strings.Contains(err.Error(), reason)):
				t.Errorf("got error %v, want one with %q", err, reason)
			case fails:
			case err != nil:
				t.Error(err)
			case named:
				if got := list(tree); got != lines(w) {
					t.Errorf("got\n%swant\n%s", got, lines(w))
				}
			case list(tree) == "":
				t.Error("got an empty tree")
			}
		})
	}
}

// TestSparse checks that all of GNU's sparse formats are files of their logical size.
func TestSparse(t *testing.T) {
	t.Parallel()
	tree := New(Options{})
	if err := tree.Apply("", openTestdata(t, filepath.Join(testdata(t), "sparse-formats.tar")), memory{}); err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("\x00G\x00o", 47) + "\x00!" + strings.Repeat("\x00", 10)
	for _, name := range []string{"sparse-gnu", "sparse-posix-0.0", "sparse-posix-0.1", "sparse-posix-1.0"} {
		n := tree.Root.Child(name)
		if n == nil || n.Size != 200 || n.Content != want {
			t.Errorf("%s: got %+v, want 200 bytes %q", name, n, want)
		}
	}
}

// seekable is a layer that archive/tar would like to seek in.
type seekable struct {
	*bytes.Reader
	read int
}

func (s *seekable) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	s.read += n
	return n, err
}

func TestApplyReadsToTheEnd(t *testing.T) {
	t.Parallel()
	for name, stream := range map[string][]byte{
		"nothing":       nil,
		"after the end": append(archive(t, file("f", "x")), strings.Repeat("junk", 100_000)...),
		"skipped":       archive(t, file("v", strings.Repeat("v", 1<<20)).kind('V'), file("f", "")),
		"no end":        archive(t, file("f", "x"))[:1536],
	} {
		r := &seekable{Reader: bytes.NewReader(stream)}
		if err := New(Options{}).Apply("", r, memory{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if r.read != len(stream) {
			t.Errorf("%s: got %d bytes read, want %d", name, r.read, len(stream))
		}
	}
}

func TestApplyReportsTheStreamBeforeItsFormat(t *testing.T) {
	t.Parallel()
	errDigest := errors.New("digest differs")
	damaged := archive(t, file("f", "x"), file("g", ""))
	damaged[1024+20] ^= 0xff
	for name, stream := range map[string][]byte{"damaged header": damaged, "bad end": archive(t, file("f", "x"))} {
		err := New(Options{}).Apply("sha256:12", io.MultiReader(bytes.NewReader(stream), iotest.ErrReader(errDigest)), memory{})
		if !errors.Is(err, errDigest) || !strings.HasPrefix(err.Error(), "layer sha256:12: ") {
			t.Errorf("%s: got %v, want %v of the layer", name, err, errDigest)
		}
	}
	if err := New(Options{}).Apply("", bytes.NewReader(damaged), memory{}); !errors.Is(err, tar.ErrHeader) {
		t.Errorf("got %v, want %v", err, tar.ErrHeader)
	}
	cut := archive(t, file("f", strings.Repeat("x", 1000)))[:1000]
	if err := New(Options{}).Apply("", bytes.NewReader(cut), memory{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want %v", err, io.ErrUnexpectedEOF)
	}
}

// recorder is a sink that notes what it is given, and fails after max files.
type recorder struct {
	got []string
	max int
}

var errFull = errors.New("disk full")

func (r *recorder) WriteContent(in io.Reader, size int64) (Content, error) {
	if len(r.got) == r.max {
		return nil, errFull
	}
	b, err := io.ReadAll(in)
	r.got = append(r.got, fmt.Sprintf("%s/%d", b, size))
	return len(r.got), err
}

func TestSinkGetsContentInStreamOrder(t *testing.T) {
	t.Parallel()
	stream := archive(t, file("b", "first"), file("a", ""), file("b", "second"), link("c", "b"), file(".wh.x", "ignored"))
	r := &recorder{max: 9}
	tree := New(Options{})
	if err := tree.Apply("", bytes.NewReader(stream), r); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(r.got), "[first/5 second/6]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := tree.Root.Child("c").Content; got != 2 {
		t.Errorf("got content %v, want 2", got)
	}
	if got := tree.Root.Child("a").Content; got != nil {
		t.Errorf("got content %v of an empty file, want nil", got)
	}
	err := New(Options{}).Apply("", bytes.NewReader(stream), &recorder{max: 1})
	if !errors.Is(err, errFull) || !strings.Contains(err.Error(), `entry "b": write content: `) {
		t.Errorf("got %v, want %v of the entry", err, errFull)
	}
}

func TestInsecurePathIsNoError(t *testing.T) {
	t.Setenv("GODEBUG", "tarinsecurepath=0")
	tree, err := apply(t, []entry{file("../a", "a"), file("/b", "b"), hide("../.wh.c"), file("d", "d")})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := list(tree), "a 644 \"a\"\nb 644 \"b\"\nd 644 \"d\"\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		options Options
		stream  []byte
		want    string
	}{
		{"bytes", Options{MaxBytes: 2048}, archive(t, file("a", ""), file("b", ""), file("c", "")), "2048 bytes in layers (MaxBytes)"},
		{"bytes after the end", Options{MaxBytes: 4096}, append(archive(t, file("a", "")), make([]byte, 8192)...), "4096 bytes in layers (MaxBytes)"},
		{"entries", Options{MaxEntries: 2}, archive(t, file("a", ""), file("a", ""), file("a", "")), "2 entries (MaxEntries)"},
		{"implied directories", Options{MaxEntries: 3}, archive(t, file("a/b/c/d", "")), "3 entries (MaxEntries)"},
		{"names", Options{MaxMetadata: 10}, archive(t, file("abcdef", ""), file("ghijkl", "")), "10 bytes of names and attributes (MaxMetadata)"},
		{"targets", Options{MaxMetadata: 10}, archive(t, symlink("a", "bcdefghijkl")), "10 bytes of names and attributes (MaxMetadata)"},
		{"xattrs", Options{MaxMetadata: 10}, archive(t, file("a", "").xattr("user.a", "b")), "10 bytes of names and attributes (MaxMetadata)"},
	} {
		err := New(test.options).Apply("", bytes.NewReader(test.stream), memory{})
		var limit *LimitError
		if !errors.As(err, &limit) || !strings.HasSuffix(err.Error(), "more than the limit of "+test.want) {
			t.Errorf("%s: got %v, want the limit of %s", test.name, err, test.want)
		}
	}
}

func TestWarningsAreFew(t *testing.T) {
	t.Parallel()
	var labels []entry
	for i := range 100 {
		labels = append(labels, file(fmt.Sprint("f", i), "").xattr("security.selinux", "x"))
	}
	tree, err := apply(t, labels, labels[:3], append(labels[:20:20], file("../t", "")))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range tree.Warnings {
		if w.Kind != XattrDropped || w.Path == "" {
			got = append(got, fmt.Sprintf("%s %s %s: %s", w.Layer, w.Kind, w.Path, w.Message))
		}
	}
	want := []string{"1 xattr-dropped : 84 more of this kind", `3 path-clamped /t: took "../t" for "/t"`, "3 xattr-dropped : 4 more of this kind"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if n := len(tree.Warnings); n != 16+1+3+16+1+1 {
		t.Errorf("got %d warnings, want 38", n)
	}
	first := Warning{XattrDropped, "1", "/f0", `dropped the attribute "security.selinux": a label of the host's policy`}
	if tree.Warnings[0] != first {
		t.Errorf("got %v, want %v", tree.Warnings[0], first)
	}
}

// TestHostileLayersAreLinear has layers that would take many seconds if the work for
// an entry grew with the number of entries before it. It compares two sizes, for
// a machine may be slow, by the processor's time, for it may be busy, and tries again.
func TestHostileLayersAreLinear(t *testing.T) {
	const small, times, slack = 2_000, 8, 4
	for name, hostile := range map[string]func(n int) []entry{
		"opaque": func(n int) (entries []entry) {
			for i := range n {
				entries = append(entries, file(fmt.Sprintf("d/%d", i), ""), hide("d/.wh..wh..opq"))
			}
			return entries
		},
		"promises": func(n int) (entries []entry) {
			for i := range n {
				entries = append(entries, link(fmt.Sprint(i), fmt.Sprint(i+1)))
			}
			return append(entries, file(fmt.Sprint(n), ""))
		},
	} {
		measure := func(n int) time.Duration {
			stream := archive(t, hostile(n)...)
			start := processorTime(t)
			if err := New(Options{}).Apply("", bytes.NewReader(stream), memory{}); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			return processorTime(t) - start
		}
		for try := range 3 {
			base, took := measure(small), measure(times*small)
			if took < slack*times*base {
				break
			}
			if try == 2 {
				t.Errorf("%s: %d entries took %v and %d took %v", name, small, base, times*small, took)
			}
		}
	}
}

func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestHardLinkXattrsAreBounded(t *testing.T) {
	t.Parallel()
	entries := []entry{file("f", "")}
	for i := range 400 {
		entries = append(entries, link("l", "f").xattr(fmt.Sprintf("user.%0200d", i), ""))
	}
	if _, err := apply(t, entries); err == nil || !strings.Contains(err.Error(), "names of attributes are 65714 bytes") {
		t.Errorf("got %v, want an error about the attributes of a link", err)
	}
}
