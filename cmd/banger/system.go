package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

func (c *cli) system() *cobra.Command {
	return noun("system", "Measure, clear and check what banger keeps", c.systemDF(), c.systemPrune(), c.systemCheck())
}

func (c *cli) systemDF() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "df",
		Short: "Show what takes room on the disk",
		Long: `Show what images, kernels, VMs and the cache take on the disk. SIZE is how large the
files seem, ON DISK what they take: disks are full of holes. A kernel that images share
counts once; blocks that disks share count for each. RECLAIMABLE is what "system prune
--all" would free.` + exitHelp,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			var usage []api.DiskUsage
			if err := c.call(cmd.Context(), conn, "measuring", "system.df", nil, &usage); err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.stdout, usage)
			}
			rows := make([][]string, len(usage))
			for i, u := range usage {
				rows[i] = []string{u.Kind, strconv.Itoa(u.Count), size(u.SizeBytes), size(u.AllocatedBytes), size(u.ReclaimableBytes), escape(u.Path)}
			}
			return table(c.stdout, []string{"KIND", "COUNT", "SIZE", "ON DISK", "RECLAIMABLE", "PATH"}, rows)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return cmd
}

func (c *cli) systemPrune() *cobra.Command {
	var req api.Prune
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove what nothing uses, but no VM",
		Long: `Remove images that have lost their name, downloads that no image here was made of, and
what a crash has left. With --all also every image that no VM uses, promoted and
registered ones included, the kernels that are then used by none, but for the default
one, and the whole cache of downloads. VMs and their disks are never removed.` + exitHelp,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			var pruned []api.Pruned
			if err := c.stream(cmd.Context(), conn, "looking for what nothing uses", "system.prune", req, &pruned); err != nil {
				return err
			}
			return c.pruned(pruned, req.DryRun, asJSON)
		},
	}
	pruneFlags(cmd, &req, &asJSON)
	return cmd
}

func (c *cli) systemCheck() *cobra.Command {
	var req api.SystemCheck
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check [flags]",
		Short: "Check that the database and the directories agree",
		Long: `Check the database, and that images, kernels and VMs are where and what it says. With
--repair, what can be repaired without losing anything is: leftovers are removed, a
default kernel that is gone is replaced, a VM whose disk is gone is forgotten.

EXIT STATUS
  0    all is well, or was repaired
  1    something is wrong, or could not be checked
  2    wrong usage`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			var problems []api.Problem
			if err := c.call(cmd.Context(), conn, "checking", "system.check", req, &problems); err != nil {
				return err
			}
			return c.problems(problems, asJSON)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&req.Repair, "repair", false, "repair what is safe to repair")
	f.BoolVar(&asJSON, "json", false, "print a JSON array")
	return cmd
}

// problems prints what a check has found; what is left is an error.
func (c *cli) problems(all []api.Problem, asJSON bool) error {
	left, repairable := 0, 0
	for _, p := range all {
		if !p.Repaired {
			left++
			if p.Repair != "" {
				repairable++
			}
		}
	}
	if asJSON {
		if err := printJSON(c.stdout, all); err != nil {
			return err
		}
	} else {
		for _, p := range all {
			done := ""
			if p.Repaired {
				done = " (repaired)"
			}
			fmt.Fprintf(c.stdout, "%s %s: %s%s\n", p.Kind, escape(p.Name), escape(p.Message), done)
		}
	}
	if left == 0 {
		return nil
	}
	err := fmt.Errorf("system check: problems left: %d", left)
	if repairable > 0 {
		return api.Hint(err, fmt.Sprintf("%d of them can be repaired: banger system check --repair", repairable))
	}
	return err
}
