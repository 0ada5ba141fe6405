package api

import (
	"fmt"
	"regexp"
)

// validName admits what is a file name, a host name label or close to one, and
// an argument that no shell and no flag parser takes for something else.
var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$`)

// CheckName returns an [ErrInvalid] that says the rule if name cannot be the
// name of an image, a kernel or a VM; what is the word for it.
func CheckName(what, name string) error {
	if validName.MatchString(name) {
		return nil
	}
	return fmt.Errorf("%w %s name %q: want 1 to 63 of a-z A-Z 0-9 . _ - that start with a letter or a digit", ErrInvalid, what, name)
}
