package daemon

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"banger/ext4"
	"banger/internal/api"
	"banger/internal/bundle"
)

// site is a web server of files, that also counts.
type site struct {
	url string

	mu    sync.Mutex
	files map[string][]byte
	gets  map[string]int
	cut   int // the next GET with this many bytes or more breaks off there; 0: none
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{files: map[string][]byte{}, gets: map[string]int{}}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	data, cut := s.files[r.URL.Path], s.cut
	s.gets[r.URL.Path]++
	if s.cut = 0; cut > len(data) {
		s.cut, cut = cut, 0
	}
	s.mu.Unlock()
	switch {
	case data == nil:
		http.NotFound(w, r)
	case cut > 0:
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data[:cut])
		panic(http.ErrAbortHandler)
	default:
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}
}

func (s *site) put(path string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path] = data
}

func (s *site) count(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gets[path]
}

// publish puts the entries into a catalog at /catalog.json.
func (s *site) publish(t *testing.T, kernels []api.CatalogKernel, entries ...api.CatalogEntry) {
	t.Helper()
	b, err := json.Marshal(map[string]any{"version": 1, "entries": entries, "kernels": kernels})
	if err != nil {
		t.Fatal(err)
	}
	s.put("/catalog.json", b)
}

// rootfs makes a file system of 8 MiB that differs by its text.
func rootfs(t *testing.T, text string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "rootfs.ext4"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	w, err := ext4.NewWriter(f, ext4.Options{Size: 8 << 20, NoJournal: true})
	if err != nil {
		t.Fatal(err)
	}
	c, err := w.WriteContent(strings.NewReader(text), int64(len(text)))
	if err == nil {
		_, err = w.Create(ext4.Root, "hostname", &ext4.Header{Mode: 0o644, Content: c})
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return f
}

// bundle puts the bundle of a file system at /<name>.tar.zst and returns the
// catalog's entry for it.
func (s *site) bundle(t *testing.T, disk *os.File, m bundle.Manifest) api.CatalogEntry {
	t.Helper()
	var b bytes.Buffer
	if _, err := bundle.Pack(t.Context(), &b, disk, m, nil); err != nil {
		t.Fatal(err)
	}
	path := "/" + m.Name + ".tar.zst"
	s.put(path, b.Bytes())
	return api.CatalogEntry{Name: m.Name, Arch: m.Arch, KernelRef: m.KernelRef, Bundle: file(path[1:], b.Bytes())}
}

func file(url string, data []byte) *api.CatalogFile {
	sum := sha256.Sum256(data)
	return &api.CatalogFile{URL: url, SHA256: hex.EncodeToString(sum[:]), Size: int64(len(data))}
}

// here is a manifest for this machine.
func here(name string) bundle.Manifest {
	return bundle.Manifest{Name: name, Arch: runtime.GOARCH, Process: api.Process{Cmd: []string{"/bin/sh"}}}
}

func contents(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// imageDirs are what there is in the images' directory.
func (d *testDaemon) imageDirs() []string {
	d.t.Helper()
	entries, err := os.ReadDir(d.images.Dir)
	if err != nil && !os.IsNotExist(err) {
		d.t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestPullBundle(t *testing.T) {
	d, s := newTestDaemon(t), newSite(t)
	disk := rootfs(t, "web")
	s.publish(t, nil, s.bundle(t, disk, here("web")))
	d.call("catalog.add", api.CatalogAdd{Name: "acme", Source: s.url + "/catalog.json", Insecure: true}, nil)

	// The connection breaks in the middle; the rest is asked for.
	s.cut = len(s.files["/web.tar.zst"]) / 2
	choice := api.KernelChoice{KernelRef: "k"}
	var img api.Image
	d.stream("image.pull", api.ImagePull{Ref: "web", KernelChoice: choice}, &img)
	want := sha256.Sum256(s.files["/web.tar.zst"])
	if img.Name != "web" || img.Ref != "catalog:web" || img.Digest != "sha256:"+hex.EncodeToString(want[:]) || !img.Managed ||
		img.Platform != "linux/"+runtime.GOARCH || img.SizeBytes != 8<<20 || !slices.Equal(img.Process.Cmd, []string{"/bin/sh"}) || img.KernelRef != "k" {
		t.Errorf("got %+v", img)
	}
	if !bytes.Equal(contents(t, img.RootfsPath), contents(t, disk.Name())) {
		t.Error("rootfs.ext4 is not what was packed")
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(img.RootfsPath), "manifest.json")); !os.IsNotExist(err) {
		t.Errorf("manifest.json: %v, want that it is not kept", err)
	}
	if got := s.count("/web.tar.zst"); got != 2 {
		t.Errorf("%d requests for the bundle, want 2", got)
	}

	// Again: up to date, without a look at it. By another name: from the cache.
	var again api.Image
	d.stream("image.pull", api.ImagePull{Ref: "catalog:web", KernelChoice: choice}, &again)
	if again.ID != img.ID {
		t.Error("pulled again it is another image")
	}
	d.stream("image.pull", api.ImagePull{Ref: "web", Name: "two", KernelChoice: choice, SizeBytes: 20 << 20}, &again)
	if b := contents(t, again.RootfsPath); again.SizeBytes != 20<<20 || len(b) != 20<<20 || !bytes.Equal(b[:8<<20], contents(t, disk.Name())) {
		t.Errorf("with a size: got %d bytes, row says %d", len(b), again.SizeBytes)
	}
	if got := s.count("/web.tar.zst"); got != 2 {
		t.Errorf("%d requests for the bundle in the end, want 2", got)
	}

	// The catalog names another bundle: nothing happens until it is updated.
	s.publish(t, nil, s.bundle(t, rootfs(t, "web, the second"), here("web")))
	d.stream("image.pull", api.ImagePull{Ref: "web", KernelChoice: choice}, &again)
	if again.ID != img.ID {
		t.Error("the new bundle was found without an update")
	}
	d.stream("catalog.update", api.CatalogUpdate{}, nil)
	d.stream("image.pull", api.ImagePull{Ref: "web", KernelChoice: choice}, &again)
	if again.ID == img.ID || slices.Contains(d.imageDirs(), img.ID) {
		t.Errorf("after the update: image %s and directories %v, want another and the first one gone", again.ID, d.imageDirs())
	}

	// Without the network, what is cached can be pulled, and listed.
	d.call("image.rm", api.ImageRemove{Name: "web"}, nil)
	s.put("/catalog.json", nil)
	s.put("/web.tar.zst", nil)
	d.stream("image.pull", api.ImagePull{Ref: "web", KernelChoice: choice}, nil)
	var entries []api.CatalogEntry
	if d.call("catalog.list", nil, &entries); len(entries) < 2 || entries[0].Name != "web" || entries[0].Catalog != "acme" {
		t.Errorf("catalog.list: got %+v", entries)
	}
	d.sound()
}

// TestPullBundleRefused holds that nothing is left of a bundle that is not what
// it should be.
func TestPullBundleRefused(t *testing.T) {
	d, s := newTestDaemon(t), newSite(t)
	disk := rootfs(t, "web")
	good := s.bundle(t, disk, here("web"))
	notFS := packed(t, "notfs", []byte("no file system"))
	s.put("/notfs.tar.zst", notFS)
	add := func(name string, change func(*api.CatalogEntry)) api.CatalogEntry {
		e := good
		b := *good.Bundle
		e.Name, e.Bundle = name, &b
		change(&e)
		return e
	}
	s.publish(t, nil, good,
		add("other-name", func(*api.CatalogEntry) {}),
		add("size-more", func(e *api.CatalogEntry) { e.Bundle.Size++ }),
		add("size-less", func(e *api.CatalogEntry) { e.Bundle.Size-- }),
		add("sha", func(e *api.CatalogEntry) { e.Bundle.SHA256 = strings.Repeat("0", 64) }),
		add("gone", func(e *api.CatalogEntry) { e.Bundle.URL, e.Bundle.SHA256 = "gone.tar.zst", strings.Repeat("1", 64) }),
		add("notfs", func(e *api.CatalogEntry) { e.Bundle = file("notfs.tar.zst", notFS) }),
		s.bundle(t, disk, bundle.Manifest{Name: "kernel", Arch: runtime.GOARCH, KernelRef: "k"}),
		add("nokernel", func(e *api.CatalogEntry) { e.KernelRef = "none" }),
		add("elsewhere", func(e *api.CatalogEntry) { e.Arch = "s390x" }),
	)
	d.call("catalog.add", api.CatalogAdd{Name: "acme", Source: s.url + "/catalog.json", Insecure: true}, nil)
	for _, tt := range []struct {
		name string
		req  api.ImagePull
		want string
	}{
		{"name", api.ImagePull{Ref: "other-name"}, `its name is "web"`},
		{"size more", api.ImagePull{Ref: "size-more"}, "wrong size"},
		{"size less", api.ImagePull{Ref: "size-less"}, "wrong size"},
		{"sha", api.ImagePull{Ref: "sha"}, "wrong digest"},
		{"gone", api.ImagePull{Ref: "gone"}, "not found"},
		{"not a file system", api.ImagePull{Ref: "notfs"}, "rootfs in the bundle"},
		{"kernel of the entry is missing", api.ImagePull{Ref: "nokernel"}, "kernel none"},
		{"another architecture", api.ImagePull{Ref: "elsewhere"}, "s390x"},
		{"another architecture asked for", api.ImagePull{Ref: "web", Platform: "linux/s390x"}, runtime.GOARCH},
		{"too small", api.ImagePull{Ref: "web", SizeBytes: 4 << 20}, "8MiB"},
		{"without guest files", api.ImagePull{Ref: "web", NoGuestFiles: true}, "bundle"},
		{"unknown name of a catalog", api.ImagePull{Ref: "catalog:nothing"}, "not found"},
		{"name with a path", api.ImagePull{Ref: "web", Name: "../web"}, "name"},
		{"kernel and files", api.ImagePull{Ref: "web", KernelChoice: api.KernelChoice{KernelRef: "k", KernelPath: "/boot/x"}}, "files are given"},
	} {
		err := d.Stream(t.Context(), "image.pull", tt.req, nil, nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error with %q", tt.name, err, tt.want)
		}
		if left := d.imageDirs(); len(left) != 0 {
			t.Errorf("%s: left behind %v", tt.name, left)
		}
	}
	// Another source has the name: said before anything is asked for.
	d.pull("web")
	before := s.count("/web.tar.zst")
	if err := d.Stream(t.Context(), "image.pull", api.ImagePull{Ref: "web"}, nil, nil); !errors.Is(err, api.ErrExists) {
		t.Errorf("a name that is taken: got %v, want ErrExists", err)
	}
	if s.count("/web.tar.zst") != before {
		t.Error("a name that is taken: it was downloaded first")
	}
	d.sound()
}

// packed packs what need not be a file system.
func packed(t *testing.T, name string, rootfs []byte) []byte {
	t.Helper()
	sum := sha256.Sum256(rootfs)
	m := here(name)
	m.Version, m.Rootfs = bundle.Version, bundle.Rootfs{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(rootfs))}
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, data := range map[string][]byte{"manifest.json": text, "rootfs.ext4": rootfs} {
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: 0o644})
		if err == nil {
			_, err = w.Write(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	z, err := zstd.NewWriter(nil)
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll(b.Bytes(), nil)
}

// TestKernelOfBundle is the rule: --kernel-ref, else the entry's, else files, else
// the default.
func TestKernelOfBundle(t *testing.T) {
	d, s := newTestDaemon(t), newSite(t)
	path := filepath.Join(d.src, "Image")
	d.stream("kernel.import", api.KernelImport{Path: path, Name: "k2"}, nil)
	disk := rootfs(t, "web")
	wants := here("wants")
	wants.KernelRef = "k2"
	s.publish(t, nil, s.bundle(t, disk, here("web")), s.bundle(t, disk, wants))
	d.call("catalog.add", api.CatalogAdd{Name: "acme", Source: s.url + "/catalog.json", Insecure: true}, nil)
	files := api.KernelChoice{KernelPath: path}
	for i, tt := range []struct {
		ref    string
		choice api.KernelChoice
		want   string // kernel_ref; "": by path
		warned bool
	}{
		{"web", api.KernelChoice{KernelRef: "k"}, "k", false},
		{"wants", api.KernelChoice{KernelRef: "k"}, "k", false},
		{"wants", api.KernelChoice{}, "k2", false},
		{"wants", files, "k2", true},
		{"web", files, "", false},
	} {
		var img api.Image
		warned := false
		err := d.Stream(t.Context(), "image.pull", api.ImagePull{Ref: tt.ref, Name: fmt.Sprint("i", i), KernelChoice: tt.choice},
			func(e api.Event) { warned = warned || e.Warning }, &img)
		if err != nil || img.KernelRef != tt.want || img.KernelPath == "" || warned != tt.warned {
			t.Errorf("%s with %+v: got kernel %q at %q, warned %v, %v; want %q and warned %v", tt.ref, tt.choice, img.KernelRef, img.KernelPath, warned, err, tt.want, tt.warned)
		}
	}
}

func TestPullCatalogKernel(t *testing.T) {
	d, s := newTestDaemon(t), newSite(t)
	image := contents(t, filepath.Join(d.src, "Image"))
	s.put("/Image", image)
	entry := func(name, arch, url string) api.CatalogKernel {
		return api.CatalogKernel{Name: name, Arch: arch, CatalogFile: *file(url, image)}
	}
	s.publish(t, []api.CatalogKernel{entry("fast", "arm64", "Image"), entry("lies", "amd64", "Image"), entry("debian", "arm64", "Image"), entry("k", "arm64", "Image")})
	d.call("catalog.add", api.CatalogAdd{Name: "acme", Source: s.url + "/catalog.json", Insecure: true}, nil)
	var kernels []api.CatalogKernel
	if d.call("catalog.kernels", nil, &kernels); len(kernels) != 4 || kernels[0].URL != s.url+"/Image" {
		t.Errorf("catalog.kernels: got %+v", kernels)
	}
	var k api.Kernel
	d.stream("kernel.pull", api.KernelPull{Source: "fast", Arch: "arm64"}, &k)
	if k.Name != "fast" || k.Arch != "arm64" || k.Release != "6.6.6-test" || !strings.Contains(k.Source, "acme") {
		t.Errorf("got %+v", k)
	}
	made := k.CreatedAt
	d.stream("kernel.pull", api.KernelPull{Source: "fast", Arch: "arm64"}, &k)
	if got := s.count("/Image"); got != 1 || !k.CreatedAt.Equal(made) {
		t.Errorf("again: %d downloads, want 1", got)
	}
	image = bytes.Replace(image, []byte("6.6.6"), []byte("6.6.7"), 1)
	s.put("/Image", image)
	s.publish(t, []api.CatalogKernel{entry("fast", "arm64", "Image"), entry("lies", "amd64", "Image"), entry("k", "arm64", "Image")})
	d.stream("catalog.update", api.CatalogUpdate{Name: "acme"}, nil)
	d.stream("kernel.pull", api.KernelPull{Source: "fast", Arch: "arm64"}, &k)
	if k.Release != "6.6.7-test" {
		t.Errorf("the new one: got %+v", k)
	}
	for _, tt := range []struct {
		req  api.KernelPull
		want string
	}{
		{api.KernelPull{Source: "lies", Arch: "amd64"}, "says amd64"},
		{api.KernelPull{Source: "fast", Arch: "amd64"}, "only for arm64"},
		{api.KernelPull{Source: "nothing"}, "not found"},
		{api.KernelPull{Source: "k", Arch: "arm64"}, "exists already"}, // imported, not from a catalog
		{api.KernelPull{Source: "fast", Arch: "arm64", Name: "../x"}, "name"},
	} {
		if err := d.Stream(t.Context(), "kernel.pull", tt.req, nil, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v, want an error with %q", tt.req, err, tt.want)
		}
	}
	d.sound()
}
