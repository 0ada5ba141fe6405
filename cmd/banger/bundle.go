package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/bundle"
	"banger/internal/catalog"
	"banger/internal/image"
	"banger/internal/oci"
)

func (c *cli) bundle() *cobra.Command {
	cmd := noun("bundle", "Make and publish bundles: disks that are ready to boot", c.bundleBuild(), c.bundlePush())
	cmd.Long = `A bundle is a disk that is ready to boot as one file, .tar.zst, of rootfs.ext4 and
manifest.json. A catalog names it; banger image pull <name> unpacks it, with no
conversion.` + exitHelp
	return cmd
}

// built says how a bundle is made.
type built struct {
	out     string
	name    string
	kernel  string
	url     string
	force   bool
	convert image.Options

	platform string
	insecure bool
}

func (c *cli) bundleBuild() *cobra.Command {
	var b built
	var sizeText, description string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "build [flags] <image-or-ref> -o <name.tar.zst>",
		Short: "Make a bundle of an image",
		Long: `Make a bundle of an image in the store, or of whatever image pull takes from a
registry, a layout or a tar. It prints sha256, size, and an entry to put into a
catalog. The same image, options and build of banger give the same bytes.` + exitHelp,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if b.out == "" {
				return usageError{errors.New("say where to write the bundle: -o name.tar.zst")}
			}
			var err error
			if b.convert.SizeBytes, err = parseSize("size", sizeText); err != nil {
				return err
			}
			e, err := c.buildBundle(cmd.Context(), args[0], b)
			if err != nil {
				return fmt.Errorf("build bundle of %s: %w", args[0], err)
			}
			e.Description, e.Bundle.URL = description, cmp.Or(b.url, e.Bundle.URL)
			return c.printBundle(e, asJSON)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&b.out, "output", "o", "", "the file to write")
	f.StringVar(&b.name, "name", "", "name in the catalog (default: that of the image)")
	f.StringVar(&b.kernel, "kernel-ref", "", "name of the kernel that the image wants (default: any)")
	f.StringVar(&description, "description", "", "one line about it, for the entry")
	f.StringVar(&b.url, "url", "", "where it will be, for the entry (default: beside the catalog)")
	f.BoolVar(&b.force, "force", false, "replace the output file")
	f.BoolVar(&asJSON, "json", false, "print only the entry")
	f.StringVar(&sizeText, "size", "", "of a ref: exact size of the disk, such as 4G (default: content x 1.25, at least 1 GiB)")
	f.BoolVar(&b.convert.NoGuestFiles, "no-guest-files", false, "of a ref: the image alone, nothing of ours")
	f.StringVar(&b.platform, "platform", "", "of a ref: platform of the image, os/arch[/variant] (default: linux on this machine's)")
	f.BoolVar(&b.insecure, "insecure", false, "of a ref: allow plain HTTP to any registry (always allowed to this machine)")
	return cmd
}

// buildBundle makes the bundle of an image of the store, if there is one of that
// name, else of a ref.
func (c *cli) buildBundle(ctx context.Context, what string, b built) (api.CatalogEntry, error) {
	if catalog.IsName(what) {
		conn, err := c.connect(ctx)
		if err != nil {
			return api.CatalogEntry{}, err
		}
		var img api.Image
		err = conn.Call(ctx, "image.show", api.Named{Name: what}, &img)
		if err == nil {
			return c.bundleOfImage(ctx, img, b)
		}
		if !errors.Is(err, api.ErrNotFound) {
			return api.CatalogEntry{}, err
		}
	}
	return c.bundleOfRef(ctx, what, b)
}

func (c *cli) bundleOfImage(ctx context.Context, img api.Image, b built) (e api.CatalogEntry, err error) {
	if b.convert.SizeBytes != 0 || b.convert.NoGuestFiles || b.platform != "" {
		return e, usageError{errors.New("--size, --no-guest-files and --platform are for refs: an image is taken as it is")}
	}
	if err := image.Unchanged(img); err != nil {
		return e, err
	}
	return c.pack(ctx, img.RootfsPath, bundle.Manifest{
		Name: cmp.Or(b.name, img.Name), Arch: archOf(img.Platform), SourceDigest: img.Digest, Process: img.Process,
	}, b)
}

