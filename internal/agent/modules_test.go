package agent

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"banger/internal/api"
)

func TestModuleFiles(t *testing.T) {
	t.Parallel()
	text := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	// In depmod's order, and with only direct dependencies.
	for name, dep := range map[string]string{
		"transitive": "k/virtio_net.ko.xz: k/net_failover.ko.xz k/failover.ko.xz k/virtio.ko.xz k/virtio_ring.ko.xz\n" +
			"k/net_failover.ko.xz: k/failover.ko.xz\nk/failover.ko.xz:\nk/virtio.ko.xz: k/virtio_ring.ko.xz\nk/virtio_ring.ko.xz:\nk/virtio-rng.ko.xz: k/virtio.ko.xz k/virtio_ring.ko.xz\n",
		"direct": "k/virtio_net.ko.xz: k/net_failover.ko.xz k/virtio.ko.xz\n" +
			"k/net_failover.ko.xz: k/failover.ko.xz\nk/failover.ko.xz:\nk/virtio.ko.xz: k/virtio_ring.ko.xz\nk/virtio_ring.ko.xz:\nk/virtio-rng.ko.xz: k/virtio.ko.xz\n",
		"circular": "k/virtio_net.ko.xz: k/net_failover.ko.xz k/virtio.ko.xz\n" +
			"k/net_failover.ko.xz: k/failover.ko.xz\nk/failover.ko.xz: k/virtio_net.ko.xz\nk/virtio.ko.xz: k/virtio_ring.ko.xz\nk/virtio_ring.ko.xz:\nk/virtio-rng.ko.xz: k/virtio.ko.xz\n",
	} {
		t.Run(name, func(t *testing.T) {
			fsys := fstest.MapFS{"modules.dep": text(dep), "modules.builtin": text("kernel/fs/ext4/ext4.ko\n")}
			files, missing, err := ModuleFiles(fsys, []string{"virtio_net", "virtio_rng", "ext4", "virtio_blk"})
			if err != nil {
				t.Fatal(err)
			}
			if want := []string{"virtio_blk"}; !slices.Equal(missing, want) {
				t.Errorf("missing: got %q, want %q", missing, want)
			}
			at := func(m string) int { return slices.Index(files, "k/"+m+".ko.xz") }
			if len(files) != 6 || at("virtio-rng") < 0 {
				t.Fatalf("got %q, want six files", files)
			}
			for _, pair := range [][2]string{{"virtio_ring", "virtio"}, {"virtio", "virtio_net"}, {"failover", "net_failover"}, {"net_failover", "virtio_net"}, {"virtio", "virtio-rng"}} {
				if at(pair[0]) < 0 || at(pair[0]) > at(pair[1]) {
					t.Errorf("%s does not come before %s in %q", pair[0], pair[1], files)
				}
			}
		})
	}
}

func TestModuleFilesBad(t *testing.T) {
	t.Parallel()
	if _, _, err := ModuleFiles(fstest.MapFS{}, BootModules()); err == nil || !strings.Contains(api.HintOf(err), "depmod") {
		t.Errorf("without modules.dep: got %v with hint %q", err, api.HintOf(err))
	}
	fsys := fstest.MapFS{"modules.dep": &fstest.MapFile{Data: []byte("../../etc/passwd.ko:\n")}}
	if _, _, err := ModuleFiles(fsys, BootModules()); err == nil {
		t.Error("a path that leads out was accepted")
	}
}
