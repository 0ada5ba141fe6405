package compare_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"banger/ext4"
	"banger/internal/api"
	"banger/internal/compare"
	"banger/internal/image"
	"banger/internal/oci"
)

// entry is one entry of a layer.
type entry struct {
	tar.Header
	content string
}

func newEntry(typeflag byte, path string, mode int64) entry {
	return entry{Header: tar.Header{Typeflag: typeflag, Name: path, Mode: mode, Format: tar.FormatPAX, ModTime: time.Unix(1700000000, 5)}}
}

func file(path, content string) entry {
	e := newEntry(tar.TypeReg, path, 0o644)
	e.content = content
	return e
}

func dir(path string) entry { return newEntry(tar.TypeDir, path, 0o750) }

func link(path, target string) entry {
	e := newEntry(tar.TypeLink, path, 0)
	e.Linkname, e.ModTime = target, time.Unix(0, 0)
	return e
}

func symlink(path, target string) entry {
	e := newEntry(tar.TypeSymlink, path, 0o777)
	e.Linkname = target
	return e
}

func device(typeflag byte, path string, major, minor int64) entry {
	e := newEntry(typeflag, path, 0o660)
	e.Devmajor, e.Devminor = major, minor
	return e
}

// hide is a whiteout.
func hide(path string) entry { return newEntry(tar.TypeReg, path, 0) }

func (e entry) mode(m int64) entry         { e.Mode = m; return e }
func (e entry) owner(uid, gid int) entry   { e.Uid, e.Gid = uid, gid; return e }
func (e entry) time(t time.Time) entry     { e.ModTime = t; return e }
func (e entry) xattr(name, v string) entry { return e.pax("SCHILY.xattr."+name, v) }
func (e entry) pax(key, value string) entry {
	all := map[string]string{key: value}
	for k, v := range e.PAXRecords {
		all[k] = v
	}
	e.PAXRecords = all
	return e
}

