package ext4

import "io"

// writeZeros overwrites n bytes.
func writeZeros(w io.WriterAt, off, n int64) error {
	zeros := make([]byte, min(n, batchSize))
	for n > 0 {
		k := min(n, int64(len(zeros)))
		if _, err := w.WriteAt(zeros[:k], off); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}
