package config

import (
	"fmt"

	"github.com/docker/go-units"
)

// Size is a number of bytes, which may be written as "20G" or "512MiB". GiB is
// GiB, whatever it is called.
type Size int64

// UnmarshalTOML implements [toml.Unmarshaler].
func (s *Size) UnmarshalTOML(value any) error {
	switch v := value.(type) {
	case int64:
		*s = Size(v)
	case string:
		n, err := units.RAMInBytes(v)
		if err != nil {
			return fmt.Errorf("size %q: want a number of bytes, or one such as \"20G\"", v)
		}
		*s = Size(n)
	default:
		return fmt.Errorf("size %v: want a number of bytes, or one such as \"20G\"", v)
	}
	if *s < 0 {
		return fmt.Errorf("size %d is negative", *s)
	}
	return nil
}
