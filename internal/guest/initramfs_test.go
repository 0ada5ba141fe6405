package guest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"banger/internal/agent"
	"banger/internal/api"
)

// entry is one file of a newc archive.
type entry struct {
	name         string
	mode         uint64
	major, minor uint64
	content      []byte
}

// readCPIO reads the archive as the kernel does (init/initramfs.c), strictly.
func readCPIO(t *testing.T, b []byte) []entry {
	t.Helper()
	var list []entry
	at := 0
	next := func(n int) []byte {
		if n < 0 || at+n > len(b) {
			t.Fatalf("archive ends at %d, want %d more bytes", at, n)
		}
		at += n
		return b[at-n : at]
	}
	align := func() {
		for _, c := range next(-at & 3) {
			if c != 0 {
				t.Fatalf("padding before %d is not zero", at)
			}
		}
	}
	for {
		if magic := string(next(6)); magic != "070701" {
			t.Fatalf("magic at %d: got %q", at-6, magic)
		}
		var field [13]uint64
		for i := range field {
			v, err := strconv.ParseUint(string(next(8)), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			field[i] = v
		}
		name := next(int(field[11]))
		if name[len(name)-1] != 0 {
			t.Fatalf("name %q has no end", name)
		}
		e := entry{name: string(name[:len(name)-1]), mode: field[1], major: field[9], minor: field[10]}
		align()
		e.content = bytes.Clone(next(int(field[6])))
		align()
		if field[2] != 0 || field[3] != 0 || field[5] != 0 {
			t.Errorf("%s: uid %d, gid %d, mtime %d, want 0", e.name, field[2], field[3], field[5])
		}
		if e.name == "TRAILER!!!" {
			if at != len(b) {
				t.Errorf("%d bytes behind the end", len(b)-at)
			}
			return list
		}
		list = append(list, e)
	}
}

func compress(t *testing.T, ext, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch ext {
	case ".gz":
		w = gzip.NewWriter(&b)
	case ".xz":
		w, err = xz.NewWriter(&b)
	case ".zst":
		w, err = zstd.NewWriter(&b)
	default:
		return []byte(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// kernel has modules in every compression; ext4 is built in.
func kernel(t *testing.T) fstest.MapFS {
	t.Helper()
	fsys := fstest.MapFS{"modules.builtin": {Data: []byte("kernel/fs/ext4/ext4.ko\n")}}
	dep := ""
	for _, m := range []struct{ file, needs string }{
		{"kernel/virtio_ring.ko", ""},
		{"kernel/virtio.ko.gz", "kernel/virtio_ring.ko"},
		{"kernel/virtio_mmio.ko.xz", "kernel/virtio.ko.gz kernel/virtio_ring.ko"},
		{"kernel/virtio_blk.ko.zst", "kernel/virtio.ko.gz kernel/virtio_ring.ko"},
		{"kernel/virtio_console.ko", "kernel/virtio.ko.gz kernel/virtio_ring.ko"},
		{"kernel/virtio-rng.ko", "kernel/virtio.ko.gz kernel/virtio_ring.ko"},
		{"kernel/unrelated.ko", ""},
	} {
		base, _, _ := strings.Cut(filepath.Base(m.file), ".")
		fsys[m.file] = &fstest.MapFile{Data: compress(t, filepath.Ext(m.file), "module "+base)}
		dep += m.file + ": " + m.needs + "\n"
	}
	fsys["modules.dep"] = &fstest.MapFile{Data: []byte(dep)}
	return fsys
}

func build(t *testing.T, s Spec) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Initramfs(&b, s); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestInitramfs(t *testing.T) {
	t.Parallel()
	s := Spec{Config: agent.Config{Hostname: "dev", Modules: []string{"/stale"}}, Agent: []byte("agent"), Modules: kernel(t)}
	b := build(t, s)
	list := readCPIO(t, b)

	type head struct {
		name string
		mode uint64
	}
	var got []head
	content := map[string]string{}
	for _, e := range list {
		got = append(got, head{e.name, e.mode})
		content["/"+e.name] = string(e.content)
		if e.name == "dev/console" && (e.major != 5 || e.minor != 1) {
			t.Errorf("dev/console: got %d:%d, want 5:1", e.major, e.minor)
		}
	}
	want := []head{
		{"dev", 0o040755},
		{"dev/console", 0o020600},
		{"banger", 0o040755},
		{"banger/config.json", 0o100600},
		{"banger/modules", 0o040755},
		{"banger/modules/virtio_ring.ko", 0o100644},
		{"banger/modules/virtio.ko", 0o100644},
		{"banger/modules/virtio_mmio.ko", 0o100644},
		{"banger/modules/virtio_blk.ko", 0o100644},
		{"banger/modules/virtio_console.ko", 0o100644},
		{"banger/modules/virtio-rng.ko", 0o100644},
		{"init", 0o100755},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	var cfg agent.Config
	if err := json.Unmarshal([]byte(content["/banger/config.json"]), &cfg); err != nil {
		t.Fatal(err)
	}
	if cfg.Hostname != "dev" || len(cfg.Modules) != 6 {
		t.Errorf("configuration: got %+v", cfg)
	}
	for _, m := range cfg.Modules {
		base, _, _ := strings.Cut(filepath.Base(m), ".")
		if content[m] != "module "+base {
			t.Errorf("%s: got %q", m, content[m])
		}
	}
	if content["/init"] != "agent" {
		t.Errorf("init: got %q", content["/init"])
	}
	if !bytes.Equal(b, build(t, s)) {
		t.Error("made twice, it is not the same")
	}
}

func TestInitramfsWithInitrd(t *testing.T) {
	t.Parallel()
	initrd := filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(initrd, []byte("five."), 0o600); err != nil {
		t.Fatal(err)
	}
	b := build(t, Spec{Agent: []byte("agent"), UserInitrd: initrd})
	ours, ok := bytes.CutPrefix(b, []byte("five.\x00\x00\x00"))
	if !ok {
		t.Fatalf("got %q first, want the initrd and zeros up to a multiple of four", b[:16])
	}
	names := []string{}
	for _, e := range readCPIO(t, ours) {
		names = append(names, e.name)
	}
	if want := []string{"dev", "dev/console", "banger", "banger/config.json", "banger/modules", "init"}; !reflect.DeepEqual(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
	if err := Initramfs(io.Discard, Spec{UserInitrd: initrd + ".none"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an initrd that is not there: got %v", err)
	}
}

func TestInitramfsUnpacks(t *testing.T) {
	t.Parallel()
	need(t, "busybox")
	cmd := exec.CommandContext(t.Context(), "busybox", "cpio", "-t")
	cmd.Stdin = bytes.NewReader(build(t, Spec{Agent: []byte("agent"), Modules: kernel(t)}))
	out, err := cmd.Output()
	if err != nil || !strings.HasSuffix(string(out), "banger/modules/virtio-rng.ko\ninit\n") {
		t.Errorf("got %v\n%s", err, out)
	}
}

func TestInitramfsNeedsDrivers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		remove string
		want   string // "" is no error
	}{
		{"virtio_blk", "virtio_blk"},
		{"virtio_console", "virtio_console"},
		{"virtio_mmio", "virtio_mmio or virtio_pci"},
		{"ext4", "ext4"},
		{"virtio-rng", ""},
	} {
		fsys := kernel(t)
		for _, list := range []string{"modules.dep", "modules.builtin"} {
			lines := strings.Split(string(fsys[list].Data), "\n")
			lines = slices.DeleteFunc(lines, func(l string) bool {
				return strings.HasPrefix(filepath.Base(strings.Split(l, ":")[0]), tt.remove+".ko")
			})
			fsys[list].Data = []byte(strings.Join(lines, "\n"))
		}
		err := Initramfs(io.Discard, Spec{Modules: fsys})
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("without %s: %v", tt.remove, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || api.HintOf(err) == ""):
			t.Errorf("without %s: got %v with hint %q, want it named", tt.remove, err, api.HintOf(err))
		}
	}
}

func TestInitramfsBadModule(t *testing.T) {
	t.Parallel()
	fsys := kernel(t)
	fsys["kernel/virtio_blk.ko.zst"].Data = []byte("not compressed")
	if err := Initramfs(io.Discard, Spec{Modules: fsys}); err == nil || !strings.Contains(err.Error(), "virtio_blk.ko.zst") {
		t.Errorf("got %v, want the file named", err)
	}
	delete(fsys, "kernel/virtio_blk.ko.zst")
	if err := Initramfs(io.Discard, Spec{Modules: fsys}); err == nil || !strings.Contains(err.Error(), "virtio_blk.ko.zst") {
		t.Errorf("a module that is not there: got %v, want the file named", err)
	}
}
