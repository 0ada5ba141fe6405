package qemu

import (
	"math"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The second opinion is of another clock (not slewed by NTP), another length
// and without the choice of samples.
func TestMeasureTSC(t *testing.T) {
	t.Parallel()
	if !hasTSC {
		t.Skip("no time stamp counter on this architecture")
	}
	raw := func() int64 {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_RAW, &ts); err != nil {
			t.Fatal(err)
		}
		return ts.Nano()
	}
	n0, c0 := raw(), rdtsc()
	got := measureTSC(20 * time.Millisecond)
	time.Sleep(200 * time.Millisecond)
	n1, c1 := raw(), rdtsc()
	want := float64(c1-c0) * 1e6 / float64(n1-n0)
	if off := math.Abs(float64(got)-want) / want; off > 1e-3 {
		t.Errorf("got %d kHz, want about %.0f: off by %.2g", got, want, off)
	}
}
