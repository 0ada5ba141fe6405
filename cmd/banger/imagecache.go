package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

func (c *cli) imageCache() *cobra.Command {
	return noun("cache", "Show and clear the cache of downloads", c.cacheShow(), c.cachePrune())
}

func (c *cli) cacheShow() *cobra.Command {
	return shows(c, &cobra.Command{
		Use:   "show",
		Short: "Show what is in the cache of downloads",
		Long: `Show the cache of downloads: layers and other blobs, whole and begun, and when one was
used last. After each pull the blobs go that were not used for the longest time, while
there is more than the limit; max_bytes in [cache] of config.toml sets it.` + exitHelp,
		Args: exactly(0),
	}, "cache.show", nothing, func(cache api.Cache) error {
		limit := "none"
		if cache.LimitBytes > 0 {
			limit = size(cache.LimitBytes)
		}
		fields := [][2]string{
			{"path", cache.Path},
			{"blobs", fmt.Sprintf("%d, %s", cache.Blobs, size(cache.BlobBytes))},
			{"partial", fmt.Sprintf("%d, %s", cache.Partials, size(cache.PartialBytes))},
			{"limit", limit},
		}
		if cache.Blobs+cache.Partials > 0 {
			fields = append(fields, [2]string{"oldest use", age(cache.OldestUse)}, [2]string{"newest use", age(cache.NewestUse)})
		}
		c.fields(fields)
		return nil
	})
}

func (c *cli) cachePrune() *cobra.Command {
	var req api.Prune
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove downloads that no image was made of",
		Long: `Remove downloads, whole and begun, that no image here was made of. With --all the whole
cache goes. What a pull under way uses stays, in any process.` + exitHelp,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			var pruned []api.Pruned
			if err := c.stream(cmd.Context(), conn, "pruning the cache", "cache.prune", req, &pruned); err != nil {
				return err
			}
			return c.pruned(pruned, req.DryRun, asJSON)
		},
	}
	pruneFlags(cmd, &req, &asJSON)
	cmd.Flags().Lookup("all").Usage = "also what images were made of"
	return cmd
}
