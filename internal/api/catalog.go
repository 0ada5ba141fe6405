package api

import "time"

// CatalogPrefix marks a reference that is a name in a catalog and nothing else,
// and is how images from there are remembered, unless they come from a registry.
const CatalogPrefix = "catalog:"

// CatalogEntry is an image that can be pulled by name. Exactly one of Bundle, OCI
// and Apt is set.
type CatalogEntry struct {
	Catalog string `json:"catalog,omitempty"` // the catalog it is in

	Name        string `json:"name"`
	Distro      string `json:"distro,omitempty"` // as ID in os-release(5): "debian"
	Arch        string `json:"arch,omitempty"`   // as Go names it; "" for any
	Description string `json:"description,omitempty"`
	KernelRef   string `json:"kernel_ref,omitempty"` // name of the kernel it wants; "" for the default

	Bundle *CatalogFile `json:"bundle,omitempty"`
	OCI    *CatalogOCI  `json:"oci,omitempty"`
	Apt    *CatalogApt  `json:"apt,omitempty"`

	// Shadowed is the catalog whose entry of the same name comes before this one.
	Shadowed string `json:"shadowed_by,omitempty"`
}

// Kind names the source of an entry: "bundle", "oci" or "apt".
func (e CatalogEntry) Kind() string {
	switch {
	case e.Bundle != nil:
		return "bundle"
	case e.OCI != nil:
		return "oci"
	}
	return "apt"
}

// CatalogFile is a file that is published somewhere.
type CatalogFile struct {
	URL    string `json:"url"`    // https, file, or oci:<registry>/<repository>; in a file it may be relative to the catalog
	SHA256 string `json:"sha256"` // hex
	Size   int64  `json:"size"`
}

// CatalogOCI is an image in a registry.
type CatalogOCI struct {
	Ref string `json:"ref"`
}

// CatalogApt is a recipe: a root file system made from the host's own package
// sources.
type CatalogApt struct {
	Suite    string   `json:"suite"`
	Packages []string `json:"packages,omitempty"` // besides the essential ones and apt
}

// CatalogKernel is a kernel that can be pulled by name.
type CatalogKernel struct {
	Catalog     string `json:"catalog,omitempty"` // the catalog it is in
	Name        string `json:"name"`
	Arch        string `json:"arch"`
	Description string `json:"description,omitempty"`
	CatalogFile        // what `kernel import` takes: a linux-image package, a vmlinuz or a vmlinux
}

// Catalog is a list of what can be pulled by name, and where it comes from.
type Catalog struct {
	Name     string `json:"name"`
	Source   string `json:"source"`             // path, https URL or oci:<registry>/<repository>[:tag]; "embedded" for ours
	Key      string `json:"key,omitempty"`      // minisign public key that must have signed it
	Insecure bool   `json:"insecure,omitempty"` // taken without a signature

	Images    int       `json:"images"`
	Kernels   int       `json:"kernels"`
	SignedAt  time.Time `json:"signed_at,omitzero"`  // as its signature says
	FetchedAt time.Time `json:"fetched_at,omitzero"` // of a remote one
	Problem   string    `json:"problem,omitempty"`   // why it cannot be used
}

// CatalogAdd is the request of catalog.add.
type CatalogAdd struct {
	Name     string `json:"name"`
	Source   string `json:"source"`             // absolute path, URL or oci:<registry>/<repository>[:tag]
	Key      string `json:"key,omitempty"`      // minisign public key
	Insecure bool   `json:"insecure,omitempty"` // take a remote one without a signature
}

// CatalogFind is the request of catalog.show.
type CatalogFind struct {
	Name string `json:"name"`
	Arch string `json:"arch,omitempty"` // "": the host's
}

// CatalogUpdate is the request of catalog.update.
type CatalogUpdate struct {
	Name string `json:"name,omitempty"` // empty: all
}
