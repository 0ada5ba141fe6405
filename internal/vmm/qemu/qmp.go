package qemu

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"time"
)

// fullDiskPause is how long a guest waits for space before it tries again.
const fullDiskPause = 2 * time.Second

// qmpEvent is what we read of QEMU's messages (qapi/block-core.json,
// BLOCK_IO_ERROR; qapi/run-state.json, STOP).
type qmpEvent struct {
	Event string `json:"event"`
	Data  struct {
		Action  string `json:"action"`
		NoSpace bool   `json:"nospace"`
	} `json:"data"`
}

// resumeWhenFull talks QMP on conn until that ends. QEMU stops a guest for whose
// write the host has no space left, for good and without a word; here it is
// logged and tried again, so that the guest goes on when there is space.
func resumeWhenFull(conn io.ReadWriter, pause time.Duration, log *slog.Logger) error {
	if _, err := io.WriteString(conn, `{"execute":"qmp_capabilities"}`); err != nil {
		return fmt.Errorf("greet QEMU: %w", err)
	}
	var failed *qmpEvent // the write that the guest is about to be stopped for; there may be several
	retry := time.AfterFunc(math.MaxInt64, func() {
		_, _ = io.WriteString(conn, `{"execute":"cont"}`) // fails only when QEMU is gone
	})
	defer retry.Stop()
	for messages := json.NewDecoder(conn); ; {
		var e qmpEvent
		if err := messages.Decode(&e); err != nil {
			return err
		}
		switch {
		case e.Event == "BLOCK_IO_ERROR" && e.Data.Action == "stop":
			failed = &e
		case e.Event == "STOP" && failed != nil:
			log.Warn("a write to the disk failed: the guest stands still and will try again", "host_disk_full", failed.Data.NoSpace, "after", pause)
			failed = nil
			retry.Reset(pause)
		}
	}
}
