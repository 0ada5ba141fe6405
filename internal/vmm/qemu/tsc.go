package qemu

import (
	"math"
	"os"
	"slices"
	"strings"
	"time"
)

// measureTSC returns the frequency of the time stamp counter in kHz, measured
// against the monotonic clock for the time d; 0 where there is no counter.
func measureTSC(d time.Duration) int {
	if !hasTSC {
		return 0
	}
	t0, c0 := sampleTSC()
	time.Sleep(d)
	t1, c1 := sampleTSC()
	return int(math.Round(float64(c1-c0) * 1e6 / float64(t1.Sub(t0))))
}

// sampleTSC reads clock and counter at the same moment. Of several readings it
// takes that with the least time in between: the others were interrupted.
func sampleTSC() (at time.Time, counter uint64) {
	best := time.Duration(math.MaxInt64)
	for range 16 {
		before := time.Now()
		c := rdtsc()
		if d := time.Since(before); d < best {
			best, at, counter = d, before.Add(d/2), c
		}
	}
	return at, counter
}

// stableTSC says whether the counter has one frequency in all power states
// (cpuinfo flags constant_tsc and nonstop_tsc; arch/x86/include/asm/cpufeatures.h).
func stableTSC() bool {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if name, flags, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "flags" {
			f := strings.Fields(flags)
			return slices.Contains(f, "constant_tsc") && slices.Contains(f, "nonstop_tsc")
		}
	}
	return false
}
