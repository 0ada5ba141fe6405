package oci

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"banger/internal/api"
)

// archiveOf makes a tar of files, in the order of their names; a text that begins
// with -> is a symlink.
func archiveOf(files map[string][]byte) []byte {
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range names {
		if target, ok := strings.CutPrefix(string(files[name]), "->"); ok {
			w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target})
			continue
		}
		w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name]))})
		w.Write(files[name])
	}
	w.Close()
	return buf.Bytes()
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

// layoutArchive is a tar of a layout.
func (c content) layoutArchive(index v1.IndexManifest) []byte {
	files := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`), "index.json": encode(index)}
	for h, data := range c {
		files["./blobs/sha256/"+h.Hex] = data
	}
	return archiveOf(files)
}

// dockerFiles is what docker save writes of images whose layers are these, each
// under a name: as it did before version 25, where the same layer is a link the
// second time.
func dockerFiles(images map[string][][]byte) map[string][]byte {
	files := map[string][]byte{}
	var list []savedImage
	var names []string
	for name := range images {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		config := &v1.ConfigFile{OS: "linux", Architecture: hostPlatform().arch, Config: v1.Config{Cmd: []string{name}}}
		img := savedImage{RepoTags: []string{name}}
		for i, layer := range images[name] {
			config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, sumOf(layer))
			at := fmt.Sprintf("%s-%d/layer.tar", sumOf([]byte(name)).Hex, i)
			same := fmt.Sprintf("%s-%d/layer.tar", sumOf([]byte(names[0])).Hex, i)
			files[at] = layer
			if at != same && bytes.Equal(files[same], layer) {
				files[at] = []byte("->../" + same)
			}
			img.Layers = append(img.Layers, at)
		}
		data := encode(config)
		img.Config = sumOf(data).Hex + ".json"
		files[img.Config] = data
		list = append(list, img)
	}
	files["manifest.json"] = encode(list)
	return files
}

// layersMatch fails the test unless the reference resolves to these layers and
// that command.
func layersMatch(t *testing.T, ref, cmd string, o Options, want ...[]byte) *Image {
	t.Helper()
	img, err := Resolve(t.Context(), mustNormalize(t, ref), o)
	if err != nil {
		t.Fatalf("%s: %v", ref, err)
	}
	if len(img.Layers) != len(want) || img.Config.Cmd[0] != cmd {
		t.Fatalf("%s: %d layers and command %q, want %d and %q", ref, len(img.Layers), img.Config.Cmd, len(want), cmd)
	}
	for i, l := range img.Layers {
		if got, err := readLayer(t, l, nil); err != nil || !bytes.Equal(got, want[i]) {
			t.Errorf("%s: layer %d: %d bytes, %v; want %d", ref, i, len(got), err, len(want[i]))
		}
	}
	return img
}

// Archives of layouts and of Docker give their images, in place as they are and
// through the cache compressed.
func TestArchives(t *testing.T) {
	t.Parallel()
	base, one, two := tarOf(1, 5000), tarOf(2, 3000), tarOf(3, 70_000)
	c := content{}
	first := c.image([][]byte{gz(base), zst(one)}, [][]byte{base, one}, nil)
	second := c.simple(base, two)
	first.Annotations = map[string]string{refName: "first"}
	second.Annotations = map[string]string{refName: "second"}
	layout := c.layoutArchive(index(first, second))
	docker := archiveOf(dockerFiles(map[string][][]byte{"a:latest": {base, one}, "example.org/b:v1": {base, two}}))

	dir := t.TempDir()
	for ext, pack := range map[string]func([]byte) []byte{".tar": func(b []byte) []byte { return b }, ".tar.gz": gz, ".tar.zst": zst} {
		o := testOptions(t)
		file := func(name string, data []byte) string {
			path := filepath.Join(dir, name+ext)
			if err := os.WriteFile(path, pack(data), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		l, d := file("layout", layout), file("docker", docker)
		layersMatch(t, "oci-archive:"+l+":first", "/bin/sh", o, base, one)
		img := layersMatch(t, "oci-archive:"+l+":second", "/bin/sh", o, base, two)
		if img.Digest != second.Digest.String() {
			t.Errorf("digest %s, want that of the layout's manifest", img.Digest)
		}
		if got, err := ResolveDigest(t.Context(), mustNormalize(t, "oci-archive:"+l+":first"), img.Digest, o); err != nil || got.Digest != img.Digest {
			t.Errorf("by digest: %+v, %v", got, err)
		}
		layersMatch(t, "docker-archive:"+d+":a", "a:latest", o, base, one)
		img = layersMatch(t, "docker-archive:"+d+":example.org/b:v1", "example.org/b:v1", o, base, two)
		if img.Layers[0].Digest != sumOf(base).String() || img.Layers[0].DiffID != img.Layers[0].Digest {
			t.Errorf("layer %+v, want one that is stored as it is", img.Layers[0])
		}
		cached, err := os.ReadDir(filepath.Join(o.CacheDir, "blobs", "sha256"))
		if (ext == ".tar") != (err != nil || len(cached) == 0) {
			t.Errorf("%s: %d files in the cache, %v", ext, len(cached), err)
		}
		for _, e := range cached {
			if strings.HasSuffix(e.Name(), partialSuffix) {
				t.Errorf("left behind: %s", e.Name())
			}
		}
		for ref, hint := range map[string]string{
			"docker-archive:" + d + ":c":    "a:latest, example.org/b:v1",
			"docker-archive:" + d:           "choose one",
			"docker-archive:" + l:           "docker save",
			"oci-archive:" + d:              "index.json",
			"oci-archive:" + l:              "oci-archive:" + l + ":first",
			"oci-archive:" + l + ":missing": "there is first, second",
		} {
			if _, err := Resolve(t.Context(), mustNormalize(t, ref), o); err == nil || !strings.Contains(api.HintOf(err), hint) {
				t.Errorf("%s: %v, hint %q, want one with %q", ref, err, api.HintOf(err), hint)
			}
		}
	}
}

// Archives that are damaged, or lie.
func TestBadArchives(t *testing.T) {
	t.Parallel()
	layer := tarOf(1, 3000)
	for _, tt := range []struct {
		name string
		edit func(files map[string][]byte)
		says string
	}{
		{"layer is missing", func(f map[string][]byte) { delete(f, sumOf([]byte("a:1")).Hex+"-0/layer.tar") }, "no file"},
		{"layer is a link to itself", func(f map[string][]byte) {
			f[sumOf([]byte("a:1")).Hex+"-0/layer.tar"] = []byte("->layer.tar")
		}, "no file"},
		{"layer is another", func(f map[string][]byte) { f[sumOf([]byte("a:1")).Hex+"-0/layer.tar"] = tarOf(2, 3000) }, "digest"},
		{"no manifest", func(f map[string][]byte) { delete(f, "manifest.json") }, "manifest.json"},
		{"no image", func(f map[string][]byte) { f["manifest.json"] = []byte("[]") }, "no image"},
		{"manifest is no JSON", func(f map[string][]byte) { f["manifest.json"] = []byte("{") }, "manifest.json"},
		{"more layers than diffIDs", func(f map[string][]byte) {
			f["manifest.json"] = bytes.Replace(f["manifest.json"], []byte(`"Layers":[`), []byte(`"Layers":["x",`), 1)
		}, "2 layers"},
	} {
		for _, pack := range []func([]byte) []byte{func(b []byte) []byte { return b }, gz} {
			files := dockerFiles(map[string][][]byte{"a:1": {layer}})
			tt.edit(files)
			path := filepath.Join(t.TempDir(), "x.tar")
			if err := os.WriteFile(path, pack(archiveOf(files)), 0o600); err != nil {
				t.Fatal(err)
			}
			img, err := Resolve(t.Context(), mustNormalize(t, "docker-archive:"+path), testOptions(t))
			if err == nil {
				_, err = readLayer(t, img.Layers[0], nil)
			}
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s: %v, want an error about %q", tt.name, err, tt.says)
			}
		}
	}
	for name, data := range map[string][]byte{"empty": nil, "short": []byte("x"), "noise": noise(1, 5000), "cut": gz(archiveOf(dockerFiles(map[string][][]byte{"a:1": {layer}})))[:2000]} {
		path := filepath.Join(t.TempDir(), "x.tar")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		o := testOptions(t)
		if _, err := Resolve(t.Context(), mustNormalize(t, "oci-archive:"+path), o); err == nil {
			t.Errorf("%s: no error", name)
		}
		if left, _ := filepath.Glob(filepath.Join(o.CacheDir, "blobs", "sha256", "*"+partialSuffix)); len(left) > 0 {
			t.Errorf("%s: left behind: %q", name, left)
		}
	}
}

// The Docker daemon is asked for what it has.
func TestDockerDaemon(t *testing.T) {
	t.Parallel()
	layer := tarOf(1, 9000)
	dir, err := os.MkdirTemp("", "banger-docker-") // a short path
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", filepath.Join(dir, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/images/get" || r.URL.Query().Get("names") != "docker.io/library/app:v1" {
			w.WriteHeader(http.StatusNotFound)
			w.Write([]byte(`{"message":"reference does not exist"}`))
			return
		}
		w.Write(archiveOf(dockerFiles(map[string][][]byte{"app:v1": {layer}})))
	})}
	go srv.Serve(l)
	defer srv.Close()

	o := testOptions(t)
	o.DockerHost = "unix://" + filepath.Join(dir, "sock")
	img := layersMatch(t, "docker-daemon:app:v1", "app:v1", o, layer)
	if want := "docker-daemon:docker.io/library/app:v1"; img.Ref != want {
		t.Errorf("ref %q, want %q", img.Ref, want)
	}
	_, err = Resolve(t.Context(), mustNormalize(t, "docker-daemon:other"), o)
	if !errors.Is(err, api.ErrNotFound) || !strings.Contains(err.Error(), "reference does not exist") {
		t.Errorf("an image that is not there: %v", err)
	}
	o.DockerHost = "unix://" + filepath.Join(dir, "none")
	if _, err = Resolve(t.Context(), mustNormalize(t, "docker-daemon:app"), o); err == nil || !strings.Contains(api.HintOf(err), "is it running") {
		t.Errorf("no daemon: %v, hint %q", err, api.HintOf(err))
	}
	o.DockerHost = "tcp://192.0.2.1:2375"
	if _, err = Resolve(t.Context(), mustNormalize(t, "docker-daemon:app"), o); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a daemon elsewhere: %v", err)
	}
}

// What standard input held is in the cache, and means what it was said to mean.
func TestKeep(t *testing.T) {
	t.Parallel()
	layer := tarOf(1, 300_000)
	c := content{}
	for _, tt := range []struct {
		data   []byte
		scheme string
	}{
		{layer, "tar"},
		{gz(layer), "tar"},
		{[]byte("x"), "tar"},
		{c.layoutArchive(index(c.simple(layer))), "oci-archive"},
		{archiveOf(dockerFiles(map[string][][]byte{"a:1": {layer}})), "docker-archive"},
	} {
		o := testOptions(t)
		for range 2 { // the second finds it there
			path, err := Keep(t.Context(), bytes.NewReader(tt.data), o)
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(got, tt.data) || filepath.Base(path) != sumOf(tt.data).Hex {
				t.Errorf("%s: %d bytes, %v; want %d", path, len(got), err, len(tt.data))
			}
			if got := SchemeOf(path); got != tt.scheme {
				t.Errorf("it is %s, want %s", got, tt.scheme)
			}
			if all, _ := filepath.Glob(filepath.Join(o.CacheDir, "blobs", "sha256", "*")); len(all) != 1 {
				t.Errorf("in the cache: %q", all)
			}
		}
	}
}

func TestOnStdin(t *testing.T) {
	t.Parallel()
	for ref, want := range map[string]string{
		"-": "tar:/x", "tar:-": "tar:/x", "oci-archive:-": "oci-archive:/x", "oci-archive:-:v1": "oci-archive:/x:v1",
		"docker-archive:-:a:b": "docker-archive:/x:a:b",
		"oci:-":                "", "docker-daemon:-": "", "tar:-x": "", "debian": "", "-:x": "",
	} {
		got := ""
		if saved, ok := OnStdin(ref); ok {
			got = saved("/x")
		}
		if got != want {
			t.Errorf("OnStdin(%q): %q, want %q", ref, got, want)
		}
	}
}

// Archives larger than what is allowed.
func TestArchiveLimits(t *testing.T) {
	t.Parallel()
	var many bytes.Buffer
	w := tar.NewWriter(&many)
	for i := range maxMembers + 1 {
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeLink, Name: fmt.Sprint(i), Linkname: "x"})
	}
	w.Close()
	for name, data := range map[string][]byte{"many": many.Bytes(), "large": gz(archiveOf(map[string][]byte{"large": noise(1, 5000)}))} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		o := testOptions(t)
		o.MaxLayerBytes = 4999
		if _, err := Resolve(t.Context(), mustNormalize(t, "oci-archive:"+path), o); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "more than") {
			t.Errorf("%s: %v, want an error about the limit", name, err)
		}
	}
}
