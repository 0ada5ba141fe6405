package e2e

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// TestPullFaults gives image pull what it cannot use: an error that says so,
// nothing left behind, and a host that works on.
func TestPullFaults(t *testing.T) {
	addr := serveRegistry(t, nil)
	tiny, other := oneFile(t, "tiny"), oneFile(t, "other")
	foreign, err := mutate.ConfigFile(tiny, &v1.ConfigFile{OS: "linux", Architecture: "s390x", RootFS: rootFS(t, tiny)})
	if err != nil {
		t.Fatal(err)
	}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{
		Add: foreign, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "s390x"}},
	})
	push(t, addr+"/tiny:1", tiny)
	push(t, addr+"/other:1", other)
	pushIndex(t, addr+"/foreign:1", index)
	corrupt := serveRegistry(t, func(layer []byte) []byte {
		return append(bytes.Clone(layer[:len(layer)-1]), layer[len(layer)-1]^1)
	})
	push(t, corrupt+"/corrupt:1", oneFile(t, "corrupt"))
	short := serveRegistry(t, func(layer []byte) []byte { return layer[:len(layer)/2] })
	push(t, short+"/short:1", oneFile(t, "short"))
	hostile := image(t, v1.Config{}, layer(t, file("etc/.wh.", 0o644, nil)))

	h := newHost(t)
	h.banger(t, "image", "pull", "--name", "tiny", addr+"/tiny:1")
	for name, c := range map[string]struct {
		args []string
		want []string // all in the message
	}{
		"unknown tag":        {[]string{addr + "/tiny:2"}, []string{"tiny:2", "not found"}},
		"unknown repository": {[]string{addr + "/nobody/has:1"}, []string{"nobody/has", "not found"}},
		"no registry":        {[]string{"127.0.0.1:1/tiny:1"}, []string{"127.0.0.1:1", "connection refused"}},
		"malformed ref":      {[]string{"Not A Ref"}, []string{"Not A Ref"}},
		"no such layout":     {[]string{"oci:/nowhere"}, []string{"/nowhere"}},
		"no such tar":        {[]string{"tar:/nowhere.tar"}, []string{"/nowhere.tar"}},
		"wrong platform":     {[]string{addr + "/foreign:1"}, []string{"linux/amd64", "linux/s390x"}},
		"corrupt layer":      {[]string{corrupt + "/corrupt:1"}, []string{"sha256:"}},
		"truncated layer":    {[]string{short + "/short:1"}, []string{"sha256:"}},
		"hostile layer":      {[]string{writeLayout(t, hostile)}, []string{".wh."}},
		"missing kernel ref": {[]string{"--kernel-ref", "nosuch", addr + "/other:1"}, []string{"nosuch", "not found", "hint:"}},
		"missing kernel":     {[]string{"--kernel", "/nowhere/vmlinux", addr + "/other:1"}, []string{"/nowhere/vmlinux"}},
		"name taken":         {[]string{"--name", "tiny", addr + "/other:1"}, []string{"tiny", "exists already", "hint:"}},
		"invalid name":       {[]string{"--name", "../x", addr + "/other:1"}, []string{"../x"}},
		"too small":          {[]string{"--size", "1M", addr + "/other:1"}, []string{"blocks", "inodes"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := h.try(t, append([]string{"image", "pull"}, c.args...)...)
			if r.code != 1 || r.stdout != "" {
				t.Errorf("exit status %d and output %q, want 1 and none", r.code, r.stdout)
			}
			for _, want := range c.want {
				if !strings.Contains(r.stderr, want) {
					t.Errorf("the message has no %q:\n%s", want, r.stderr)
				}
			}
			h.clean(t, "tiny")
		})
	}
}

// serveRegistry runs a registry in memory. Layers are served as damage leaves
// them, when it is not nil.
func serveRegistry(t *testing.T, damage func([]byte) []byte) (addr string) {
	t.Helper()
	store := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if damage == nil || r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/sha256:") {
			store.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		store.ServeHTTP(rec, r)
		body := rec.Body.Bytes()
		if gzip := []byte{0x1f, 0x8b}; bytes.HasPrefix(body, gzip) {
			body = damage(body)
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(body) // the client may have gone
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

// TestFullDisk pulls more than the host's disk can hold.
func TestFullDisk(t *testing.T) {
	need(t, "root", "banger")
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=24m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	h := newHostIn(t, filepath.Join(disk, "home"))
	if err := os.Mkdir(h.home, 0o700); err != nil {
		t.Fatal(err)
	}
	big := make([]byte, 40<<20)
	for i := range big {
		big[i] = byte(i>>12) | 1 // small when compressed, and no holes
	}
	ref := writeLayout(t, image(t, v1.Config{}, layer(t, file("big", 0o644, big))))
	r := h.try(t, "image", "pull", "--name", "big", ref)
	if r.code != 1 || !strings.Contains(r.stderr, "no space left") {
		t.Errorf("exit status %d, want 1 and \"no space left\"\n%s", r.code, r.stderr)
	}
	h.clean(t)
	tiny := writeLayout(t, oneFile(t, "tiny"))
	h.banger(t, "image", "pull", "--name", "tiny", tiny)
	h.clean(t, "tiny")
}

// TestNoQEMU runs an image on a host without QEMU.
func TestNoQEMU(t *testing.T) {
	h := newHost(t).withKernel(t)
	h.setenv("PATH", "/nonexistent")
	h.banger(t, "image", "pull", "--name", "box", writeLayout(t, busybox(t, inquisitive)))
	r := h.try(t, "vm", "run", "box")
	if r.code != 125 || !strings.Contains(r.stderr, "qemu-system-x86_64") || !strings.Contains(r.stderr, "hint:") {
		t.Errorf("exit status %d, want 125, QEMU's name and a hint\n%s", r.code, r.stderr)
	}
	h.clean(t, "box")
}

// TestSilentKVM boots where /dev/kvm opens and QEMU starts, but the guest never
// says a word: a fake QEMU that does not let KVM guests run. banger must notice,
// say so, and use software emulation.
func TestSilentKVM(t *testing.T) {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("KVM is not tried at all here: %v", err)
	}
	f.Close()
	h := newHost(t).withKernel(t)
	h.banger(t, "image", "pull", "--name", "box", writeLayout(t, busybox(t, inquisitive)))
	h.banger(t, "daemon", "stop") // the next one gets the other PATH
	fake := t.TempDir()
	real, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	tried := filepath.Join(fake, "tried")
	script := fmt.Sprintf(`#!/bin/bash
args=()
for a; do
	case $prev,$a in
	-accel,kvm*) args+=(tcg -S); echo >>%q ;; # -S: the processors stay stopped
	-cpu,host*) args+=(max) ;;
	*) args+=("$a") ;;
	esac
	prev=$a
done
exec %q "${args[@]}"
`, tried, real)
	if err := os.WriteFile(filepath.Join(fake, "qemu-system-x86_64"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	h.setenv("PATH", fake+":"+os.Getenv("PATH"))
	h.setenv("BANGER_ACCEL", "auto")
	for range 2 {
		r := h.try(t, "vm", "run", "box")
		if r.code != 3 || !strings.HasPrefix(r.stdout, "args one") || !strings.Contains(r.stderr, "software emulation") {
			t.Errorf("exit status %d and %q, want 3, the command's output and a warning\n%s", r.code, r.stdout, r.stderr)
		}
	}
	if b, err := os.ReadFile(tried); err != nil || len(b) != 1 {
		t.Errorf("KVM was tried %d times, want 1: the verdict is kept (%v)", len(b), err)
	}
	h.clean(t, "box")
}
