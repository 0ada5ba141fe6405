package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

// limitFlag is the same wherever layers are converted.
func limitFlag(cmd *cobra.Command, l *api.Limits) {
	const usage = "allow an image that you trust more: `name=value` of bytes (default 64g), ratio (200), entries (5000000) or metadata (1g)"
	cmd.Flags().Func("limit", usage, func(text string) error { return parseLimit(l, text) })
}

// parseLimit reads name=value, or several with commas between them.
func parseLimit(l *api.Limits, text string) error {
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(part, "=")
		var n int64
		var err error
		switch name {
		case "bytes", "metadata":
			n, err = parseSize("limit "+name, value)
		case "ratio", "entries":
			if n, err = strconv.ParseInt(value, 10, 64); err == nil && n <= 0 {
				err = strconv.ErrRange
			}
		default:
			return fmt.Errorf("want bytes=, ratio=, entries= or metadata=")
		}
		if err != nil || n == 0 {
			return fmt.Errorf("want a positive number after %s=", name)
		}
		*map[string]*int64{"bytes": &l.Bytes, "ratio": &l.Ratio, "entries": &l.Entries, "metadata": &l.MetadataBytes}[name] = n
	}
	return nil
}
