package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/agent"
)

// sysroot is where the initramfs mounts the root disk.
const sysroot = "/sysroot"

// boot is /init: from the kernel's first process to the machine's PID 1. It
// returns only with an error.
func boot() error {
	record := &phases{}
	record.mark(phaseInit)
	if err := mountKernelFS(); err != nil {
		return err
	}
	cfg, err := readConfig(agent.ConfigPath)
	if err != nil {
		return err
	}
	loadModules(cfg.Modules)
	record.mark(phaseModules)

	disk, err := findDisk(agent.RootSerial)
	if err != nil {
		return err
	}
	if err := mountRoot(disk); err != nil {
		return err
	}
	record.mark(phaseRoot)

	next, err := choose(sysroot, cfg)
	if err != nil {
		return err
	}
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("open the agent: %w", err)
	}
	defer self.Close()
	if err := switchRoot(sysroot); err != nil {
		return err
	}
	if err := mountRun(next.name == initBanger); err != nil {
		return err
	}
	modules, err := mountModules()
	if err != nil {
		warn("init: %v", err)
	}
	setClock(cfg.Time)
	if err := setNetwork(cfg.Network); err != nil {
		warn("init: %v", err) // a guest without a network can still be reached
	}
	if err := unix.Sethostname([]byte(cfg.Hostname)); err != nil {
		warn("init: set host name: %v", err)
	}
	for _, err := range writeIdentity("/", cfg) {
		warn("init: %v", err)
	}
	record.mark(phaseNetwork)
	if next.name == initBanger {
		return stay(cfg, record)
	}
	return handOff(cfg, next, handedOver{record, self, modules})
}

// setClock sets the clock when it is far off: some machines have no RTC. The
// host sets it exactly when it connects.
func setClock(host time.Time) {
	if host.IsZero() {
		return
	}
	now := host.Add(sinceBoot())
	if off := time.Since(now).Abs(); off < 2*time.Second {
		return
	}
	ts := unix.NsecToTimespec(now.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		warn("init: set clock: %v", err)
	}
}
