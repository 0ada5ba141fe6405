package qemu

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
)

// The messages are QEMU 7.2's.
func TestResumeWhenFull(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	var log strings.Builder
	done := make(chan error, 1)
	go func() {
		done <- resumeWhenFull(ours, time.Millisecond, slog.New(slog.NewTextHandler(&log, nil)))
	}()
	r := bufio.NewReader(theirs)
	want := func(command string) {
		t.Helper()
		got, err := r.ReadString('}')
		if err != nil || got != command {
			t.Errorf("got %q, %v; want %s", got, err, command)
		}
	}
	say := func(message string) {
		t.Helper()
		if _, err := io.WriteString(theirs, message+"\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	want(`{"execute":"qmp_capabilities"}`)
	say(`{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}`)
	say(`{"return": {}}`)
	say(`{"event": "BLOCK_IO_ERROR", "data": {"device": "disk0", "nospace": false, "operation": "read", "action": "report"}}`)
	say(`{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "BLOCK_IO_ERROR", "data": {"device": "disk0", "nospace": true, "operation": "write", "action": "stop"}}`)
	say(`{"event": "BLOCK_IO_ERROR", "data": {"device": "disk0", "nospace": true, "operation": "write", "action": "stop"}}`)
	say(`{"event": "STOP"}`)
	want(`{"execute":"cont"}`)
	say(`{"event": "RESUME"}`)
	say(`{"event": "STOP"}`) // by somebody else
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != io.EOF {
		t.Errorf("got %v, want EOF", err)
	}
	if n := strings.Count(log.String(), "host_disk_full=true"); n != 1 {
		t.Errorf("logged %d times, want once:\n%s", n, &log)
	}
}
