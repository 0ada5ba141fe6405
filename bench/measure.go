package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// measure is what one run took.
type measure struct {
	wall, cpu time.Duration
	memory    int64 // bytes, most that one process of it had resident
	written   int64 // bytes, as they went into the page cache on their way to the disk
	disk      int64 // bytes that the disk it made takes on the host
}

// command runs a command to its end and measures it with all of its children.
//
// A child begins with the peak of whoever starts it (exec(2) keeps what
// getrusage(2) reports), so this program must stay small: what needs memory it
// does in a process of its own.
func command(ctx context.Context, env []string, argv ...string) (m measure, err error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	before, err := writtenBy("self")
	if err != nil {
		return m, err
	}
	start := time.Now()
	err = cmd.Run()
	m.wall = time.Since(start)
	if err != nil {
		return m, fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out.String())
	}
	// The kernel adds what a child wrote to its parent's count.
	after, err := writtenBy("self")
	if err != nil {
		return m, err
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return m, errors.New("no resource usage here")
	}
	m.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	m.memory, m.written = usage.Maxrss<<10, after-before
	return m, nil
}

// writtenBy reads write_bytes of a process; proc_pid_io(5).
func writtenBy(pid string) (int64, error) {
	return procNumber("/proc/"+pid+"/io", "write_bytes:")
}

// procNumber reads the number behind a word of a file in proc.
func procNumber(file, word string) (n int64, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, word); ok {
			_, err := fmt.Sscan(rest, &n)
			return n, err
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, word)
}

// settle has the kernel write what earlier runs left, so that it is not this
// run's to wait for; then everything that is not in use leaves the page cache, if
// cold, or the input comes into it.
func settle(ctx context.Context, cold bool, input []string) error {
	syscall.Sync()
	if cold {
		return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
	}
	return exec.CommandContext(ctx, "cat", append([]string{"--"}, input...)...).Run()
}

// allocated is what a file takes on the disk, in bytes.
func allocated(name string) (int64, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(name, &st); err != nil {
		return 0, err
	}
	return st.Blocks * 512, nil
}

// median of one number of the runs.
func median[T ~int64](runs []measure, of func(measure) T) T {
	values := make([]T, len(runs))
	for i, m := range runs {
		values[i] = of(m)
	}
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

func wall(m measure) time.Duration { return m.wall }
func cpu(m measure) time.Duration  { return m.cpu }
func memory(m measure) int64       { return m.memory }
func written(m measure) int64      { return m.written }
func disk(m measure) int64         { return m.disk }
