package api

import "embed"

// GoSource is the source of this package. The description of the HTTP API takes
// what it says about types and fields from the comments here.
//
//go:embed *.go
var GoSource embed.FS
