package bundle

import (
	"io"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

// frameSize is how much goes into one zstd frame, in bytes. Each frame is
// compressed by itself, so the result does not depend on how many processors
// there are; decoders read frames that follow each other as one stream
// (RFC 8878, 3).
const frameSize = 8 << 20

// frameWriter compresses frames in parallel and writes them in order.
type frameWriter struct {
	w       io.Writer
	encoder *zstd.Encoder
	free    chan []byte // buffers that no frame uses; there are as many as may be under way
	chunk   []byte      // what the next frame will be; nil: no buffer yet
	last    chan error  // gets the error of the newest frame and all before it
	failed  atomic.Bool // there is an error
}

func newFrameWriter(w io.Writer, threads int) (*frameWriter, error) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(threads))
	if err != nil {
		return nil, err
	}
	fw := &frameWriter{w: w, encoder: e, free: make(chan []byte, threads+1), last: make(chan error, 1)}
	for range cap(fw.free) { // one of them is being filled
		fw.free <- nil
	}
	fw.last <- nil
	return fw, nil
}

// Write implements [io.Writer].
func (fw *frameWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if fw.failed.Load() {
			return n, fw.Close()
		}
		if fw.chunk == nil {
			if fw.chunk = <-fw.free; fw.chunk == nil {
				fw.chunk = make([]byte, 0, frameSize)
			}
		}
		k := min(len(p), frameSize-len(fw.chunk))
		fw.chunk, p, n = append(fw.chunk, p[:k]...), p[k:], n+k
		if len(fw.chunk) == frameSize {
			fw.flush()
		}
	}
	return n, nil
}

// flush starts to compress what there is. Its turn to write comes after that of
// the frame before.
func (fw *frameWriter) flush() {
	chunk, before, after := fw.chunk, fw.last, make(chan error, 1)
	fw.chunk, fw.last = nil, after
	go func() {
		b := fw.encoder.EncodeAll(chunk, nil)
		err := <-before
		if err == nil {
			_, err = fw.w.Write(b)
		}
		fw.failed.Store(err != nil)
		after <- err
		fw.free <- chunk[:0]
	}()
}

// Close writes what is left and waits until all is written. Called again it
// returns the same.
func (fw *frameWriter) Close() error {
	if len(fw.chunk) > 0 {
		fw.flush()
	}
	err := <-fw.last
	fw.last <- err
	return err
}
