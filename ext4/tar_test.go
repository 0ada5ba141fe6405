package ext4

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// fromTar reads an archive into the form that files are written from.
func fromTar(t testing.TB, archive io.Reader) []want {
	t.Helper()
	var files []want
	for tr := tar.NewReader(archive); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		data := must[[]byte](t)(io.ReadAll(tr))
		file := want{path: path.Clean(h.Name), data: string(data), Header: Header{
			UID: uint32(h.Uid), GID: uint32(h.Gid), ModTime: h.ModTime, Mode: h.FileInfo().Mode(),
			Major: uint32(h.Devmajor), Minor: uint32(h.Devminor),
		}}
		switch h.Typeflag {
		case tar.TypeLink:
			file = want{path: file.path, link: h.Linkname}
		case tar.TypeSymlink:
			file.Target = h.Linkname
		case tar.TypeDir:
			if !strings.HasSuffix(h.Name, "/") {
				t.Errorf("directory %q does not end in a slash", h.Name)
			}
		}
		for key, value := range h.PAXRecords {
			if name, ok := strings.CutPrefix(key, paxXattr); ok && file.link == "" {
				if file.Xattrs == nil {
					file.Xattrs = map[string]string{}
				}
				file.Xattrs[strings.NewReplacer("%25", "%", "%3D", "=").Replace(name)] = value
			}
		}
		files = append(files, file)
	}
}

// throughTar writes the archive of fsys into an image and returns that and the
// archive.
func throughTar(t testing.TB, fsys *FS) (again *FS, archive []byte) {
	t.Helper()
	var out bytes.Buffer
	if err := fsys.WriteTar(&out); err != nil {
		t.Fatal(err)
	}
	w, f := image(t, Options{})
	put(t, w, fromTar(t, bytes.NewReader(out.Bytes())))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return must[*FS](t)(Open(f)), out.Bytes()
}

// inTar are the files that a tar can have: all but sockets.
func inTar(files []want) (in []want) {
	sockets := map[string]bool{}
	for _, f := range files {
		if f.Mode.Type() == fs.ModeSocket || sockets[f.link] {
			sockets[f.path] = true
		} else {
			in = append(in, f)
		}
	}
	return in
}

// An image made of the archive of another has the same files.
func TestWriteTar(t *testing.T) {
	t.Parallel()
	w, f := image(t, Options{})
	files := everything()
	put(t, w, files)
	fsys := finish(t, w, f)
	again, archive := throughTar(t, fsys)
	compare(t, again, inTar(files))
	if _, second := throughTar(t, again); !bytes.Equal(archive, second) {
		t.Error("the archive of the copy differs")
	}
}

// GNU tar unpacks it to the tree that the kernel would show.
func TestWriteTarGNU(t *testing.T) {
	t.Parallel()
	need(t, "tar")
	need(t, "getfattr")
	need(t, "root")
	w, f := image(t, Options{})
	put(t, w, append(everything(), want{path: "names", Header: Header{Mode: 0o644, Xattrs: map[string]string{
		"user.a=b%": "equals", "user.per%c": "percent", "user.%3D": "code",
	}}}))
	fsys := finish(t, w, f)
	dir := t.TempDir()
	name := filepath.Join(dir, "archive.tar")
	archive := must[*os.File](t)(os.Create(name))
	if err := errors.Join(fsys.WriteTar(archive), archive.Close()); err != nil {
		t.Fatal(err)
	}
	list := map[string]bool{} // lines, their columns one space apart
	for line := range strings.Lines(tool(t, "env", "TZ=UTC", "tar", "--numeric-owner", "--xattrs", "--full-time", "-tvf", name)) {
		list[strings.Join(strings.Fields(line), " ")] = true
	}
	const day = " 2020-09-13 12:26:40.123456789 "
	for _, line := range []string{
		"drwxr-x---* 1/2 0 1970-01-01 00:00:05.000000006 ./",
		"crw-rw-rw- 0/0 1,3" + day + "null",
		"brw-rw---- 0/0 4095,1048575" + day + "device_max",
		"prw--w--w- 0/0 0" + day + "fifo",
		"hrw-r--r-- 0/0 0" + day + "hard_link link to etc/passwd",
		"lrwxrwxrwx 0/0 0" + day + "symlink_1 -> .",
		"-rwsr-xr-x 0/0 2" + day + "sticky/sudo",
		"drwxrwsrwt 0/0 0" + day + "sticky/",
		"-rw------- 4000000000/65536 0" + day + "owner32",
		"-rw-r--r-- 0/0 0 2310-04-04 16:10:39.999999999 time_newest",
	} {
		if !list[line] {
			t.Errorf("tar -tv does not say %q", line)
		}
	}

	out := filepath.Join(dir, "out")
	if err := os.Mkdir(out, 0o700); err != nil {
		t.Fatal(err)
	}
	tool(t, "tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", name, "-C", out)
	for name, want := range map[string]string{
		"etc/passwd": "root:x:0:0\n", "hard_link": "root:x:0:0\n", "lost+found/found": "again", "size_4097": noise(4097),
	} {
		if got, err := os.ReadFile(filepath.Join(out, name)); string(got) != want {
			t.Errorf("%s has %d bytes, %v, want %d", name, len(got), err, len(want))
		}
	}
	for attr, want := range map[string]string{"user.a=b%": "equals", "user.per%c": "percent", "user.%3D": "code"} {
		if got := tool(t, "getfattr", "--absolute-names", "--only-values", "-n", attr, filepath.Join(out, "names")); got != want {
			t.Errorf("%s = %q, want %q", attr, got, want)
		}
	}
}

// What a damaged image cannot tell is an error that names it.
func TestWriteTarDamaged(t *testing.T) {
	t.Parallel()
	m := &memory{}
	w := must[*Writer](t)(NewWriter(m, Options{Size: 16 * mib}))
	inos := put(t, w, []want{
		{path: "dir", Header: Header{Mode: fs.ModeDir | 0o755}},
		{path: "dir/file", Header: Header{Mode: 0o644}, data: "x"},
	})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	m.b[w.lay.inodeTable(0)*blockSize+int64(inos["dir/file"]-1)*inodeSize+inoUIDLo]++
	err := must[*FS](t)(Open(m)).WriteTar(io.Discard)
	if want := "write tar: read dir/file: inode " + fmt.Sprint(inos["dir/file"]); !errors.Is(err, errDamaged) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("WriteTar = %v, want %q", err, want)
	}

	// A directory with two names, and without checksums to tell.
	m = &memory{}
	w = must[*Writer](t)(NewWriter(m, Options{Size: 16 * mib}))
	inos = put(t, w, []want{{path: "dir", Header: Header{Mode: fs.ModeDir | 0o755}}, {path: "two", Header: Header{Mode: fs.ModeDir | 0o755}}})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	fsys := must[*FS](t)(Open(m))
	fsys.checksummed = false
	list := must[*listing](t)(fsys.listing(Root))
	for i := range list.entries {
		if list.entries[i].name == "two" {
			list.entries[i].ino = inos["dir"]
		}
	}
	if err := fsys.WriteTar(io.Discard); !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), "is dir too") {
		t.Errorf("WriteTar of a directory with two names = %v", err)
	}
}

var errPipe = errors.New("broken pipe")

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errPipe }

func TestWriteTarBrokenPipe(t *testing.T) {
	t.Parallel()
	if err := sample(t).WriteTar(brokenPipe{}); !errors.Is(err, errPipe) {
		t.Errorf("WriteTar = %v, want %v", err, errPipe)
	}
}
