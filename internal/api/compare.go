package api

// ImageVerify is the request of image.verify.
type ImageVerify struct {
	Name     string `json:"name"`               // or ID
	Insecure bool   `json:"insecure,omitempty"` // plain HTTP to any registry, for layers that are no longer cached
}

// ImageVerified is the result of image.verify: what a disk is like beside its
// layers.
type ImageVerified struct {
	Image       string       `json:"image"`  // its name
	Digest      string       `json:"digest"` // manifest that the layers are of
	Equal       bool         `json:"equal"`
	Paths       int64        `json:"paths"`         // compared
	Bytes       int64        `json:"content_bytes"` // compared, of contents
	Added       []string     `json:"added"`         // paths that are ours: guest files, and directories for them
	Replaced    []string     `json:"replaced"`      // those of them that stand where the image has something else
	Differences []Difference `json:"differences"`   // sorted by path
}

// Difference is one way in which a path is not what it should be.
type Difference struct {
	Path string `json:"path"` // bytes that are not UTF-8 are \xNN, as in Want and Got
	What string `json:"what"` // "missing", "extra", "type", "mode", "owner", "mtime", "size", "device", "target", "links", "nlink", "content", "xattr <name>"
	Want string `json:"want"`
	Got  string `json:"got"`
}

// ImageDiff is the request of image.diff.
type ImageDiff struct {
	Name     string `json:"name"`               // or ID, of an image or a VM that does not run; "image:" or "vm:" before it says which
	Insecure bool   `json:"insecure,omitempty"` // as in image.verify
}

// Change is a path that is not what it was: of an image since its layers, of a
// VM since its image.
type Change struct {
	Kind string   `json:"kind"`           // "A" added, "C" changed, "D" deleted
	Path string   `json:"path"`           // as in Difference
	What []string `json:"what,omitempty"` // of a changed one, as in Difference
}
