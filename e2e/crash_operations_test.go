package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"banger/internal/api"
	"banger/internal/client"
)

// sources are what the images of a campaign are made from.
type sources struct {
	versions []v1.Image     // what a tag moves between
	layout   layout.Path    // holds all versions, and names one
	tag      name.Reference // in a registry that holds all versions too
	disk     string         // an ext4 file
	bundle   string         // digest of what the catalog calls "bundled"
	kernel   string         // a vmlinux that no machine would start
}

// crashDisk is the size of every disk of a campaign; its images hold crashData
// bytes, which make their pulls take long enough to be hit.
const (
	crashDisk = 64 << 20
	crashData = 20 << 20
)

func newCampaign(t *testing.T, seed uint64) *campaign {
	h := newHost(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	c := &campaign{
		t: t, h: h, api: client.New(filepath.Join(h.home, "run", "banger.sock")), rng: rng,
		usual: map[string]time.Duration{}, tally: map[string]*ends{}, sound: map[string]bool{},
	}
	for range 3 {
		data := make([]byte, crashData)
		for j := 0; j < len(data); j += 8 {
			binary.LittleEndian.PutUint64(data[j:], rng.Uint64())
		}
		digest := sha256.Sum256(data)
		c.from.versions = append(c.from.versions, image(t, v1.Config{},
			layer(t, file("data.sha256", 0o644, []byte(hex.EncodeToString(digest[:])))),
			layer(t, file("data", 0o644, data))))
	}
	dir := t.TempDir()
	c.from.layout = must(layout.Write(filepath.Join(dir, "layout"), empty.Index))(t)
	c.from.tag = must(name.ParseReference(serveRegistry(t, nil) + "/app:latest"))(t)
	for _, img := range c.from.versions {
		if err := c.from.layout.AppendImage(img); err != nil {
			t.Fatal(err)
		}
		c.moveLayout(img)
		c.moveTag(img)
	}
	c.from.disk = filepath.Join(dir, "disk.ext4")
	h.banger(t, "convert", "--size", fmt.Sprint(crashDisk), "oci:"+string(c.from.layout), "-o", c.from.disk)
	c.catalog(filepath.Join(dir, "catalog"))
	c.from.kernel = filepath.Join(dir, "vmlinux")
	if err := os.WriteFile(c.from.kernel, fakeKernel(rng), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// must is for calls in tests that do not fail.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// moveLayout makes img what the layout names.
func (c *campaign) moveLayout(img v1.Image) {
	c.t.Helper()
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img})
	if err := c.from.layout.WriteFile("index.json", must(index.RawManifest())(c.t), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// moveTag makes img what the tag names.
func (c *campaign) moveTag(img v1.Image) {
	c.t.Helper()
	if err := remote.Write(c.from.tag, img); err != nil {
		c.t.Fatal(err)
	}
}

// catalog adds a catalog with one bundle.
func (c *campaign) catalog(dir string) {
	c.t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		c.t.Fatal(err)
	}
	out := c.h.banger(c.t, "bundle", "build", "--json", "--name", "bundled", "--size", fmt.Sprint(crashDisk),
		"oci:"+string(c.from.layout), "-o", filepath.Join(dir, "bundled.tar.zst"))
	var e api.CatalogEntry
	if err := json.Unmarshal([]byte(out), &e); err != nil {
		c.t.Fatalf("banger bundle build --json: %v\n%s", err, out)
	}
	c.from.bundle = "sha256:" + e.Bundle.SHA256
	path := filepath.Join(dir, "catalog.json")
	if err := os.WriteFile(path, fmt.Appendf(nil, `{"version": 1, "entries": [%s]}`, out), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.h.banger(c.t, "catalog", "add", "crash", path)
}

// fakeKernel is an ELF file with all that banger looks for in a kernel: a note
// that tells the PVH entry and a version.
func fakeKernel(rng *rand.Rand) []byte {
	const headers = 64 + 56
	note := []byte("\x04\x00\x00\x00\x08\x00\x00\x00\x12\x00\x00\x00Xen\x00--entry-")
	h := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: 64, Phoff: 64, Phentsize: 56, Phnum: 1,
	}
	copy(h.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	var b bytes.Buffer
	for _, v := range []any{h, elf.Prog64{Type: uint32(elf.PT_NOTE), Off: headers, Filesz: uint64(len(note)), Align: 4}} {
		_ = binary.Write(&b, binary.LittleEndian, v) // to memory
	}
	b.Write(note)
	b.WriteString("Linux version 6.0.0-crash (nobody)\n")
	for b.Len() < 4<<20 {
		_ = binary.Write(&b, binary.LittleEndian, rng.Uint64())
	}
	return b.Bytes()
}

// stream is an operation that reports progress.
func (c *campaign) stream(verb string, request any) func(context.Context) error {
	return func(ctx context.Context) error { return c.api.Stream(ctx, verb, request, nil, new(any)) }
}

// call is an operation that does not.
func (c *campaign) call(verb string, request any) func(context.Context) error {
	return func(ctx context.Context) error { return c.api.Call(ctx, verb, request, nil) }
}

// operation makes up something that is possible as things are.
func (c *campaign) operation() operation {
	for {
		var op operation
		switch c.rng.IntN(16) {
		case 0, 1:
			op = c.pull("pulled", c.from.tag.String(), c.moveTag)
		case 2, 3:
			op = c.pull("local", "oci:"+string(c.from.layout), c.moveLayout)
		case 4, 5:
			op = c.pullBundle()
		case 6:
			op = c.register("in-place", false)
		case 7:
			op = c.register("copied", true)
		case 8, 9:
			op = c.promote()
		case 10:
			op = c.tag()
		case 11:
			op = c.removeImage()
		case 12, 13:
			op = c.createVM()
		case 14:
			op = c.removeVM()
		case 15:
			op = []func() operation{c.prune, c.kernel, c.kernel}[c.rng.IntN(3)]()
		}
		if op.do != nil {
			return op
		}
	}
}

// pull pulls a ref that may have moved since the last time.
func (c *campaign) pull(image, ref string, move func(v1.Image)) operation {
	img := c.from.versions[c.rng.IntN(len(c.from.versions))]
	key, digest := "image "+image, must(img.Digest())(c.t).String()
	what := "pull again"
	switch c.now[key] {
	case "":
		what = "pull"
	case digest:
		what = "pull as it is"
	}
	return operation{
		name: what, touches: []string{key}, after: map[string]string{key: digest},
		prepare: func() { move(img) },
		do:      c.stream("image.pull", api.ImagePull{Ref: ref, Name: image, SizeBytes: crashDisk, NoGuestFiles: true}),
	}
}

func (c *campaign) pullBundle() operation {
	const key = "image bundled"
	if c.now[key] != "" {
		return operation{}
	}
	return operation{
		name: "pull bundle", touches: []string{key}, after: map[string]string{key: c.from.bundle},
		do: c.stream("image.pull", api.ImagePull{Ref: "bundled"}),
	}
}

func (c *campaign) register(image string, copied bool) operation {
	key := "image " + image
	if c.now[key] != "" {
		return operation{}
	}
	return operation{
		name: "register " + image, touches: []string{key}, after: map[string]string{key: "none"},
		do: c.stream("image.register", api.ImageRegister{Name: image, RootfsPath: c.from.disk, Copy: copied}),
	}
}

// anImage is one of the images that have a name.
func (c *campaign) anImage() (img api.Image, ok bool) {
	named := slices.DeleteFunc(slices.Clone(c.images), func(img api.Image) bool { return len(img.Names) == 0 })
	if len(named) == 0 {
		return img, false
	}
	return named[c.rng.IntN(len(named))], true
}

// keys are the keys of an image's names and of its VMs.
func (c *campaign) keys(img api.Image) (names, vms []string) {
	for _, name := range img.Names {
		names = append(names, "image "+name)
	}
	for _, vm := range c.vms {
		if vm.ImageID == img.ID {
			vms = append(vms, "vm "+vm.Name)
		}
	}
	return names, vms
}

func (c *campaign) promote() operation {
	const key = "image promoted"
	if c.now[key] != "" || len(c.vms) == 0 {
		return operation{}
	}
	vm := c.vms[c.rng.IntN(len(c.vms))]
	touches := []string{key, "vm " + vm.Name}
	return operation{
		name: "promote", touches: touches, after: map[string]string{key: "none"},
		do: c.stream("image.promote", api.ImagePromote{VM: vm.Name, Name: "promoted"}),
	}
}

func (c *campaign) tag() operation {
	img, ok := c.anImage()
	tag := fmt.Sprint("tag", c.rng.IntN(2))
	key := "image " + tag
	if !ok || c.now[key] != "" {
		return operation{}
	}
	names, _ := c.keys(img)
	return operation{
		name: "tag", touches: append(names, key), after: map[string]string{key: c.now[names[0]]},
		do: c.call("image.tag", api.ImageTag{Image: img.Names[0], Name: tag}),
	}
}

// removeImage removes a name and, when it is the last, the image and its VMs.
func (c *campaign) removeImage() operation {
	img, ok := c.anImage()
	if !ok {
		return operation{}
	}
	names, vms := c.keys(img)
	i := c.rng.IntN(len(names))
	op := operation{
		name: "rm", touches: append(names, vms...), after: map[string]string{names[i]: ""},
		do: c.call("image.rm", api.ImageRemove{Name: img.Names[i], Force: true}),
	}
	if len(names) == 1 {
		for _, key := range vms {
			op.after[key] = ""
		}
	}
	return op
}

func (c *campaign) createVM() operation {
	img, ok := c.anImage()
	vm := fmt.Sprint("vm", c.rng.IntN(2))
	key := "vm " + vm
	const kernel = "kernel crash"
	if !ok || c.now[key] != "" || img.KernelPath == "" && c.now[kernel] == "" {
		return operation{}
	}
	names, _ := c.keys(img)
	touches := append(names, key)
	what := "vm create"
	if img.KernelPath == "" {
		what, touches = "vm create with the default kernel", append(touches, kernel)
	}
	return operation{
		name: what, touches: touches, after: map[string]string{key: "made"},
		do: c.stream("vm.create", api.VMCreate{Name: vm, Image: img.Names[0], DiskBytes: crashDisk}),
	}
}

func (c *campaign) removeVM() operation {
	if len(c.vms) == 0 {
		return operation{}
	}
	vm := c.vms[c.rng.IntN(len(c.vms))]
	key := "vm " + vm.Name
	return operation{
		name: "vm rm", touches: []string{key}, after: map[string]string{key: ""},
		do: c.call("vm.rm", api.VMRemove{Name: vm.Name}),
	}
}

// prune removes all that is not used: images without VMs, cached blobs.
func (c *campaign) prune() operation {
	op := operation{name: "prune", after: map[string]string{}, do: c.stream("system.prune", api.Prune{All: true})}
	for _, img := range c.images {
		names, vms := c.keys(img)
		for _, key := range names {
			if len(vms) == 0 {
				op.after[key] = ""
			}
		}
	}
	return op
}

// kernel imports, replaces or removes the kernel that is the default.
func (c *campaign) kernel() operation {
	const key = "kernel crash"
	op := operation{
		name: "kernel import", touches: []string{key}, after: map[string]string{key: "made"},
		do: c.stream("kernel.import", api.KernelImport{Name: "crash", Path: c.from.kernel, Replace: true}),
	}
	if c.now[key] != "" && c.rng.IntN(3) == 0 {
		op.name, op.after[key] = "kernel rm", ""
		op.do = c.call("kernel.rm", api.KernelRemove{Name: "crash", Force: true})
	}
	return op
}
