//go:build !linux

package ext4

// punchHole makes n bytes of f read as zeros.
func punchHole(f File, off, n int64) error { return writeZeros(f, off, n) }
