package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

func (c *cli) imageList() *cobra.Command {
	return shows(c, &cobra.Command{
		Use:   "list",
		Short: "List images",
		Long: `List images, a line for each name. SIZE is that of the disk as a VM sees it, ON DISK
what it takes here.` + exitHelp,
		Args: exactly(0),
	}, "image.list", nothing, func(images []api.Image) error {
		var rows [][]string
		for _, img := range images {
			names := img.Names
			if len(names) == 0 {
				names = []string{""}
			}
			for _, name := range names {
				rows = append(rows, []string{orNone(name), img.ID, orNone(img.Ref), orNone(img.KernelRef), size(img.SizeBytes), size(img.AllocatedBytes), age(img.CreatedAt)})
			}
		}
		return table(c.stdout, []string{"NAME", "ID", "REF", "KERNEL", "SIZE", "ON DISK", "CREATED"}, rows)
	})
}

func orNone(s string) string {
	if s == "" {
		return "-"
	}
	return escape(s)
}

func (c *cli) imageShow() *cobra.Command {
	return shows(c, &cobra.Command{
		Use:   "show <image>",
		Short: "Show one image",
		Long: `Show one image: what it was made from and how that was built, where it is, what it
runs, what we added to it and what its conversion warned of.` + exitHelp,
		Args: exactly(1),
	}, "image.show", named, func(img api.Image) error {
		c.showImage(img)
		return nil
	})
}

func (c *cli) showImage(img api.Image) {
	managed := "yes"
	if !img.Managed {
		managed = "no: registered in place"
	}
	labels := make([]string, 0, len(img.Source.Labels))
	for _, key := range slices.Sorted(maps.Keys(img.Source.Labels)) {
		labels = append(labels, key+"="+img.Source.Labels[key])
	}
	c.fields([][2]string{
		{"name", strings.Join(img.Names, ", ")},
		{"id", img.ID},
		{"ref", img.Ref},
		{"digest", img.Digest},
		{"config", img.Source.ConfigDigest},
		{"platform", img.Platform},
		{"managed", managed},
		{"rootfs", img.RootfsPath},
		{"size", fmt.Sprintf("%s, %s on disk", size(img.SizeBytes), size(img.AllocatedBytes))},
		{"kernel", kernelText(img)},
		{"initrd", img.InitrdPath},
		{"modules", img.ModulesDir},
		{"entrypoint", quoteAll(img.Process.Entrypoint)},
		{"cmd", quoteAll(img.Process.Cmd)},
		{"env", quoteAll(img.Process.Env)},
		{"user", img.Process.User},
		{"workdir", img.Process.WorkingDir},
		{"stop signal", img.Process.StopSignal},
		{"ports", strings.Join(img.Source.ExposedPorts, " ")},
		{"volumes", quoteAll(img.Source.Volumes)},
		{"labels", quoteAll(labels)},
		{"author", img.Source.Author},
		{"created", age(img.CreatedAt)},
	})
	var layers, history, added, warnings []string
	for _, l := range img.Source.Layers {
		layers = append(layers, fmt.Sprintf("%s  %s", l.Digest, size(l.Size)))
	}
	for _, h := range img.Source.History {
		history = append(history, shorten(strings.Join(strings.Fields(h.CreatedBy+" "+h.Comment), " "), 100))
	}
	for _, f := range img.Added {
		if f.Link != "" {
			added = append(added, fmt.Sprintf("link  %s -> %s", f.Path, f.Link))
		} else {
			added = append(added, fmt.Sprintf("%s  %s", f.Mode, f.Path))
		}
	}
	for _, w := range img.Warnings {
		warnings = append(warnings, strings.TrimPrefix(w.Path+": "+w.Message, ": "))
	}
	for _, s := range []struct {
		title string
		lines []string
	}{
		{"layers", layers},
		{"history", history},
		{"added files", added},
		{"warnings", warnings},
	} {
		section(c.stdout, s.title, s.lines)
	}
}

// section prints lines below a title, and nothing when there are none.
func section(w io.Writer, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", title)
	for _, line := range lines {
		fmt.Fprintf(w, "  %s\n", escape(line))
	}
}

// shorten cuts text to n characters; --json has all of it.
func shorten(text string, n int) string {
	if r := []rune(text); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return text
}

func kernelText(img api.Image) string {
	switch {
	case img.KernelPath == "":
		return "none yet: the default one when a VM is made"
	case img.KernelRef == "":
		return img.KernelPath
	}
	return img.KernelRef + " " + img.KernelPath
}
