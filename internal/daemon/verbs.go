package daemon

import (
	"context"
	"runtime"

	"banger/internal/api"
	"banger/internal/du"
	"banger/internal/kernel"
)

type none = struct{}

// routes is the whole API, a line for each verb.
func (d *daemon) routes() *server {
	s := newServer()
	d.busy = s.busy.Load

	stream(s, "image.pull", "Make an OCI image a bootable image", d.images.Pull)
	stream(s, "image.register", "Make a root file system that exists an image", func(ctx context.Context, req api.ImageRegister, p api.Progress) (api.Image, error) {
		return d.images.Register(ctx, req, "linux/"+runtime.GOARCH, p)
	})
	stream(s, "image.promote", "Make the disk of a VM that does not run an image", d.promoteImage)
	stream(s, "image.verify", "Compare the disk of an image with its layers, read again", d.images.Verify)
	stream(s, "image.diff", "List what has changed in an image since its layers, or on the disk of a VM since its image", d.diff)
	call(s, "image.tag", "Give an image one more name", d.images.Tag)
	call(s, "image.list", "List the images, newest first", func(ctx context.Context, _ none) ([]api.Image, error) { return d.images.List(ctx) })
	call(s, "image.show", "Show an image", func(ctx context.Context, req api.Named) (api.Image, error) { return d.images.Show(ctx, req.Name) })
	call(s, "image.rm", "Remove a name of an image, and with its last one the image", d.removeImage)
	call(s, "image.prune", "Remove images that nothing uses", func(ctx context.Context, req api.Prune) ([]api.Pruned, error) {
		return d.images.Prune(ctx, req, new(du.Tally))
	})

	call(s, "cache.show", "Show the cache of downloads", func(context.Context, none) (api.Cache, error) { return d.showCache() })
	stream(s, "cache.prune", "Remove downloads that no image was made of", d.pruneDownloads)

	c := d.images.Catalogs
	call(s, "catalog.list", "List the images that can be pulled by name", func(context.Context, none) ([]api.CatalogEntry, error) { return c.Images() })
	call(s, "catalog.show", "Show an image that can be pulled by name", d.showCatalogEntry)
	call(s, "catalog.kernels", "List the kernels that can be pulled by name", func(context.Context, none) ([]api.CatalogKernel, error) { return c.KernelEntries() })
	call(s, "catalog.sources", "List the catalogs, each verified again", func(context.Context, none) ([]api.Catalog, error) { return c.Catalogs() })
	call(s, "catalog.add", "Add a catalog: fetch and verify it", c.Add)
	call(s, "catalog.remove", "Take a catalog out of the list", func(_ context.Context, req api.Named) (none, error) { return none{}, c.Remove(req.Name) })
	stream(s, "catalog.update", "Fetch catalogs as they are now", func(ctx context.Context, req api.CatalogUpdate, p api.Progress) ([]api.Catalog, error) {
		return c.Update(ctx, req.Name, p)
	})

	stream(s, "kernel.pull", "Fetch a kernel", d.pullKernel)
	stream(s, "kernel.import", "Take a kernel file into the store", d.kernels.Import)
	call(s, "kernel.list", "List the kernels", func(ctx context.Context, _ none) ([]api.Kernel, error) { return d.kernels.List(ctx) })
	call(s, "kernel.show", "Show a kernel", func(_ context.Context, req api.Named) (api.Kernel, error) { return d.kernels.Get(req.Name) })
	call(s, "kernel.default", "Show the default kernel, or make another one the default", d.defaultKernel)
	call(s, "kernel.rm", "Remove a kernel", d.removeKernel)

	stream(s, "vm.create", "Make a VM of an image; it does not run yet", d.createVM)
	stream(s, "vm.start", "Start a VM, and wait until its agent answers", d.startVM)
	call(s, "vm.list", "List the VMs, newest first", func(ctx context.Context, _ none) ([]api.VM, error) { return d.listVMs(ctx) })
	call(s, "vm.show", "Show a VM", func(ctx context.Context, req api.Named) (api.VM, error) { return d.showVM(ctx, req.Name) })
	call(s, "vm.stop", "Shut a VM down, and kill it when that takes too long", d.stopVM)
	call(s, "vm.rm", "Remove a VM and its disk", d.removeVM)
	upgrade(s, "vm.exec", "Connect to the agent of a VM", d.execVM)
	text(s, "vm.logs", "Print a VM's console", d.vmLogs)

	call(s, "system.df", "Measure what is on the disk", func(ctx context.Context, _ none) ([]api.DiskUsage, error) { return d.usage(ctx) })
	stream(s, "system.prune", "Remove images, kernels and cached blobs that nothing uses", d.prune)
	call(s, "system.check", "Hold database and directories against each other, and repair what is safe to repair", d.check)

	call(s, "daemon.status", "Show the daemon", func(ctx context.Context, _ none) (api.Version, error) { return d.status(ctx) })
	call(s, "daemon.stop", "End the daemon; VMs run on", func(context.Context, none) (none, error) { d.stop(); return none{}, nil })
	s.describe(d.Version)
	return s
}

// stager is the kernel store as images see it.
type stager struct{ kernels *kernel.Store }

func (s stager) Stage(ctx context.Context, choice api.KernelChoice, dir string, p api.Progress) (api.KernelChoice, error) {
	k, err := s.kernels.Resolve(ctx, choice, dir, p)
	return api.KernelChoice{KernelRef: k.KernelRef, KernelPath: k.KernelPath, InitrdPath: k.InitrdPath, ModulesDir: k.ModulesDir}, err
}
