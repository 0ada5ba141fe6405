package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/catalog"
	"banger/internal/client"
)

func (c *cli) catalog() *cobra.Command {
	cmd := noun("catalog", "List what can be pulled by name, and from where",
		c.catalogList(), c.catalogShow(), c.catalogSources(), c.catalogAdd(), c.catalogRemove(), c.catalogUpdate(), c.catalogVerify())
	cmd.Long = `Catalogs say what a name such as debian-bookworm means: a bundle to download, an
image in a registry, or a recipe for this machine's package sources. One is part
of banger; others are added. They are fetched by "add" and "update" only, so
names mean the same without a network.` + exitHelp
	return cmd
}

func (c *cli) catalogList() *cobra.Command {
	var asJSON, kernels bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List what can be pulled by name",
		Long:    "List what can be pulled by name.\nWhere two catalogs have a name, the one that is used is shown." + exitHelp,
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			var sources []api.Catalog
			if err := conn.Call(cmd.Context(), "catalog.sources", nil, &sources); err != nil {
				return err
			}
			for _, s := range sources {
				if s.Problem != "" {
					c.warn("catalog %s, and what comes after it, cannot be used: %s", s.Name, s.Problem)
				}
			}
			if kernels {
				return c.listCatalogKernels(cmd, conn, asJSON)
			}
			var entries []api.CatalogEntry
			if err := conn.Call(cmd.Context(), "catalog.list", nil, &entries); err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.stdout, entries)
			}
			var rows [][]string
			for _, e := range entries {
				if e.Shadowed == "" {
					rows = append(rows, []string{e.Name, orNone(e.Arch), e.Kind(), bundleSize(e), e.Catalog, escape(e.Description)})
				}
			}
			return table(c.stdout, []string{"NAME", "ARCH", "KIND", "DOWNLOAD", "CATALOG", "DESCRIPTION"}, rows)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array, of all entries")
	cmd.Flags().BoolVar(&kernels, "kernels", false, "list kernels")
	return cmd
}

func (c *cli) listCatalogKernels(cmd *cobra.Command, conn *client.Client, asJSON bool) error {
	var kernels []api.CatalogKernel
	if err := conn.Call(cmd.Context(), "catalog.kernels", nil, &kernels); err != nil {
		return err
	}
	if asJSON {
		return printJSON(c.stdout, kernels)
	}
	rows := make([][]string, len(kernels))
	for i, k := range kernels {
		rows[i] = []string{k.Name, k.Arch, size(k.Size), k.Catalog, escape(k.Description)}
	}
	return table(c.stdout, []string{"NAME", "ARCH", "DOWNLOAD", "CATALOG", "DESCRIPTION"}, rows)
}

// bundleSize is what a pull downloads, when the catalog says.
func bundleSize(e api.CatalogEntry) string {
	if e.Bundle == nil {
		return "-"
	}
	return size(e.Bundle.Size)
}

func (c *cli) catalogShow() *cobra.Command {
	var asJSON bool
	var req api.CatalogFind
	cmd := &cobra.Command{
		Use:   "show <name>",
		Short: "Show what a name means",
		Long:  "Show what a name means: what an image pull of it would take." + exitHelp,
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			conn, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			req.Name = args[0]
			var e api.CatalogEntry
			if err := conn.Call(cmd.Context(), "catalog.show", req, &e); err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.stdout, e)
			}
			fields := [][2]string{
				{"name", e.Name},
				{"catalog", e.Catalog},
				{"distro", e.Distro},
				{"arch", e.Arch},
				{"description", e.Description},
				{"kernel", e.KernelRef},
				{"kind", e.Kind()},
			}
			switch {
			case e.Bundle != nil:
				fields = append(fields, [2]string{"url", e.Bundle.URL}, [2]string{"sha256", e.Bundle.SHA256}, [2]string{"size", size(e.Bundle.Size)})
			case e.OCI != nil:
				fields = append(fields, [2]string{"ref", e.OCI.Ref})
			case e.Apt != nil:
				fields = append(fields, [2]string{"suite", e.Apt.Suite}, [2]string{"packages", strings.Join(e.Apt.Packages, " ")})
			}
			c.fields(fields)
			return nil
		},
	}
	cmd.Flags().StringVar(&req.Arch, "arch", "", "architecture, such as arm64 (default: this machine's)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func (c *cli) catalogSources() *cobra.Command {
	return shows(c, &cobra.Command{
		Use:   "sources",
		Short: "List the catalogs",
		Long: `List the catalogs, in the order in which names are looked up. A catalog of yours
is a file, catalogs/<name>.toml, in the configuration directory:

  source = "https://example.org/catalog.json"   or a path, or oci:registry/repository:tag
  key = "RW..."                                 minisign key that must have signed it` + exitHelp,
		Args: exactly(0),
	}, "catalog.sources", nothing, func(all []api.Catalog) error {
		return c.printCatalogs(all)
	})
}

