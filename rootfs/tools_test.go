package rootfs

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/containerd/stargz-snapshotter/estargz/zstdchunked"
	"github.com/klauspost/compress/zstd"

	"banger/internal/oci"
)

// pull returns the tree of an image, by way of the package that reads images.
func pull(t *testing.T, ref string) *Tree {
	t.Helper()
	r, err := oci.Normalize(ref)
	if err != nil {
		t.Fatal(err)
	}
	img, err := oci.Resolve(t.Context(), r, oci.Options{})
	if err != nil {
		t.Fatal(err)
	}
	tree := New(Options{})
	for _, l := range img.Layers {
		s, err := l.Open(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.Apply(l.Digest, s, memory{}); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

// chunked compresses as zstd:chunked does.
type chunked struct {
	*zstdchunked.Compressor
	*zstdchunked.Decompressor
}

// TestEstargz has layers in eStargz and zstd:chunked: files in pieces that are
// compressed apart, landmarks, a table of contents as a file or in a frame of its own.
func TestEstargz(t *testing.T) {
	t.Parallel()
	body := strings.Repeat("0123456789abcdef", 5000)
	plain := archive(t,
		dir("bin").mode(0o711), file("bin/sudo", body).mode(0o4755).owner(0, 7), link("bin/su", "bin/sudo"), dir("empty"),
		file("etc/passwd", "root").xattr("user.a", "1").time(time.Unix(1700000000, 0)), file("etc/none", "").owner(1<<20, 1<<20),
		symlink("lib", "usr/lib"), file("usr/lib/x", body[:70_000]), hide("usr/.wh.gone"), hide("var/.wh..wh..opq"), file("var/new", "new"),
		device(tar.TypeChar, "dev/null", 1, 3), newEntry(tar.TypeFifo, "dev/pipe", 0o600), file("stargz.md", "not a landmark"),
	)
	lower := []entry{file("usr/gone", ""), file("var/old", "")}
	want, err := apply(t, lower)
	if err != nil {
		t.Fatal(err)
	}
	if err := want.Apply("plain", bytes.NewReader(plain), memory{}); err != nil {
		t.Fatal(err)
	}
	for name, options := range map[string][]estargz.Option{
		"estargz":                 {},
		"estargz prioritized":     {estargz.WithPrioritizedFiles([]string{"bin/sudo"})},
		"zstd chunked":            {estargz.WithCompression(chunked{&zstdchunked.Compressor{CompressionLevel: zstd.SpeedDefault}, &zstdchunked.Decompressor{}})},
		"one chunk for all files": {estargz.WithMinChunkSize(1 << 20)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			blob, err := estargz.Build(io.NewSectionReader(bytes.NewReader(plain), 0, int64(len(plain))), append(options, estargz.WithChunkSize(10_000))...)
			if err != nil {
				t.Fatal(err)
			}
			defer blob.Close()
			path := filepath.Join(t.TempDir(), "layer.tar")
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(f, blob); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			tree := New(Options{})
			for _, ref := range []string{writeTar(t, archive(t, lower...)), path} {
				applyTar(t, tree, ref)
			}
			if got, want := list(tree), list(want); got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

func writeTar(t *testing.T, stream []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "layer.tar")
	if err := os.WriteFile(path, stream, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// applyTar applies a tar in any compression.
func applyTar(t *testing.T, tree *Tree, path string) {
	t.Helper()
	r, err := oci.Normalize("tar:" + path)
	if err != nil {
		t.Fatal(err)
	}
	img, err := oci.Resolve(t.Context(), r, oci.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := img.Layers[0].Open(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := tree.Apply(path, s, memory{}); err != nil {
		t.Fatal(err)
	}
}

// containerfile has what layers are difficult about: files removed, replaced by
// another type, renamed, linked across layers, directories made anew.
const containerfile = `FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-ec", "/bin/busybox --install -s /bin; mkdir -p etc usr/lib var/cache/apt; echo a > etc/a; ln -s usr/lib lib; echo so > lib/a.so; ln lib/a.so usr/lib/b.so; echo x > var/cache/apt/x; mkdir d e; echo 1 > d/f; echo 2 > e/f; chmod 4755 bin/busybox; mkfifo etc/fifo; mknod etc/null c 1 3"]
RUN ["/bin/busybox", "sh", "-ec", "rm -r var/cache/apt; mkdir var/cache/apt; echo z > var/cache/apt/z; rm -r d; echo file > d; rm usr/lib/b.so; ln usr/lib/a.so etc/a.so; ln -s ../gone etc/dangling; rm -r e; ln -s d e; chown 1000:1001 etc/a; chmod 1777 var"]
RUN ["/bin/busybox", "sh", "-ec", "rm d e; mkdir -p d/deep; mv etc/a d/deep/a; chmod 700 d; echo more >> lib/a.so; touch -d '1999-12-31 23:59:59' etc/null; head -c 200000 /dev/zero > zeros; rm etc/fifo; echo one > one; ln one two"]
`

// TestBuildah has an image that buildah makes, as it is and as skopeo compresses it
// anew, and compares the tree with what umoci unpacks.
func TestBuildah(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"buildah", "skopeo", "umoci", "busybox"} {
		_, err := exec.LookPath(tool)
		need(t, tool, err == nil)
	}
	need(t, "root", os.Getuid() == 0)
	work := t.TempDir()
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = work
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	run("cp", "-L", busybox, "busybox")
	if err := os.WriteFile(filepath.Join(work, "Containerfile"), []byte(containerfile), 0o644); err != nil {
		t.Fatal(err)
	}
	run("buildah", "--storage-driver", "vfs", "--root", work+"/storage", "--runroot", work+"/run",
		"bud", "--layers", "--isolation", "chroot", "--cap-add", "CAP_MKNOD", "-t", "oci:image:latest", ".")
	run("umoci", "unpack", "--image", "image:latest", "bundle")
	want := listDisk(t, filepath.Join(work, "bundle", "rootfs"))
	for _, must := range []string{"d/deep/a 644 \"a\\n\" @1000:1001", "var/cache/apt/z 644", "usr/lib/a.so 644 \"so\\nmore\\n\"", "two = one", "zeros 644"} {
		if !strings.Contains(want, must) {
			t.Fatalf("umoci has no %s in\n%s", must, want)
		}
	}
	for _, format := range []string{"", "gzip", "zstd", "zstd:chunked"} {
		ref := "image"
		if format != "" {
			ref = strings.ReplaceAll(format, ":", "-")
			run("skopeo", "copy", "-q", "--dest-compress-format", format, "oci:image:latest", fmt.Sprintf("oci:%s:latest", ref))
		}
		tree := pull(t, "oci:"+filepath.Join(work, ref)+":latest")
		if got := list(tree); got != want {
			t.Errorf("%s: got\n%swant\n%s", ref, got, want)
		}
		if len(tree.Warnings) > 0 {
			t.Errorf("%s: got warnings %v", ref, tree.Warnings)
		}
	}
}

// TestUmociRepack has the layers that umoci makes of changes to a directory.
func TestUmociRepack(t *testing.T) {
	t.Parallel()
	_, err := exec.LookPath("umoci")
	need(t, "umoci", err == nil)
	need(t, "root", os.Getuid() == 0)
	work := t.TempDir()
	run := func(script string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sh", "-exc", script)
		cmd.Dir = work
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	run(`umoci init --layout image; umoci new --image image:latest`)
	for i, change := range []string{
		`mkdir -p a/b usr/lib; echo 1 > a/b/f; echo 2 > a/g; ln a/g h; ln -s usr/lib lib; mkfifo p; mknod n c 1 3; chmod 4711 a/g; chown 5:6 a/b`,
		`rm -r a/b; echo 3 > a/b; rm h; echo 4 > lib/x; rm p; mkdir p; ln a/g p/again; chmod 1777 usr`,
		`rm -r p n; rm a/b; mkdir a/b; echo 5 > a/b/new; mv lib link; rm usr/lib/x; ln -s ../.. usr/lib/x; echo 6 >> a/g`,
	} {
		run(fmt.Sprintf(`umoci unpack --image image:latest bundle%d; cd bundle%d/rootfs; %s; cd ../..; umoci repack --image image:latest bundle%d`, i, i, change, i))
		// Not the bundle itself: umoci loses fractions of seconds and links between layers.
		run(fmt.Sprintf(`umoci unpack --image image:latest again%d`, i))
		tree := pull(t, "oci:"+work+"/image:latest")
		if got, want := list(tree), listDisk(t, fmt.Sprintf("%s/again%d/rootfs", work, i)); got != want || strings.Count(want, "\n") < 8 {
			t.Errorf("after %d layers: got\n%swant\n%s", i+1, got, want)
		}
	}
}
