// Package bundle reads and writes bundles: a root file system that is ready to
// boot, as one file to publish. A bundle is a tar archive, compressed with zstd,
// of two regular files and nothing else:
//
//	manifest.json   see [Manifest]
//	rootfs.ext4     the file system; holes are zeros
//
// [Pack] writes one, [Unpack] reads one that nobody need trust: no name in it
// becomes a path of the host, and nothing in it can make the result larger than
// its manifest says. The digest of the whole bundle is for the caller to check.
package bundle

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"

	"banger/internal/api"
)

// Version is the version of the format.
const Version = 1

// The names in the archive.
const (
	manifestName = "manifest.json"
	rootfsName   = "rootfs.ext4"
)

// maxManifest bounds manifest.json, in bytes.
const maxManifest = 1 << 20

// Manifest is manifest.json. Readers ignore fields that they do not know.
type Manifest struct {
	Version   int    `json:"version"`
	Name      string `json:"name"`
	Arch      string `json:"arch"`                 // as Go names it: "amd64"
	KernelRef string `json:"kernel_ref,omitempty"` // name of the kernel it wants; "" for any
	Rootfs    Rootfs `json:"rootfs"`

	AgentVersion string `json:"agent_version,omitempty"` // "sha256:..." of the guest agent in it; "" for none
	SourceDigest string `json:"source_digest,omitempty"` // digest of the image it was made from

	// Process is what the image runs and how, as the image's config said.
	Process api.Process `json:"process,omitzero"`
}

// Rootfs describes rootfs.ext4 as it is with all its holes.
type Rootfs struct {
	SHA256 string `json:"sha256"` // hex
	Size   int64  `json:"size"`   // bytes
}

// parseManifest reads manifest.json and checks what does not depend on the rest.
func parseManifest(r io.Reader) (m Manifest, err error) {
	b, err := io.ReadAll(r) // the header of the archive has bounded it
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("%w: %w", api.ErrInvalid, err)
	}
	if m.Version != Version {
		return m, api.Hint(fmt.Errorf("%w: version %d, this build reads version %d", api.ErrInvalid, m.Version, Version),
			"a newer banger may read it")
	}
	if sum, err := hex.DecodeString(m.Rootfs.SHA256); err != nil || len(sum) != 32 {
		return m, fmt.Errorf("%w: rootfs.sha256 %q", api.ErrInvalid, m.Rootfs.SHA256)
	}
	if m.Rootfs.Size <= 0 {
		return m, fmt.Errorf("%w: rootfs.size %d", api.ErrInvalid, m.Rootfs.Size)
	}
	return m, nil
}
