package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aead.dev/minisign"

	"banger/internal/api"
	"banger/internal/vmm"
)

// TestCatalog goes the whole way of a bundle: one makes and signs it, another
// trusts the key and runs the name.
func TestCatalog(t *testing.T) {
	need(t, "qemu")
	maker, dir := newHost(t), t.TempDir()
	layout := writeLayout(t, busybox(t, inquisitive))
	built := build(t, maker, filepath.Join(dir, "box.tar.zst"), "--name", "box", "--description", "busybox, to try", layout)
	maker.banger(t, "image", "pull", "--name", "box", layout)
	if again := build(t, maker, filepath.Join(dir, "again.tar.zst"), "box"); again.Bundle.SHA256 != built.Bundle.SHA256 {
		t.Errorf("the bundle of the image is %s, that of its ref %s; want the same", again.Bundle.SHA256, built.Bundle.SHA256)
	}
	if r := maker.try(t, "bundle", "build", "-o", filepath.Join(dir, "box.tar.zst"), "box"); r.code != 1 || !strings.Contains(r.stderr, "--force") {
		t.Errorf("build over a file: exit status %d, want 1\n%s", r.code, r.stderr)
	}
	list, key := writeCatalog(t, dir, built)
	srv := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer srv.Close()
	url := srv.URL + "/" + filepath.Base(list)

	user := newHost(t).withKernel(t)
	if r := user.try(t, "catalog", "add", "acme", url); r.code != 1 || !strings.Contains(r.stderr, "hint: ") || !strings.Contains(r.stderr, "--key") {
		t.Errorf("add without a key: exit status %d, want 1 and the way out\n%s", r.code, r.stderr)
	}
	user.banger(t, "catalog", "add", "acme", url, "--key", key)
	r := user.try(t, "vm", "run", "--memory", "256M", "box")
	want := "args one two words\nid 1234 2345\ndir /home/app\nenv hello there\nparent is 1: 1\n"
	if r.stdout != want || r.code != 3 {
		t.Errorf("vm run box: got %q and exit status %d, want %q and 3\n%s", r.stdout, r.code, want, r.stderr)
	}
	made, got := show[api.Image](t, maker, "image", "box"), show[api.Image](t, user, "image", "box")
	if got.Ref != "catalog:box" || got.Digest != "sha256:"+built.Bundle.SHA256 || fileSum(t, got.RootfsPath) != fileSum(t, made.RootfsPath) {
		t.Errorf("pulled %+v, want the disk that was made", got)
	}

	// Somebody is in between: the catalog that is here stays, and says so.
	b, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(list, bytes.Replace(b, []byte("to try"), []byte("to rob"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := user.try(t, "catalog", "update"); r.code != 1 || !strings.Contains(r.stderr, "signature") {
		t.Errorf("update of a catalog that was tampered with: exit status %d, want 1\n%s", r.code, r.stderr)
	}
	srv.Close()
	user.banger(t, "catalog", "verify")
	if out := user.banger(t, "catalog", "list"); !strings.Contains(out, "to try") || !strings.Contains(out, "debian-bookworm") {
		t.Errorf("catalog list without the network:\n%s", out)
	}
	user.banger(t, "image", "pull", "box", "--name", "second", "--size", "3G") // from the cache
	user.clean(t, "box", "second")
}

// TestBundlePush stores a bundle in a registry and pulls it from there.
func TestBundlePush(t *testing.T) {
	addr := startRegistry(t)
	h, dir := newHost(t), t.TempDir()
	bundle := filepath.Join(dir, "tiny.tar.zst")
	built := build(t, h, bundle, "--name", "tiny", writeLayout(t, oneFile(t, "tiny")))
	var pushed api.CatalogEntry
	out := h.banger(t, "bundle", "push", "--json", bundle, addr+"/lab/bundles:tiny")
	if err := json.Unmarshal([]byte(out), &pushed); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if pushed.Bundle.URL != "oci:"+addr+"/lab/bundles" || pushed.Bundle.SHA256 != built.Bundle.SHA256 || pushed.Name != "tiny" {
		t.Errorf("pushed %+v of %+v", pushed.Bundle, built.Bundle)
	}
	list, _ := writeCatalog(t, dir, pushed)
	if err := os.Remove(bundle); err != nil {
		t.Fatal(err)
	}
	h.banger(t, "catalog", "add", "lab", list)
	h.banger(t, "image", "pull", "tiny")
	if img := show[api.Image](t, h, "image", "tiny"); img.Digest != "sha256:"+built.Bundle.SHA256 {
		t.Errorf("pulled %+v", img)
	}
	if r := h.try(t, "bundle", "push", list, addr+"/lab/bundles:list"); r.code != 1 {
		t.Errorf("push of what is no bundle: exit status %d, want 1", r.code)
	}
	h.clean(t, "tiny")
}

// TestRecipe makes Debian from this machine's own package sources, by the name in
// the catalog that is part of banger, and boots its systemd.
func TestRecipe(t *testing.T) {
	if os.Getenv("BANGER_LONG") == "" {
		t.Skip("a minute of apt and a minute of systemd: make test-long")
	}
	need(t, "qemu", "mmdebstrap")
	h := newHost(t).withKernel(t)
	if h.try(t, "catalog", "show", "debian-bookworm").code != 0 {
		t.Fatal("there is no debian-bookworm")
	}
	out := h.banger(t, "vm", "run", "--name", "own", "debian-bookworm", "--", "sh", "-c",
		`. /etc/os-release; echo $VERSION_CODENAME; cat /proc/1/comm; ls -l /usr/bin/sudo | cut -c-10; hostname; tail -n1 /etc/resolv.conf`)
	if want := "bookworm\nsystemd\n-rwsr-xr-x\nown\nnameserver " + vmm.GuestDNS + "\n"; out != want {
		t.Errorf("in the VM: %q, want %q", out, want)
	}
	h.banger(t, "vm", "rm", "--force", "own")
	before := show[api.Image](t, h, "image", "debian-bookworm")
	h.banger(t, "image", "pull", "debian-bookworm")
	if after := show[api.Image](t, h, "image", "debian-bookworm"); after.ID != before.ID && after.Digest == before.Digest {
		t.Errorf("made again: image %s with digest %s, want that it is up to date", after.ID, after.Digest)
	}
	h.clean(t, "debian-bookworm")
}

// build builds a bundle and returns the entry that is printed for it.
func build(t *testing.T, h *host, out string, args ...string) (e api.CatalogEntry) {
	t.Helper()
	text := h.banger(t, append([]string{"bundle", "build", "--json", "-o", out}, args...)...)
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if e.Bundle == nil || e.Bundle.SHA256 != fileSum(t, out) || e.Bundle.URL != filepath.Base(out) {
		t.Fatalf("the entry of %s is %s", out, text)
	}
	return e
}

// writeCatalog writes a signed catalog of the entries as they were printed.
func writeCatalog(t *testing.T, dir string, entries ...api.CatalogEntry) (path, key string) {
	t.Helper()
	b, err := json.Marshal(map[string]any{"version": 1, "entries": entries})
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "catalog.json")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".minisig", minisign.Sign(private, b), 0o644); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(public.String()), "\n")
	return path, lines[len(lines)-1]
}

func fileSum(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}