func archive(t testing.TB, entries []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		h.Size = int64(len(e.content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatalf("%q: %v", h.Name, err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// built is a disk, and what it was made of.
type built struct {
	path string
	made compare.Made
}

var created = time.Unix(1600000000, 0)

// build makes a disk of layers, or returns why that cannot be.
func build(t testing.TB, o image.Options, layers ...[]byte) (built, error) {
	t.Helper()
	img := empty.Image
	for _, b := range layers {
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil })
		if err == nil {
			img, err = mutate.AppendLayers(img, l)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	img, err := mutate.CreatedAt(img, v1.Time{Time: created})
	if err != nil {
		t.Fatal(err)
	}
	at := t.TempDir()
	p, err := layout.Write(filepath.Join(at, "layout"), empty.Index)
	if err == nil {
		err = p.AppendImage(img)
	}
	if err != nil {
		t.Fatal(err)
	}
	ref, err := oci.Normalize("oci:" + filepath.Join(at, "layout"))
	if err != nil {
		t.Fatal(err)
	}
	src, err := oci.Resolve(t.Context(), ref, oci.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := built{path: filepath.Join(at, "disk.ext4")}
	if o.NoGuestFiles {
		o.SizeBytes = 8 << 20
	}
	disk, err := image.ConvertFile(t.Context(), src, b.path, o, nil)
	b.made = compare.Made{Created: created, Added: disk.Added}
	for _, l := range src.Layers {
		b.made.Layers = append(b.made.Layers, compare.Layer{Digest: l.Digest, Open: func(ctx context.Context, p api.Progress) (io.ReadCloser, error) { return l.Open(ctx, p) }})
	}
	return b, err
}

// open opens the disk until the test ends.
func open(t testing.TB, path string) *ext4.FS {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	disk, err := ext4.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	return disk
}

// differences compares a disk with its layers.
func (b built) differences(t testing.TB) []string {
	t.Helper()
	r, err := compare.Layers(t.Context(), open(t, b.path), b.made, nil)
	if err != nil {
		t.Fatal(err)
	}
	return lines(r.Differences)
}

func lines(all []api.Difference) []string {
	var list []string
	for _, d := range all {
		list = append(list, fmt.Sprintf("%s %s: want %s, got %s", d.Path, d.What, d.Want, d.Got))
	}
	return list
}

var (
	pure = image.Options{NoGuestFiles: true}
	base = []entry{dir("d"), file("d/low", "low"), file("d/other", "other"), dir("d/sub"), file("d/sub/deep", "deep")}
)

// acl is an ACL as getxattr(2) gives it: user 1000 may read and write.
const acl = "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x06\x00\xe8\x03\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x06\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff"

// TestRules converts layers with every rule in them and finds the disk equal to
// them; paths that must or must not be on it keep this from being a comparison
// of two mistakes.
func TestRules(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		layers [][]entry
		have   string // paths on the disk but lost+found, sorted
	}{
		{"whiteouts", [][]entry{base, {hide("d/.wh.low"), hide("gone/.wh.x"), hide("d/.wh.sub"), file("d/sub/new", "")}}, "/d /d/other /d/sub /d/sub/new"},
		{"whiteout after the entry it does not hide", [][]entry{base, {file("d/low", "mine"), hide("d/.wh.low"), file("d/sub/x", ""), hide(".wh.d")}}, "/d /d/low /d/sub /d/sub/x"},
		{"opaque", [][]entry{base, {file("d/sub/new", "n"), hide("d/.wh..wh..opq")}}, "/d /d/sub /d/sub/new"},
		{"opaque over a symlink", [][]entry{{file("usr/x", ""), symlink("lib", "usr")}, {dir("lib"), hide("lib/.wh..wh..opq"), file("lib/y", "")}}, "/lib /lib/y /usr /usr/x"},
		{"leaked whiteout", [][]entry{base, {device(tar.TypeChar, "d", 0, 0)}}, ""},
		{"symlinked parents", [][]entry{{dir("usr"), dir("usr/lib"), symlink("lib", "/usr/./lib"), symlink("up", "lib/../../.."), symlink("gone", "to/there")}, {file("lib/x", "x"), file("up/y", "y"), file("gone/z", "z"), hide("lib/.wh.x")}}, "/gone /lib /to /to/there /to/there/z /up /usr /usr/lib /usr/lib/x /y"},
		{"hidden through a symlink", [][]entry{{file("usr/x", ""), symlink("lib", "usr")}, {hide("lib/.wh.x")}}, "/lib /usr"},
		{"file becomes directory", [][]entry{{file("f", "")}, {file("f/g", "g")}}, "/f /f/g"},
		{"replaced", [][]entry{base, {file("d", "new")}, {dir("d").mode(0o1777).owner(70000, 1<<31)}}, "/d"},
		{"directory described again", [][]entry{{dir("d").xattr("user.a", "1"), file("d/f", "")}, {dir("d").mode(0o700)}}, "/d /d/f"},
		{"hard links", [][]entry{{file("f", "x"), link("l", "f")}, {file("f", "new"), link("m", "/l")}}, "/f /l /m"},
		{"hard link first", [][]entry{{link("l", "m"), link("m", "d/f"), file("d/f", "x"), link("n", "m").mode(0o4711).owner(1, 2)}}, "/d /d/f /l /m /n"},
		{"hard link to what is hidden", [][]entry{base, {hide(".wh.d"), file("d/sub/new", ""), link("kept", "d/sub/deep")}}, "/d /d/sub /d/sub/new /kept"},
		{"hard link to a symlink", [][]entry{{symlink("s", "t"), link("l", "s").mode(0o600).owner(3, 4).time(time.Unix(9, 0))}}, "/l /s"},
		{"hard link with a header", [][]entry{{file("f", "x").xattr("user.a", "1").xattr("user.b", "1")}, {link("l", "f").mode(0o4750).owner(3, 4).time(time.Unix(9, 0)).xattr("user.b", "2")}}, "/f /l"},
		{"pseudo links of aufs", [][]entry{{file(".wh..wh.plnk/1.2", "x"), link("a", ".wh..wh.plnk/1.2"), link("b", "/.wh..wh.plnk/1.2"), file(".wh..wh.aufs", "")}}, "/a /b"},
		{"types", [][]entry{{device(tar.TypeBlock, "b", 259, 70000), device(tar.TypeChar, "c", 1, 3), newEntry(tar.TypeFifo, "p", 0o600), file("t", "7").as(tar.TypeCont), file("v", "").as('V'), symlink("s", strings.Repeat("t", 60))}}, "/b /c /p /s /t"},
		{"paths", [][]entry{{file("../../t", "t"), file("/abs//./u", "u"), file("a\nb\xff", ""), newEntry(tar.TypeDir, "./", 0o700).owner(7, 7).xattr("user.root", "1"), file("stargz.index.json", ""), file("d/stargz.index.json", "")}}, "/a\nb\xff /abs /abs/u /d /d/stargz.index.json /t"},
		{"times", [][]entry{{file("a", "").time(time.Unix(-2, 5)), file("b", "").time(time.Unix(-1<<40, 5)), file("c", "").time(time.Unix(1<<40, 5)), file("e/f", "")}}, "/a /b /c /e /e/f"},
		{"attributes", [][]entry{{
			file("f", "").xattr("user.a", "a\x00b").xattr("user.empty", "").xattr("security.selinux", "x").xattr("trusted.overlay.opaque", "y").xattr("com.apple.x", "y").pax("LIBARCHIVE.xattr.user.l%3Db", "AP8").pax("LIBARCHIVE.xattr.user.bad", "!"),
			symlink("s", "t").xattr("user.a", "1").xattr("security.x", "1"),
			file("acl", "").xattr("system.posix_acl_access", acl), file("minimal", "").pax("SCHILY.acl.access", "user::rw-,group::r--,other::r--"),
			dir("d").pax("SCHILY.acl.default", "user::rwx,user:joe:r--:1000,group::r-x,mask::r-x,other::---").pax("SCHILY.acl.access", "user::rwx,user:joe:r--,group::r-x,mask::r-x,other::---"),
		}}, "/acl /d /f /minimal /s"},
		{"lost+found of the image", [][]entry{{dir("lost+found").mode(0o711), file("lost+found/x", "")}}, "/lost+found/x"},
		{"no layers", nil, ""},
		{"content in many pieces", [][]entry{{file("f", strings.Repeat("0123456789abcde", 100_000)), file("hole", strings.Repeat("\x00", 1<<20)+"x")}, {link("g", "f")}}, "/f /g /hole"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var layers [][]byte
			for _, entries := range tt.layers {
				layers = append(layers, archive(t, entries))
			}
			b, err := build(t, pure, layers...)
			if err != nil {
				t.Fatal(err)
			}
			if got := b.differences(t); got != nil {
				t.Errorf("differences:\n%s", strings.Join(got, "\n"))
			}
			// Beside an empty disk, all there is is extra.
			nothing, err := build(t, pure)
			if err != nil {
				t.Fatal(err)
			}
			r, err := compare.Disks(t.Context(), open(t, nothing.path), open(t, b.path), nil)
			if err != nil {
				t.Fatal(err)
			}
			var have []string
			for _, d := range r.Differences {
				if d.What == "extra" {
					have = append(have, d.Path)
				}
			}
			if got := strings.Join(have, " "); got != api.Text(tt.have) {
				t.Errorf("the disk has\n%s, want\n%s", got, tt.have)
			}
		})
	}
}

func (e entry) as(typeflag byte) entry {
	e.Typeflag, e.Format = typeflag, tar.FormatUnknown
	e.ModTime = time.Unix(5, 0)
	return e
}

// TestAdded finds what came on top of the layers, through links and over files.
func TestAdded(t *testing.T) {
	t.Parallel()
	b, err := build(t, image.Options{}, archive(t, []entry{
		symlink("usr/local/bin", "../../bin"), file("etc/modules-load.d/banger-vsock.conf", "theirs"), dir("etc/systemd/system"), dir("bin"),
	}))
	if err != nil {
		if strings.Contains(err.Error(), "no guest agent") {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	r, err := compare.Layers(t.Context(), open(t, b.path), b.made, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Differences) > 0 {
		t.Errorf("differences: %q", lines(r.Differences))
	}
	want := "/bin/banger-vsock-agent /etc/modules-load.d/banger-vsock.conf /etc/systemd/system/banger-network.service " +
		"/etc/systemd/system/banger-vsock-agent.service /etc/systemd/system/multi-user.target.wants " +
		"/etc/systemd/system/multi-user.target.wants/banger-network.service /etc/systemd/system/multi-user.target.wants/banger-vsock-agent.service " +
		"/usr/local/libexec /usr/local/libexec/banger-network-bootstrap"
	if got := strings.Join(r.Added, " "); got != want {
		t.Errorf("added\n%s, want\n%s", got, want)
	}
	if got := strings.Join(r.Replaced, " "); got != "/etc/modules-load.d/banger-vsock.conf" {
		t.Errorf("replaced %s", got)
	}

	b.made.Added[0].SHA256 = strings.Repeat("0", 64)
	b.made.Added[1].Mode = "0700"
	got := strings.Join(b.differences(t), "\n")
	for _, want := range []string{"/bin/banger-vsock-agent content: want sha256 000", "banger-network-bootstrap mode: want 0700, got 0755"} {
		if !strings.Contains(got, want) {
			t.Errorf("differences lack %q:\n%s", want, got)
		}
	}

	// Without them, they are what has changed.
	b.made.Added = nil
	r, err = compare.Layers(t.Context(), open(t, b.path), b.made, nil)
	if err != nil {
		t.Fatal(err)
	}
	var changes []string
	for _, c := range compare.Changes(r.Differences) {
		changes = append(changes, c.Kind+" "+c.Path+strings.Join(append([]string{""}, c.What...), " "))
	}
	for _, want := range []string{"A /bin/banger-vsock-agent", "C /etc/modules-load.d/banger-vsock.conf mtime size", "A /usr/local/libexec", "A /usr/local/libexec/banger-network-bootstrap"} {
		if !strings.Contains(strings.Join(changes, "\n")+"\n", want+"\n") {
			t.Errorf("changes lack %q:\n%s", want, strings.Join(changes, "\n"))
		}
	}
}

// TestBrokenLayer gives an error, not a verdict, where a layer cannot be read.
func TestBrokenLayer(t *testing.T) {
	t.Parallel()
	b, err := build(t, pure, archive(t, base))
	if err != nil {
		t.Fatal(err)
	}
	whole := b.made.Layers[0]
	for name, l := range map[string]compare.Layer{
		"gone": {Open: func(context.Context, api.Progress) (io.ReadCloser, error) { return nil, os.ErrNotExist }},
		"not tar": {Open: func(context.Context, api.Progress) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(strings.Repeat("x", 2000))), nil
		}},
		"link circle": {Open: of(archive(t, []entry{link("a", "b"), link("b", "a")}))},
		"symlinks":    {Open: of(archive(t, []entry{symlink("a", "b"), symlink("b", "a"), file("a/x", "")}))},
		"whiteout":    {Open: of(archive(t, []entry{hide(".wh...")}))},
	} {
		b.made.Layers = []compare.Layer{whole, l}
		if r, err := compare.Layers(t.Context(), open(t, b.path), b.made, nil); err == nil {
			t.Errorf("%s: got %v, want an error", name, lines(r.Differences))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b.made.Layers = []compare.Layer{whole}
	if _, err := compare.Layers(ctx, open(t, b.path), b.made, nil); err == nil {
		t.Error("cancelled: got no error")
	}
}

func of(b []byte) func(context.Context, api.Progress) (io.ReadCloser, error) {
	return func(context.Context, api.Progress) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b)), nil
	}
}
