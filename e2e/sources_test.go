package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSources makes the same disk of one image as skopeo writes it in each of the
// forms that we read, compressed and from standard input as well.
func TestSources(t *testing.T) {
	t.Parallel()
	need(t, "skopeo")
	h := newHost(t)
	ref := writeLayout(t, busybox(t, sleeper))
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, to := range []string{"oci-archive:" + in("oci.tar") + ":v1", "docker-archive:" + in("docker.tar") + ":box:v1"} {
		tool(t, "skopeo", "--insecure-policy", "copy", "--quiet", ref, to)
	}
	for _, name := range []string{"oci.tar", "docker.tar"} {
		tool(t, "gzip", "--keep", in(name))
	}
	for _, tt := range []struct{ ref, stdin string }{
		{ref, ""},
		{"oci-archive:" + in("oci.tar"), ""},
		{"oci-archive:" + in("oci.tar.gz") + ":v1", ""},
		{"docker-archive:" + in("docker.tar"), ""},
		{"docker-archive:" + in("docker.tar.gz") + ":box:v1", ""},
		{"-", "oci.tar"},
		{"-", "docker.tar"},
		{"docker-archive:-:box:v1", "docker.tar.gz"},
	} {
		disk := in("disk")
		if r := h.feed(t, in(tt.stdin), "convert", "--force", tt.ref, "-o", disk); r.code != 0 {
			t.Errorf("convert %s: exit status %d\n%s", tt.ref, r.code, r.stderr)
			continue
		}
		h.banger(t, "image", "export", "--force", disk, "-o", in("got.tar"))
		if tt.ref == ref {
			if err := os.Rename(in("got.tar"), in("want.tar")); err != nil {
				t.Fatal(err)
			}
		} else if fileSum(t, in("got.tar")) != fileSum(t, in("want.tar")) {
			t.Errorf("convert %s of %s: another tree than of %s", tt.ref, tt.stdin, ref)
		}
	}

	// What is pulled from standard input can be verified: the cache keeps it.
	if r := h.feed(t, in("docker.tar"), "image", "pull", "-"); r.code != 2 || !strings.Contains(r.stderr, "--name") {
		t.Errorf("pull without a name: exit status %d, want 2\n%s", r.code, r.stderr)
	}
	if r := h.feed(t, in("docker.tar"), "image", "pull", "--name", "box", "-"); r.code != 0 || r.stdout != "box\n" {
		t.Errorf("pull: exit status %d\n%s", r.code, r.stderr)
	}
	h.banger(t, "image", "cache", "prune")
	if out := h.banger(t, "image", "verify", "box"); !strings.Contains(out, "equal to its layers") {
		t.Errorf("verify: %s", out)
	}
	h.clean(t, "box")
}

// feed runs banger with a file as its standard input.
func (h *host) feed(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	cmd := h.command(ctx, args...)
	f, err := os.Open(stdin)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd.Stdin = f
	return run(t, cmd)
}
