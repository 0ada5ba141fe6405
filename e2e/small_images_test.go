package e2e

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// layer makes a layer of the entries; Size follows from content.
func layer(t *testing.T, entries ...entry) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		h.Size = int64(len(e.content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b.Bytes())), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// entry is one entry of a layer.
type entry struct {
	tar.Header
	content []byte
}

func file(path string, mode int64, content []byte) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: path, Mode: mode}, content}
}

func dir(path string, mode int64) entry {
	return entry{tar.Header{Typeflag: tar.TypeDir, Name: path, Mode: mode}, nil}
}

func symlink(path, target string) entry {
	return entry{tar.Header{Typeflag: tar.TypeSymlink, Name: path, Linkname: target, Mode: 0o777}, nil}
}

// image makes an image for linux on amd64.
func image(t *testing.T, config v1.Config, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	img, err = mutate.ConfigFile(img, &v1.ConfigFile{OS: "linux", Architecture: "amd64", Config: config, RootFS: rootFS(t, img)})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func rootFS(t *testing.T, img v1.Image) v1.RootFS {
	t.Helper()
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return c.RootFS
}

// oneFile makes an image of one file with that text.
func oneFile(t *testing.T, text string) v1.Image {
	t.Helper()
	return image(t, v1.Config{}, layer(t, file("etc/hostname", 0o644, []byte(text+"\n"))))
}

// writeLayout writes an OCI layout with the one image and returns its ref.
func writeLayout(t *testing.T, img v1.Image) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "banger-e2e-layout-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	tool(t, "chmod", "-R", "a+rX", dir) // for other users
	return "oci:" + dir
}

// push pushes the image to a registry.
func push(t *testing.T, ref string, img v1.Image) {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(r, img); err != nil {
		t.Fatal(err)
	}
}

// inquisitive is what an image runs to say how it was started; it ends with
// status 3.
var inquisitive = v1.Config{
	Entrypoint: []string{"/bin/sh", "-c", `echo "args $*"
		echo "id $(id -u) $(id -g)"
		echo "dir $(pwd)"
		echo "env $GREETING"
		echo "parent is 1: $(( PPID == 1 ))"
		exit 3`, "main"},
	Cmd:        []string{"one", "two words"},
	Env:        []string{"PATH=/bin", "GREETING=hello there"},
	User:       "app",
	WorkingDir: "/home/app",
}

// sleeper is what an image runs that has nothing to do.
var sleeper = v1.Config{Entrypoint: []string{"/bin/sleep"}, Cmd: []string{"1000"}, Env: []string{"PATH=/bin"}}

// busybox is an image without an init: Debian's static busybox and a user.
func busybox(t *testing.T, config v1.Config) v1.Image {
	t.Helper()
	need(t, "busybox")
	path, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	entries := []entry{
		dir("bin", 0o755), dir("etc", 0o755), dir("home/app", 0o700), dir("tmp", 0o1777),
		file("bin/busybox", 0o755, b),
		file("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\napp:x:1234:2345:app:/home/app:/bin/sh\n")),
		file("etc/group", 0o644, []byte("root:x:0:\napp:x:2345:\nextra:x:3456:app\n")),
	}
	entries[2].Uid, entries[2].Gid = 1234, 2345
	for _, applet := range []string{"sh", "id", "pwd", "env", "cat", "df", "sleep", "true", "init"} {
		entries = append(entries, symlink("bin/"+applet, "busybox"))
	}
	return image(t, config, layer(t, entries...))
}

// scratchImage has one file: a static program that prints what it was started
// with as JSON; see testdata/report.
func scratchImage(t *testing.T) v1.Image {
	t.Helper()
	return image(t, v1.Config{
		Entrypoint: []string{"/report"},
		Cmd:        []string{"--flag", "a b"},
		Env:        []string{"ONLY=this"},
		User:       "4321:8765",
		WorkingDir: "/made/for/it",
	}, layer(t, file("report", 0o755, buildStatic(t, "./testdata/report"))))
}

// pushIndex pushes an index and what it names to a registry.
func pushIndex(t *testing.T, ref string, index v1.ImageIndex) {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(r, index); err != nil {
		t.Fatal(err)
	}
}
