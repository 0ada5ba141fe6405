package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// recipe is what the Debian image is made by; its name is a digest of them.
var recipe = []string{"testdata/debian-layers", "../scripts/debian-image"}

// debianLayout returns an OCI layout with the image "debian", and makes it when
// this user has none of this recipe yet.
func debianLayout(t *testing.T) string {
	t.Helper()
	need(t, "root", "mmdebstrap", "umoci", "setcap", "setfacl", "setfattr")
	sum := sha256.New()
	for _, file := range recipe {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sum.Write(b)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	name := "debian-" + hex.EncodeToString(sum.Sum(nil)[:6])
	dir := filepath.Join(cache, "banger-test")
	layout := filepath.Join(dir, name)
	if _, err := os.Stat(layout); err == nil {
		return layout
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	tmp, err := os.MkdirTemp(dir, "making-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	start := time.Now()
	made := filepath.Join(tmp, "layout")
	tool(t, recipe[0], made)
	old, err := filepath.Glob(filepath.Join(dir, "debian-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range old {
		if err := os.RemoveAll(o); err != nil {
			t.Error(err)
		}
	}
	if err := os.Rename(made, layout); err != nil {
		t.Fatal(err)
	}
	t.Logf("made %s in %v", layout, time.Since(start).Round(time.Second))
	return layout
}

// startRegistry runs a registry on loopback, empty, for as long as the test
// runs, and returns its host:port.
func startRegistry(t *testing.T) string {
	t.Helper()
	need(t, "registry")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf(`version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}}
http: {addr: %q}
`, filepath.Join(dir, "data"), addr)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, "docker-registry", "serve", config)
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("the registry's log:\n%s", log.String())
		}
	})
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		res, err := http.Get("http://" + addr + "/v2/")
		if err == nil {
			res.Body.Close()
			return addr
		}
		if time.Now().After(deadline) {
			t.Fatalf("the registry does not answer: %v", err)
		}
	}
}

// pushDebian pushes the Debian image to a registry of its own and returns its ref.
func pushDebian(t *testing.T) (ref, layout string) {
	t.Helper()
	need(t, "skopeo")
	layout = debianLayout(t)
	ref = startRegistry(t) + "/test/debian:three-layers"
	tool(t, "skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", "oci:"+layout+":debian", "docker://"+ref)
	return ref, layout
}