func (c *cli) printCatalogs(all []api.Catalog) error {
	rows := make([][]string, len(all))
	for i, s := range all {
		fetched := "-"
		if !s.FetchedAt.IsZero() {
			fetched = age(s.FetchedAt)
		}
		rows[i] = []string{s.Name, fmt.Sprint(s.Images), fmt.Sprint(s.Kernels), trust(s), fetched, escape(s.Source)}
	}
	return table(c.stdout, []string{"NAME", "IMAGES", "KERNELS", "TRUST", "FETCHED", "SOURCE"}, rows)
}

// trust says in few words why a catalog is believed.
func trust(s api.Catalog) string {
	switch {
	case s.Problem != "":
		return "unusable"
	case s.Key != "":
		return "signed"
	case s.Insecure:
		return "unsigned, allowed"
	case s.Name == catalog.Embedded:
		return "part of banger"
	}
	return "local file"
}

func (c *cli) catalogAdd() *cobra.Command {
	var req api.CatalogAdd
	var key string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "add [flags] <name> <path-or-url>",
		Short: "Add a catalog",
		Long: `Add a catalog: a file of this machine, an https:// URL, or an artifact in a
registry, oci:registry/repository[:tag]. One from elsewhere must be signed with
minisign (catalog.json.minisig beside it) by the key you give, unless you say
--insecure. Its names come before those of banger's own.` + exitHelp,
		Args: exactly(2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			req.Name = args[0]
			if req.Source, err = catalogSource(args[1]); err != nil {
				return err
			}
			if key != "" {
				if req.Key, err = catalog.ReadKey(key); err != nil {
					return err
				}
			}
			conn, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			var added api.Catalog
			if err := c.call(cmd.Context(), conn, "fetching "+req.Source, "catalog.add", req, &added); err != nil {
				return err
			}
			if err := c.sayShadowed(cmd, conn, added.Name); err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.stdout, added)
			}
			c.say("%d images and %d kernels", added.Images, added.Kernels)
			fmt.Fprintln(c.stdout, added.Name)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&key, "key", "", "minisign public key that must have signed it: RW... or a .pub file")
	f.BoolVar(&req.Insecure, "insecure", false, "take a catalog from elsewhere without a signature")
	f.BoolVar(&asJSON, "json", false, "print the catalog as JSON")
	return cmd
}

// catalogSource makes a path absolute: the daemon has another working directory.
func catalogSource(arg string) (string, error) {
	if path, ok := strings.CutPrefix(arg, "file://"); ok {
		arg = path
	} else if strings.Contains(arg, "://") || strings.HasPrefix(arg, "oci:") {
		return arg, nil
	}
	return filepath.Abs(arg)
}

// sayShadowed tells of names that mean something else from now on.
func (c *cli) sayShadowed(cmd *cobra.Command, conn *client.Client, by string) error {
	var entries []api.CatalogEntry
	if err := conn.Call(cmd.Context(), "catalog.list", nil, &entries); err != nil {
		return err
	}
	for _, e := range entries {
		if e.Shadowed == by {
			c.say("note: %s now means that of %s, not of %s", e.Name, by, e.Catalog)
		}
	}
	return nil
}

func (c *cli) catalogRemove() *cobra.Command {
	return &cobra.Command{
		Use:     "remove <name>...",
		Aliases: []string{"rm"},
		Short:   "Remove catalogs",
		Long:    "Remove catalogs. Images that were pulled by them stay." + exitHelp,
		Args:    atLeastOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.each(cmd.Context(), "removing", args, func(conn *client.Client, name string) error {
				return conn.Call(cmd.Context(), "catalog.remove", api.Named{Name: name}, nil)
			})
		},
	}
}

func (c *cli) catalogUpdate() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "update [<name>]",
		Short: "Fetch catalogs as they are now",
		Long: `Fetch one catalog, or all, as they are now. One that is not signed as it must be,
or was signed before the one that is here, is refused, and the old one stays.` + exitHelp,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{errors.New("catalog update: name one, or none for all")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			conn, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			var all []api.Catalog
			req := api.CatalogUpdate{Name: strings.Join(args, "")}
			if err := c.stream(cmd.Context(), conn, "fetching catalogs", "catalog.update", req, &all); err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.stdout, all)
			}
			return c.printCatalogs(all)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return cmd
}

func (c *cli) catalogVerify() *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Check the catalogs that are here, without the network",
		Long: `Check the catalogs that are here: signatures, form, and every entry. Nothing is
fetched.

EXIT STATUS
  0    all can be used
  1    one cannot; the message on standard error says why
  2    wrong usage`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			var all []api.Catalog
			if err := conn.Call(cmd.Context(), "catalog.sources", nil, &all); err != nil {
				return err
			}
			if err := c.printCatalogs(all); err != nil {
				return err
			}
			var bad []error
			for _, s := range all {
				if s.Problem != "" {
					bad = append(bad, fmt.Errorf("catalog %s: %s", s.Name, escape(s.Problem)))
				}
			}
			return api.Hint(errors.Join(bad...), "fetch it again: banger catalog update; or drop it: banger catalog remove")
		},
	}
}
