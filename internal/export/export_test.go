package export_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"banger/ext4"
	"banger/internal/api"
	"banger/internal/compare"
	"banger/internal/export"
	"banger/internal/image"
	"banger/internal/oci"
)

var created = time.Unix(1600000000, 7)

// disk converts a tar.
func disk(t *testing.T, archive []byte) *ext4.FS {
	t.Helper()
	at := t.TempDir()
	if err := os.WriteFile(filepath.Join(at, "root.tar"), archive, 0o600); err != nil {
		t.Fatal(err)
	}
	return convert(t, "tar:"+filepath.Join(at, "root.tar"))
}

func convert(t *testing.T, ref string) *ext4.FS {
	t.Helper()
	r, err := oci.Normalize(ref)
	if err != nil {
		t.Fatal(err)
	}
	src, err := oci.Resolve(t.Context(), r, oci.Options{})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "disk.ext4")
	if _, err := image.ConvertFile(t.Context(), src, path, image.Options{NoGuestFiles: true, SizeBytes: 8 << 20}, nil); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	fsys, err := ext4.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	return fsys
}

// kinds is a tar with one of every kind.
func kinds(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755},
		{Typeflag: tar.TypeDir, Name: "d", Mode: 0o1777, PAXRecords: map[string]string{"SCHILY.acl.default": "user::rwx,user:joe:r--:1000,group::r-x,mask::r-x,other::---"}},
		{Typeflag: tar.TypeReg, Name: "d/f", Mode: 0o4755, Uid: 1 << 31, Gid: 70000, Size: 9, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "a\x00b", "SCHILY.xattr.security.x": ""}},
		{Typeflag: tar.TypeLink, Name: "g", Linkname: "d/f", Mode: 0o4755, Uid: 1 << 31, Gid: 70000},
		{Typeflag: tar.TypeSymlink, Name: "s", Linkname: "../" + strings.Repeat("t", 100)},
		{Typeflag: tar.TypeChar, Name: "c", Mode: 0o600, Devmajor: 259, Devminor: 70000},
		{Typeflag: tar.TypeFifo, Name: "p", Mode: 0},
		{Typeflag: tar.TypeReg, Name: "new\nline\xff", Mode: 0o644},
	} {
		h.ModTime, h.Format = created, tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, "content!\n"[:h.Size]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// same fails when one disk is not as the other; the time of the root is that of
// the image, which a tar has none of.
func same(t *testing.T, was, is *ext4.FS) {
	t.Helper()
	r, err := compare.Disks(t.Context(), was, is, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range r.Differences {
		if d.Path != "/" && d.Path != "/lost+found" || d.What != "mtime" {
			t.Errorf("%+v", d)
		}
	}
	if r.Paths < 8 {
		t.Errorf("compared %d paths", r.Paths)
	}
}

func TestTar(t *testing.T) {
	t.Parallel()
	was := disk(t, kinds(t))
	var b, again bytes.Buffer
	var last api.Event
	p := api.Progress(func(e api.Event) { last = e })
	if err := errors.Join(export.Tar(t.Context(), &b, export.Source{Disk: was}, p), export.Tar(t.Context(), &again, export.Source{Disk: was}, nil)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), again.Bytes()) {
		t.Error("two exports of one disk differ")
	}
	if last.Phase != api.PhaseExport || last.Done != 9 || last.Total != 9 {
		t.Errorf("the last event is %+v, want 9 of 9 bytes", last)
	}
	same(t, was, disk(t, b.Bytes()))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := export.Tar(ctx, io.Discard, export.Source{Disk: was}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

func TestOCI(t *testing.T) {
	t.Parallel()
	img := api.Image{
		Ref: "docker.io/library/x:1", Platform: "linux/arm64/v8",
		Process: api.Process{Entrypoint: []string{"/e"}, Cmd: []string{"c"}, Env: []string{"A=b"}, User: "1:2", WorkingDir: "/w", StopSignal: "INT"},
		Source: api.Source{
			Created: created.UTC(), Author: "me", Labels: map[string]string{"l": "v"}, ExposedPorts: []string{"80/tcp"}, Volumes: []string{"/v"},
			History: []api.History{{Created: created.UTC(), CreatedBy: "RUN true"}},
		},
	}
	was := disk(t, kinds(t))
	var sums []string
	for range 2 {
		path := filepath.Join(t.TempDir(), "x.oci")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(export.OCI(t.Context(), f, export.Source{Disk: was, Image: img}, "x", nil), f.Close()); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b)
		sums = append(sums, hex.EncodeToString(sum[:]))
		if len(sums) == 1 {
			checkArchive(t, b, was, img)
		}
	}
	if sums[0] != sums[1] {
		t.Error("two exports of one disk differ")
	}
}

// checkArchive reads an OCI archive as others do.
func checkArchive(t *testing.T, b []byte, was *ext4.FS, want api.Image) {
	t.Helper()
	dir := t.TempDir()
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, h.Name)
		if h.Typeflag == tar.TypeDir {
			err = os.Mkdir(path, 0o755)
		} else {
			var content []byte
			content, err = io.ReadAll(r)
			err = errors.Join(err, os.WriteFile(path, content, 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 || manifest.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != "x" {
		t.Fatalf("index: %+v, %v", manifest, err)
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Error(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Variant != "v8" || config.Architecture != "arm64" {
		t.Errorf("platform %s/%s", config.Architecture, config.Variant)
	}
	if h := config.History; len(h) != 2 || !h[0].EmptyLayer || h[1].EmptyLayer || !strings.Contains(h[1].Comment, want.Ref) {
		t.Errorf("history %+v", h)
	}
	r, err := oci.Normalize("oci:" + dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := oci.Resolve(t.Context(), r, oci.Options{Platform: "linux/arm64"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Process, got.Config); diff != "" {
		t.Errorf("process:\n%s", diff)
	}
	want.Source.Layers, want.Source.History, want.Source.ConfigDigest = got.Source.Layers, got.Source.History, got.Source.ConfigDigest
	if diff := cmp.Diff(want.Source, got.Source); diff != "" {
		t.Errorf("source:\n%s", diff)
	}
	l, err := img.Layers()
	if err != nil || len(l) != 1 {
		t.Fatal(l, err)
	}
	same(t, was, disk(t, inflated(t, l[0])))
}

func inflated(t *testing.T, l v1.Layer) []byte {
	t.Helper()
	r, err := l.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What we added goes, and what is there for it; not what somebody has changed.
func TestWithout(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, content string) {
		h.Size, h.ModTime, h.Format = int64(len(content)), created, tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	dir := func(name string, mode int64) { add(tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}, "") }
	file := func(name, content string) { add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, content) }
	link := func(name, target string) {
		add(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target}, "")
	}
	dir("made/for/us", 0o755)
	dir("made/for", 0o755)
	dir("made", 0o755)
	dir("theirs", 0o700)
	link("way", "/full/../theirs")
	file("made/for/us/agent", "agent")
	file("theirs/agent", "agent")
	link("theirs/unit", "../unit")
	file("theirs/edited", "edited")
	link("theirs/moved", "elsewhere")
	dir("theirs/typed", 0o755)
	dir("full", 0o755)
	file("full/agent", "agent")
	file("full/other", "")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("agent"))
	agent := hex.EncodeToString(sum[:])
	s := export.Source{Disk: disk(t, b.Bytes()), Image: api.Image{Source: api.Source{Created: created}}, Without: []api.AddedFile{
		{Path: "/made/for/us/agent", SHA256: agent},
		{Path: "/way/agent", SHA256: agent},
		{Path: "/way/unit", Link: "../unit"},
		{Path: "/theirs/edited", SHA256: agent},
		{Path: "/theirs/moved", Link: "../unit"},
		{Path: "/theirs/typed", SHA256: agent},
		{Path: "/gone/agent", SHA256: agent},
		{Path: "/full/agent", SHA256: agent},
	}}
	list := func() string {
		var out bytes.Buffer
		if err := export.Tar(t.Context(), &out, s, nil); err != nil {
			t.Fatal(err)
		}
		var names []string
		for r := tar.NewReader(&out); ; {
			h, err := r.Next()
			if err == io.EOF {
				return strings.Join(names, " ")
			}
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, h.Name)
		}
	}
	if got, want := list(), "./ full/ full/other theirs/ theirs/edited theirs/moved theirs/typed/ way"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	s.Image.Source.Created = created.Add(time.Second) // not of the time of the directories
	if got, want := list(), "./ full/ full/other made/ made/for/ made/for/us/ theirs/ theirs/edited theirs/moved theirs/typed/ way"; got != want {
		t.Errorf("directories of another time: got  %s\nwant %s", got, want)
	}
}
