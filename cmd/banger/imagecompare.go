package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

func (c *cli) imageVerify() *cobra.Command {
	var req api.ImageVerify
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify [flags] <image>",
		Short: "Compare an image's disk with its layers, path by path",
		Long: `Read the layers of an image again, from the cache or from where it was pulled from,
and compare the disk with them path by path: type, permissions, owner, time, device,
size, links, attributes, ACLs and contents. It shares nothing with the way the disk was
made but the reader of tar archives. What we added is listed, and compared with what
the image's record says of it. The root directory's own permissions, owner and time do
not count.

EXIT STATUS
  0    equal
  1    different, and each difference is printed; or not compared, and the message
       on standard error says why
  2    wrong usage`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Name = args[0]
			conn, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			var v api.ImageVerified
			if err := c.stream(cmd.Context(), conn, "verifying "+req.Name, "image.verify", req, &v); err != nil {
				return err
			}
			if err := c.printVerified(v, asJSON); err != nil || v.Equal {
				return err
			}
			return exitStatus(exitFailed)
		},
	}
	insecureFlag(cmd, &req.Insecure)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func (c *cli) printVerified(v api.ImageVerified, asJSON bool) error {
	if asJSON {
		return printJSON(c.stdout, v)
	}
	replaced := map[string]bool{}
	for _, path := range v.Replaced {
		replaced[path] = true
	}
	var added, differences []string
	for _, path := range v.Added {
		text := escape(path)
		if replaced[path] {
			text += " (in place of what the image has there)"
		}
		added = append(added, text)
	}
	for _, d := range v.Differences {
		differences = append(differences, fmt.Sprintf("%s: %s", escape(d.Path), difference(d)))
	}
	verdict := "equal to its layers"
	if n := len(differences); n == 1 {
		verdict = "1 difference from its layers"
	} else if n > 1 {
		verdict = fmt.Sprintf("%d differences from its layers", n)
	}
	fmt.Fprintf(c.stdout, "%s: %s; %d paths, %s of contents\n", v.Image, verdict, v.Paths, size(v.Bytes))
	section(c.stdout, "added", added)
	section(c.stdout, "differences", differences)
	return nil
}

// difference says what is wrong with a path.
func difference(d api.Difference) string {
	switch {
	case d.Want == "" && d.Got == "":
		return escape(d.What)
	case d.Got == "":
		return fmt.Sprintf("%s: want %s", escape(d.What), escape(d.Want))
	case d.Want == "":
		return fmt.Sprintf("%s: %s", escape(d.What), escape(d.Got))
	}
	return fmt.Sprintf("%s: got %s, want %s", escape(d.What), escape(d.Got), escape(d.Want))
}

func insecureFlag(cmd *cobra.Command, insecure *bool) {
	cmd.Flags().BoolVar(insecure, "insecure", false, "allow plain HTTP to any registry for layers that are no longer cached (always allowed to this machine)")
}

func (c *cli) imageDiff() *cobra.Command {
	var req api.ImageDiff
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "diff [flags] <image-or-vm>",
		Short: "List what has changed in an image since its layers, or in a VM since its image",
		Long: `List what has changed: on the disk of an image beside its layers, which is what we
added; or on the disk of a VM that does not run beside its image. Each line is a path
with A (added), C (changed) or D (deleted; with all that was below it). Where an image
and a VM have the same name, say image:<name> or vm:<name>.` + exitHelp,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Name = args[0]
			conn, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			var changes []api.Change
			if err := c.stream(cmd.Context(), conn, "comparing "+req.Name, "image.diff", req, &changes); err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.stdout, changes)
			}
			for _, change := range changes {
				fmt.Fprintf(c.stdout, "%s %s\n", change.Kind, escape(change.Path))
			}
			return nil
		},
	}
	insecureFlag(cmd, &req.Insecure)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array, which also says what has changed in each path")
	return cmd
}