func (c *cli) bundleOfRef(ctx context.Context, what string, b built) (e api.CatalogEntry, err error) {
	ref, err := oci.Normalize(what)
	if err != nil {
		return e, err
	}
	fetch, err := c.fetch(b.platform, b.insecure)
	if err != nil {
		return e, err
	}
	p, end := c.show("resolving " + ref.String())
	defer end()
	fetch.Progress = p
	release, err := oci.Hold(fetch)
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, release()) }()
	src, err := oci.Resolve(ctx, ref, fetch)
	if err != nil {
		return e, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(b.out), ".banger-bundle-")
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	disk := filepath.Join(dir, "rootfs.ext4")
	made, err := image.ConvertFile(ctx, src, disk, b.convert, p)
	if err != nil {
		return e, err
	}
	end()
	c.warnings(made.Warnings)
	return c.pack(ctx, disk, bundle.Manifest{
		Name: cmp.Or(b.name, ref.Name()), Arch: archOf(src.Platform), SourceDigest: src.Digest, Process: src.Config,
	}, b)
}

func (c *cli) pack(ctx context.Context, disk string, m bundle.Manifest, b built) (api.CatalogEntry, error) {
	m.KernelRef = b.kernel
	if err := api.CheckName("bundle", m.Name); err != nil {
		return api.CatalogEntry{}, err
	}
	if m.KernelRef != "" {
		if err := api.CheckName("kernel", m.KernelRef); err != nil {
			return api.CatalogEntry{}, err
		}
	}
	p, end := c.show("packing " + m.Name)
	defer end()
	return image.PackFile(ctx, b.out, disk, m, b.force, p)
}

// archOf returns the architecture of "linux/amd64".
func archOf(platform string) string {
	parts := strings.Split(platform, "/")
	return parts[min(1, len(parts)-1)]
}

// bundleType is the media type of a bundle as an artifact.
const bundleType = "application/vnd.banger.bundle.v1"

func (c *cli) bundlePush() *cobra.Command {
	var push oci.Push
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "push [flags] <name.tar.zst> <registry/repository:tag>",
		Short: "Store a bundle in an OCI registry",
		Long: `Store a bundle in an OCI registry, as an artifact, with the credentials of docker
or podman, and print the entry to put into a catalog.` + exitHelp,
		Args: exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			push.Path, push.Ref, push.Type = args[0], args[1], bundleType
			if _, err := image.DescribeBundle(push.Path, api.CatalogFile{}); err != nil {
				return err
			}
			fetch, err := c.fetch("", false)
			if err != nil {
				return err
			}
			push.Registries = fetch.Registries
			p, end := c.show("pushing " + push.Path)
			f, err := push.Do(cmd.Context(), p)
			end()
			if err != nil {
				return err
			}
			e, err := image.DescribeBundle(push.Path, api.CatalogFile{URL: f.URL, SHA256: strings.TrimPrefix(f.Digest, "sha256:"), Size: f.Size})
			if err != nil {
				return err
			}
			return c.printBundle(e, asJSON)
		},
	}
	cmd.Flags().BoolVar(&push.Insecure, "insecure", false, "allow plain HTTP to any registry (always allowed to this machine)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print only the entry")
	return cmd
}

// printBundle prints what somebody who publishes a bundle needs.
func (c *cli) printBundle(e api.CatalogEntry, asJSON bool) error {
	if !asJSON {
		c.fields([][2]string{{"sha256", e.Bundle.SHA256}, {"size", fmt.Sprintf("%d (%s)", e.Bundle.Size, size(e.Bundle.Size))}})
	}
	return printJSON(c.stdout, e)
}
