package qemu

import (
	"fmt"
	"strconv"
	"strings"

	"banger/internal/agent"
	"banger/internal/vmm"
)

// File descriptors that QEMU inherits, in the order of exec.Cmd.ExtraFiles.
const (
	consoleFD = 3 + iota // write end of a pipe
	agentFD              // listening socket
	qmpFD                // connected socket
)

// tuning is what is found out about the host at each start.
type tuning struct {
	accel     string // "kvm" or "tcg"
	tscKHz    int    // of the host's time stamp counter; 0: not known
	tscStable bool   // it has one frequency and does not stop
}

// args turns a machine into QEMU's arguments.
func args(m vmm.Machine, t tuning) []string {
	cpu := "max"
	if t.accel == "kvm" {
		cpu = "host"
	}
	a := []string{
		"-name", "guest=" + value(m.Name),
		// A core dump of QEMU must not hold the guest's memory.
		"-M", "microvm,rtc=on,pit=on,pic=on,dump-guest-core=off",
		"-accel", t.accel,
		"-cpu", cpu,
		"-smp", strconv.Itoa(m.CPUs),
		"-m", fmt.Sprintf("size=%dM", m.MemoryMiB),
		"-nodefaults", "-no-user-config", "-display", "none",
		"-no-reboot",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-kernel", m.Kernel,
		"-initrd", m.Initramfs,
		"-append", strings.Join(cmdline(m, t), " "),
		// append=on, because a pipe cannot be truncated.
		"-add-fd", fmt.Sprintf("fd=%d,set=1,opaque=console", consoleFD),
		"-chardev", "file,id=console,path=/dev/fdset/1,append=on",
		"-serial", "chardev:console",
		"-chardev", fmt.Sprintf("socket,id=agent,fd=%d,server=on,wait=off", agentFD),
		"-device", "virtio-serial-device",
		"-device", "virtserialport,chardev=agent,name=" + agent.PortName,
		"-chardev", fmt.Sprintf("socket,id=qmp,fd=%d", qmpFD),
		"-mon", "chardev=qmp,mode=control",
		"-device", "virtio-rng-device",
	}
	for i, disk := range m.Disks {
		// Writeback honours the guest's flushes. What the guest discards, or
		// overwrites with zeroes, becomes a hole in the file again.
		drive := fmt.Sprintf("id=disk%d,file=%s,format=raw,if=none,cache=writeback,aio=threads", i, value(disk.Path))
		if disk.ReadOnly {
			drive += ",readonly=on"
		} else {
			drive += ",discard=unmap,detect-zeroes=unmap"
		}
		a = append(a,
			"-drive", drive,
			"-device", fmt.Sprintf("virtio-blk-device,drive=disk%d,serial=%s", i, value(disk.Serial)))
	}
	if m.Network {
		a = append(a,
			"-netdev", fmt.Sprintf("user,id=net,net=%s,host=%s,dns=%s,dhcpstart=%s", network, vmm.GuestGateway, vmm.GuestDNS,
				strings.TrimSuffix(vmm.GuestAddress, "/24")),
			"-device", "virtio-net-device,netdev=net")
	}
	return a
}

// network is the one that the addresses of [vmm.GuestAddress] lie in.
const network = "10.0.2.0/24"

// cmdline returns the kernel's parameters
// (Documentation/admin-guide/kernel-parameters.rst).
func cmdline(m vmm.Machine, t tuning) []string {
	p := []string{
		// First, and before quiet: the guard of the accelerator waits for it.
		"earlyprintk=ttyS0", "quiet", "console=ttyS0",
		// A triple fault, and a panic at once, so that QEMU ends in 30 ms.
		"reboot=t", "panic=-1",
		"cryptomgr.notests", "no_timer_check", "8250.nr_uarts=1", "audit=0",
	}
	if t.accel == "tcg" {
		// Speculation is not emulated, so nothing leaks by it.
		p = append(p, "mitigations=off")
		// The calibration against the PIT fails on a busy host, and then the
		// guest hangs for good. TCG's counter is the host's.
		if t.tscKHz > 0 {
			p = append(p, "tsc_early_khz="+strconv.Itoa(t.tscKHz))
		}
		// Or else it distrusts counters of several CPUs, has no other clock on
		// this board than jiffies, and rounds each sleep to 4 ms.
		if t.tscKHz > 0 && t.tscStable {
			p = append(p, "tsc=reliable")
		}
	}
	return append(p, m.Cmdline...)
}

// value quotes s for an option of the form key=value,key=value.
func value(s string) string { return strings.ReplaceAll(s, ",", ",,") }
