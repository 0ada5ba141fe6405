package api

import "time"

// DiskUsage is one line of what banger has on the disk.
type DiskUsage struct {
	Kind             string `json:"kind"` // "images", "kernels", "vms", "cache", "staging"
	Path             string `json:"path"` // directory that they are below
	Count            int    `json:"count"`
	SizeBytes        int64  `json:"size_bytes"`        // as large as the files seem
	AllocatedBytes   int64  `json:"allocated_bytes"`   // blocks on the host's disk; a file of several names counts once, with the kernels if it is theirs
	ReclaimableBytes int64  `json:"reclaimable_bytes"` // of the allocated: what `system prune --all` frees
}

// Cache is the cache of downloads. Sizes are of blocks on the host's disk.
type Cache struct {
	Path         string    `json:"path"`
	Blobs        int       `json:"blobs"`
	BlobBytes    int64     `json:"blob_bytes"`
	Partials     int       `json:"partials"` // downloads that have not ended; pulls go on with them
	PartialBytes int64     `json:"partial_bytes"`
	LimitBytes   int64     `json:"limit_bytes"` // of both; after a pull the blobs go that were not used for the longest time; 0: none
	OldestUse    time.Time `json:"oldest_use,omitzero"`
	NewestUse    time.Time `json:"newest_use,omitzero"`
}

// Pruned is one thing that was removed, or would be.
type Pruned struct {
	Kind       string `json:"kind"` // "image", "kernel", "blob", "staging"
	Name       string `json:"name"`
	FreedBytes int64  `json:"freed_bytes"` // on the host's disk
}

// Problem is something in the state directory that should not be.
type Problem struct {
	Kind     string `json:"kind"` // "database", "image", "kernel", "vm", "staging"
	Name     string `json:"name"`
	Message  string `json:"message"`
	Repair   string `json:"repair,omitempty"` // what --repair does about it; "": a person has to
	Repaired bool   `json:"repaired"`
}

// Checkup collects problems, and has those repaired that can be.
type Checkup struct {
	Repair   bool
	Problems []Problem
}

// Found adds a problem. fix is what p.Repair says, nil when that is empty.
func (c *Checkup) Found(p Problem, fix func() error) {
	if c.Repair && fix != nil {
		if err := fix(); err != nil {
			p.Message += "; the repair failed: " + err.Error()
		} else {
			p.Repaired = true
		}
	}
	c.Problems = append(c.Problems, p)
}
