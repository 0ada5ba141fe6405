package image

import (
	"os"

	"golang.org/x/sys/unix"
)

// writebackStride is how much is written before the kernel is told, in bytes.
const writebackStride = 8 << 20

// writeback is a file that is on its way to the disk while it is being written,
// so that the fsync at the end, which waits for all of it, has little left to do.
// By itself the kernel begins when what is dirty is seconds old.
type writeback struct {
	*os.File
	from, to int64 // what has been written since the last span
	spans    chan span
	done     chan struct{}
}

// span is bytes of a file.
type span struct{ from, to int64 }

// newWriteback returns f as such a file. It must be stopped before f is closed.
func newWriteback(f *os.File) *writeback {
	w := &writeback{File: f, spans: make(chan span, 1), done: make(chan struct{})}
	go func() { // allocating blocks for what is written takes a processor
		defer close(w.done)
		for s := range w.spans {
			// Whatever is wrong, fsync(2) will say.
			_ = unix.SyncFileRange(int(f.Fd()), s.from, s.to-s.from, unix.SYNC_FILE_RANGE_WRITE)
		}
	}()
	return w
}

// WriteAt implements [io.WriterAt].
func (w *writeback) WriteAt(p []byte, off int64) (int, error) {
	n, err := w.File.WriteAt(p, off)
	if off != w.to { // what was before is left to the fsync
		w.from = off
	}
	w.to = off + int64(n)
	if w.to-w.from >= writebackStride {
		select {
		case w.spans <- span{w.from, w.to}:
			w.from = w.to
		default: // the disk is slower: more at once is as good
		}
	}
	return n, err
}

// stop waits for what has been begun.
func (w *writeback) stop() {
	close(w.spans)
	<-w.done
}
