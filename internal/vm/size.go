package vm

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"banger/internal/api"
)

const (
	defaultCPUs      = 2
	defaultMemoryMiB = 1024
	minMemoryMiB     = 64 // less does not hold a kernel of today and the initramfs
	diskAlignment    = 4096
)

// size fills in what the user left open, refuses what this host or this image
// cannot hold, and says what it will be.
func size(s *Spec, p api.Progress) error {
	cores := runtime.NumCPU()
	memory, err := meminfo("MemTotal")
	if err != nil {
		return err
	}
	totalMiB := int(memory >> 20)
	if s.CPUs == 0 {
		s.CPUs = min(defaultCPUs, cores)
	}
	if s.MemoryMiB == 0 {
		s.MemoryMiB = max(min(defaultMemoryMiB, totalMiB/4), minMemoryMiB)
	}
	image, err := os.Stat(s.Image.RootfsPath)
	if err != nil {
		return fmt.Errorf("image %s: %w", s.Image.Name, err)
	}
	if s.DiskBytes == 0 {
		s.DiskBytes = image.Size()
	}
	switch {
	case s.CPUs < 0 || s.CPUs > cores:
		return fmt.Errorf("%w: %d CPUs; this host has %d", api.ErrInvalid, s.CPUs, cores)
	case s.MemoryMiB < minMemoryMiB || s.MemoryMiB > totalMiB:
		return fmt.Errorf("%w: %d MiB of memory; want at least %d, and this host has %d", api.ErrInvalid, s.MemoryMiB, minMemoryMiB, totalMiB)
	case s.DiskBytes < image.Size():
		return api.Hint(fmt.Errorf("%w: disk of %d bytes; image %s needs %d", api.ErrInvalid, s.DiskBytes, s.Image.Name, image.Size()),
			"leave --disk out for the size of the image")
	}
	s.DiskBytes += (diskAlignment - s.DiskBytes%diskAlignment) % diskAlignment
	p.Note("resources", fmt.Sprintf("%d CPUs, %d MiB of memory, %.1f GiB disk", s.CPUs, s.MemoryMiB, float64(s.DiskBytes)/(1<<30)))
	return nil
}

// checkMemory refuses a start for which the host has no memory left.
func checkMemory(wantMiB int) error {
	available, err := meminfo("MemAvailable")
	if err != nil {
		return err
	}
	if int64(wantMiB)<<20 > available {
		return api.Hint(fmt.Errorf("%d MiB of memory wanted, %d MiB available", wantMiB, available>>20), "stop another VM, or make one with less --memory")
	}
	return nil
}

// meminfo returns a value of /proc/meminfo in bytes (proc(5)).
func meminfo(name string) (int64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), name+":"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/meminfo has no %s", name)
}
