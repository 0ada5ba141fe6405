package api

import "time"

// Source is what an image was made from, as its OCI manifest and config say.
// The zero value is that of a registered image.
type Source struct {
	ConfigDigest string            `json:"config_digest,omitempty"`
	Created      time.Time         `json:"created,omitzero"` // by the config
	Author       string            `json:"author,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	ExposedPorts []string          `json:"exposed_ports,omitempty"` // "80/tcp", sorted
	Volumes      []string          `json:"volumes,omitempty"`       // sorted
	Layers       []SourceLayer     `json:"layers,omitempty"`        // base first
	History      []History         `json:"history,omitempty"`       // oldest first
}

// SourceLayer is a layer of an image.
type SourceLayer struct {
	Digest string `json:"digest"`            // of the bytes as the registry has them
	DiffID string `json:"diff_id,omitempty"` // digest of the uncompressed tar
	Size   int64  `json:"size_bytes"`        // as the registry has it
}

// History is one step of how an image was built (image-spec config.md).
type History struct {
	Created    time.Time `json:"created,omitzero"`
	CreatedBy  string    `json:"created_by,omitempty"`
	Author     string    `json:"author,omitempty"`
	Comment    string    `json:"comment,omitempty"`
	EmptyLayer bool      `json:"empty_layer,omitempty"` // the step made no layer
}

// AddedFile is a file of ours in an image.
type AddedFile struct {
	Path   string `json:"path"`
	Mode   string `json:"mode,omitempty"`   // of a regular file, octal: "0755"
	SHA256 string `json:"sha256,omitempty"` // of a regular file, hex
	Link   string `json:"link,omitempty"`   // target of a symbolic link
}
