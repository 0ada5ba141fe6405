package qemu

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/vmm"
)

func TestArgs(t *testing.T) {
	t.Parallel()
	whole := vmm.Machine{
		Name: "dev", Arch: "amd64", CPUs: 2, MemoryMiB: 1024,
		Kernel: "/k/vmlinux", Initramfs: "/vms/1/initramfs", Cmdline: []string{"loglevel=7"},
		Disks: []vmm.Disk{
			{Path: "/vms/1/disk.ext4", Serial: "banger-root"},
			{Path: "/k/modules.ext4", Serial: "banger-modules", ReadOnly: true},
		},
		Network: true, Dir: "/vms/1", RunDir: "/run/1",
	}
	const wholeWant = `
-name guest=dev
-M microvm,rtc=on,pit=on,pic=on,dump-guest-core=off
-accel tcg
-cpu max
-smp 2
-m size=1024M
-nodefaults
-no-user-config
-display none
-no-reboot
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
-kernel /k/vmlinux
-initrd /vms/1/initramfs
-append earlyprintk=ttyS0 quiet console=ttyS0 reboot=t panic=-1 cryptomgr.notests no_timer_check 8250.nr_uarts=1 audit=0 mitigations=off tsc_early_khz=2600000 tsc=reliable loglevel=7
-add-fd fd=3,set=1,opaque=console
-chardev file,id=console,path=/dev/fdset/1,append=on
-serial chardev:console
-chardev socket,id=agent,fd=4,server=on,wait=off
-device virtio-serial-device
-device virtserialport,chardev=agent,name=banger.agent
-chardev socket,id=qmp,fd=5
-mon chardev=qmp,mode=control
-device virtio-rng-device
-drive id=disk0,file=/vms/1/disk.ext4,format=raw,if=none,cache=writeback,aio=threads,discard=unmap,detect-zeroes=unmap
-device virtio-blk-device,drive=disk0,serial=banger-root
-drive id=disk1,file=/k/modules.ext4,format=raw,if=none,cache=writeback,aio=threads,readonly=on
-device virtio-blk-device,drive=disk1,serial=banger-modules
-netdev user,id=net,net=10.0.2.0/24,host=10.0.2.2,dns=10.0.2.3,dhcpstart=10.0.2.15
-device virtio-net-device,netdev=net`
	got := lines(args(whole, tuning{accel: "tcg", tscKHz: 2600000, tscStable: true}))
	if diff := cmp.Diff(strings.TrimSpace(wholeWant), got); diff != "" {
		t.Errorf("whole machine with TCG (-want +got):\n%s", diff)
	}

	for name, c := range map[string]struct {
		machine vmm.Machine
		tuning  tuning
		has     []string
		hasNot  []string
	}{
		"kvm keeps the kernel's defences and clock": {
			tuning: tuning{accel: "kvm", tscKHz: 2600000, tscStable: true},
			has:    []string{"-accel kvm", "-cpu host", "earlyprintk=ttyS0 quiet"},
			hasNot: []string{"mitigations=", "tsc"},
		},
		"counter of unknown frequency": {
			tuning: tuning{accel: "tcg", tscStable: true},
			has:    []string{"mitigations=off"}, hasNot: []string{"tsc"},
		},
		"counter of changing frequency": {
			tuning: tuning{accel: "tcg", tscKHz: 2600000},
			has:    []string{"tsc_early_khz=2600000"}, hasNot: []string{"tsc=reliable"},
		},
		"no network, no disk": {
			tuning: tuning{accel: "tcg"},
			hasNot: []string{"-netdev", "virtio-net", "-drive", "virtio-blk"},
		},
		"commas cannot add options": {
			machine: vmm.Machine{Name: "a,b", Disks: []vmm.Disk{{Path: "/x,readonly=on", Serial: "s,t"}}},
			tuning:  tuning{accel: "tcg"},
			has:     []string{"guest=a,,b", "file=/x,,readonly=on,format=raw", "serial=s,,t"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := lines(args(c.machine, c.tuning))
			for _, s := range c.has {
				if !strings.Contains(got, s) {
					t.Errorf("arguments lack %q:\n%s", s, got)
				}
			}
			for _, s := range c.hasNot {
				if strings.Contains(got, s) {
					t.Errorf("arguments have %q:\n%s", s, got)
				}
			}
		})
	}
}

// lines puts each option on a line of its own, with its value.
func lines(args []string) string {
	var b strings.Builder
	for i, a := range args {
		switch {
		case i == 0:
		case strings.HasPrefix(a, "-"):
			b.WriteByte('\n')
		default:
			b.WriteByte(' ')
		}
		b.WriteString(a)
	}
	return b.String()
}

// The guard of the accelerator waits for the first byte from the console, and
// quiet would suppress it.
func TestEarlyPrintkBeforeQuiet(t *testing.T) {
	t.Parallel()
	for _, accel := range []string{"kvm", "tcg"} {
		p := cmdline(vmm.Machine{}, tuning{accel: accel})
		if early, quiet := slices.Index(p, "earlyprintk=ttyS0"), slices.Index(p, "quiet"); early < 0 || early > quiet {
			t.Errorf("%s: got earlyprintk at %d, quiet at %d; want earlyprintk first", accel, early, quiet)
		}
	}
}
