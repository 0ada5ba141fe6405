package daemon

import (
	"context"
	"runtime"

	"banger/internal/api"
	"banger/internal/kernel"
)

type none = struct{}

// routes is the whole API, a line for each verb.
func (d *daemon) routes() *server {
	s := newServer()
	d.busy = s.busy.Load

	stream(s, "image.pull", d.images.Pull)
	stream(s, "image.register", func(ctx context.Context, req api.ImageRegister, p api.Progress) (api.Image, error) {
		return d.images.Register(ctx, req, "linux/"+runtime.GOARCH, p)
	})
	call(s, "image.list", func(ctx context.Context, _ none) ([]api.Image, error) { return d.images.List(ctx) })
	call(s, "image.show", func(ctx context.Context, req api.Named) (api.Image, error) { return d.images.Show(ctx, req.Name) })
	call(s, "image.rm", func(ctx context.Context, req api.Named) (api.Image, error) { return d.images.Remove(ctx, req.Name) })

	stream(s, "kernel.pull", d.kernels.Pull)
	stream(s, "kernel.import", d.kernels.Import)
	call(s, "kernel.list", func(ctx context.Context, _ none) ([]api.Kernel, error) { return d.kernels.List(ctx) })
	call(s, "kernel.rm", func(_ context.Context, req api.Named) (none, error) { return none{}, d.kernels.Remove(req.Name) })

	stream(s, "vm.create", d.createVM)
	stream(s, "vm.start", d.startVM)
	call(s, "vm.list", func(ctx context.Context, _ none) ([]api.VM, error) { return d.listVMs(ctx) })
	call(s, "vm.show", func(ctx context.Context, req api.Named) (api.VM, error) { return d.showVM(ctx, req.Name) })
	call(s, "vm.stop", d.stopVM)
	call(s, "vm.rm", d.removeVM)
	upgrade(s, "vm.exec", d.execVM)
	s.handle("vm.logs", d.vmLogs)

	call(s, "daemon.status", func(ctx context.Context, _ none) (api.Version, error) { return d.status(ctx) })
	call(s, "daemon.stop", func(context.Context, none) (none, error) { d.stop(); return none{}, nil })
	return s
}

// stager is the kernel store as images see it.
type stager struct{ kernels *kernel.Store }

func (s stager) Stage(ctx context.Context, choice api.KernelChoice, dir string, p api.Progress) (api.KernelChoice, error) {
	k, err := s.kernels.Resolve(ctx, choice, dir, p)
	return api.KernelChoice{KernelRef: k.KernelRef, KernelPath: k.KernelPath, InitrdPath: k.InitrdPath, ModulesDir: k.ModulesDir}, err
}
