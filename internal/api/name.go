package api

import (
	"fmt"
	"regexp"
	"strings"
)

// maxName is the longest name, in bytes; the same as that of a host name's label
// (RFC 1035, section 2.3.4).
const maxName = 63

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

// FreeName returns a name like the one that is taken, for a hint: "web-2".
func FreeName(name string, taken func(string) bool) string {
	for n := 2; ; n++ {
		suffix := fmt.Sprintf("-%d", n)
		if free := name[:min(len(name), maxName-len(suffix))] + suffix; !taken(free) {
			return free
		}
	}
}

// NameFrom makes a valid name of any text: lower case, runs of other bytes to one
// dash, no separator at either end. It is "" when nothing is left.
func NameFrom(text string) string {
	var b strings.Builder
	for _, c := range []byte(strings.ToLower(text)) {
		switch {
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-':
			b.WriteByte(c)
		case !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	const separators = "._-"
	name := strings.TrimLeft(b.String(), separators)
	return strings.TrimRight(name[:min(len(name), maxName)], separators)
}
