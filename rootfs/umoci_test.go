package rootfs

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// need skips a test without a tool, unless BANGER_REQUIRE says that the tool must be there.
func need(t *testing.T, tool string, found bool) {
	t.Helper()
	if found {
		return
	}
	required := strings.Split(os.Getenv("BANGER_REQUIRE"), ",")
	if slices.Contains(required, tool) || slices.Contains(required, "all") {
		t.Fatalf("BANGER_REQUIRE names %s, which is missing", tool)
	}
	t.Skipf("needs %s", tool)
}

// umociVersion is the version whose results the table has.
const umociVersion = "0.4.7"

// TestUmoci runs the conformance table through "umoci unpack" and checks that it
// agrees, or differs as the row says.
func TestUmoci(t *testing.T) {
	t.Parallel()
	_, err := exec.LookPath("umoci")
	need(t, "umoci", err == nil)
	need(t, "root", os.Getuid() == 0)
	need(t, "xattr", syscall.Setxattr(t.TempDir(), "user.banger", nil, 0) == nil)
	for r := range rows {
		if r.umoci == "*" {
			continue
		}
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			want := lines(r.want)
			switch {
			case r.umoci == "error" || r.err != "" && r.umoci == "":
				want = "error\n"
			case r.umoci != "":
				want = lines(r.umoci)
			}
			got, detail := umoci(t, r.layers)
			if got != want {
				t.Errorf("umoci got\n%swant\n%s%s", got, want, abbreviate(detail))
			}
			if r.umoci != "" && r.why == "" && r.err == "" {
				t.Error("the row does not say why umoci differs")
			}
		})
	}
}

// umoci returns the listing of layers as umoci unpacks them, or "error".
func umoci(t *testing.T, layers layers) (listing, detail string) {
	t.Helper()
	layout, bundle := t.TempDir(), filepath.Join(t.TempDir(), "bundle")
	writeLayout(t, layout, layers)
	cmd := exec.CommandContext(t.Context(), "umoci", "unpack", "--image", layout+":latest", bundle)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "error\n", string(out)
	}
	return listDisk(t, filepath.Join(bundle, "rootfs")), ""
}

// writeLayout writes an OCI image layout; image-spec image-layout.md.
func writeLayout(t *testing.T, dir string, layers layers) {
	t.Helper()
	type descriptor struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Size        int               `json:"size"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	blob := func(kind string, b []byte) descriptor {
		sum := fmt.Sprintf("%x", sha256.Sum256(b))
		write("blobs/sha256/"+sum, b)
		return descriptor{"application/vnd.oci.image." + kind, "sha256:" + sum, len(b), nil}
	}
	encode := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var descriptors []descriptor
	var diffIDs []string
	for _, entries := range layers {
		d := blob("layer.v1.tar", archive(t, entries...))
		descriptors = append(descriptors, d)
		diffIDs = append(diffIDs, d.Digest)
	}
	config := blob("config.v1+json", encode(map[string]any{
		"architecture": "amd64", "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	}))
	manifest := blob("manifest.v1+json", encode(map[string]any{"schemaVersion": 2, "config": config, "layers": descriptors}))
	manifest.Annotations = map[string]string{"org.opencontainers.image.ref.name": "latest"}
	write("index.json", encode(map[string]any{"schemaVersion": 2, "manifests": []descriptor{manifest}}))
	write("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
}

// listDisk returns the listing of a directory.
func listDisk(t *testing.T, root string) string {
	t.Helper()
	var items []item
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			t.Fatalf("%s: no stat", path)
		}
		it := item{
			path: rel, mode: info.Mode(), uid: st.Uid, gid: st.Gid,
			mtime: time.Unix(st.Mtim.Unix()), inode: st.Ino, nlink: int(st.Nlink),
			major: uint32(st.Rdev>>8&0xfff | st.Rdev>>32&^0xfff), minor: uint32(st.Rdev&0xff | st.Rdev>>12&^0xff),
		}
		switch {
		case info.Mode().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			it.body = string(b)
			fallthrough
		case info.IsDir():
			if it.xattrs, err = diskXattrs(path); err != nil {
				return err
			}
		case info.Mode().Type() == fs.ModeSymlink:
			if it.target, err = os.Readlink(path); err != nil {
				return err
			}
		}
		items = append(items, it)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return listing(items)
}

func diskXattrs(path string) (map[string]string, error) {
	b := make([]byte, 1<<16)
	n, err := syscall.Listxattr(path, b)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(b[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 1<<16)
		n, err := syscall.Getxattr(path, name, value)
		if err != nil {
			return nil, err
		}
		all[name] = string(value[:n])
	}
	return all, nil
}
