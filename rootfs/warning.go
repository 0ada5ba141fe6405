package rootfs

import "fmt"

// Kind is what a [Warning] is about; its text is stable.
type Kind string

// The kinds of warnings.
const (
	PathClamped    Kind = "path-clamped"    // a ".." above the root was dropped
	ParentReplaced Kind = "parent-replaced" // a file stood where a directory is needed
	DeviceWhiteout Kind = "device-whiteout" // a character device 0:0 was taken for an overlayfs whiteout
	EntrySkipped   Kind = "entry-skipped"   // an entry that cannot be part of a tree
	XattrDropped   Kind = "xattr-dropped"   // an attribute or ACL that does not belong on a disk or is invalid
	XattrTrusted   Kind = "xattr-trusted"   // a trusted.* attribute was kept; only root in the guest sees it
	ModTimeClamped Kind = "mtime-clamped"   // a time that ext4 cannot hold
)

// kinds is the order in which the suppressed warnings of a layer are summed up.
var kinds = [...]Kind{
	PathClamped, ParentReplaced, DeviceWhiteout, EntrySkipped, XattrDropped, XattrTrusted, ModTimeClamped,
}

// Warning is something that was done to a layer's entry and that a careful user
// wants to know. Path and Message hold bytes of the layer, so quote them before
// a terminal sees them: Message has them quoted.
type Warning struct {
	Kind    Kind
	Layer   string // as given to [Tree.Apply]
	Path    string // from the root of the tree, with a leading slash; "" for a summary
	Message string
}

// maxWarnings is how many warnings of a kind a layer gets, and maxAllWarnings how
// many a tree has before no layer gets any; a last one counts the rest. SELinux
// labels alone would be a warning for each file.
const (
	maxWarnings    = 16
	maxAllWarnings = 4096
)

// warn records a warning about the entry that is being applied.
func (l *layer) warn(kind Kind, format string, args ...any) {
	if l.warned[kind] == maxWarnings || len(l.tree.Warnings) >= maxAllWarnings {
		l.silent[kind]++
		return
	}
	l.warned[kind]++
	l.tree.Warnings = append(l.tree.Warnings, Warning{
		Kind: kind, Layer: l.name, Path: join(l.names), Message: fmt.Sprintf(format, args...),
	})
}

// sumWarnings adds a line for each kind that had too many.
func (l *layer) sumWarnings() {
	for _, kind := range kinds {
		if more := l.silent[kind]; more > 0 {
			l.tree.Warnings = append(l.tree.Warnings, Warning{
				Kind: kind, Layer: l.name, Message: fmt.Sprintf("%d more of this kind", more),
			})
		}
	}
}
