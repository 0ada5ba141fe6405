package daemon

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"banger/internal/api"
)

// Many clients that do what they like with the same few names leave a state that
// is sound, whatever order it happens in.
func TestManyClients(t *testing.T) {
	d := newTestDaemon(t)
	for i := range 3 {
		d.pull(fmt.Sprint("image", i))
	}
	const clients, calls = 6, 25
	var all sync.WaitGroup
	for seed := range uint64(clients) {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 0))
			for range calls {
				if verb, err := d.something(rng); err != nil && !expected(err) {
					t.Errorf("%s: %v", verb, err)
				}
			}
		})
	}
	all.Wait()
	d.sound()
	// Nothing is held that should have been let go.
	var images []api.Image
	d.call("image.list", nil, &images)
	for _, img := range images {
		d.call("image.rm", api.ImageRemove{Name: img.ID, Force: true}, nil)
	}
	d.sound()
}

// something makes one call of those that change the state.
func (d *testDaemon) something(rng *rand.Rand) (verb string, err error) {
	ctx := d.t.Context()
	image := fmt.Sprint("image", rng.IntN(4))
	vm := fmt.Sprint("vm", rng.IntN(3))
	stream := func(verb string, req, result any) (string, error) { return verb, d.Stream(ctx, verb, req, nil, result) }
	call := func(verb string, req any) (string, error) { return verb, d.Call(ctx, verb, req, nil) }
	switch rng.IntN(9) {
	case 0, 1:
		return stream("image.pull", api.ImagePull{
			Ref: "tar:" + d.src + "/image0.tar", Name: image, SizeBytes: 8 << 20, NoGuestFiles: true,
			KernelChoice: api.KernelChoice{KernelRef: "k"},
		}, &api.Image{})
	case 2:
		return call("image.tag", api.ImageTag{Image: image, Name: fmt.Sprint("image", rng.IntN(4))})
	case 3:
		return call("image.rm", api.ImageRemove{Name: image, Force: rng.IntN(3) == 0})
	case 4, 5:
		return stream("vm.create", api.VMCreate{Name: vm, Image: image, CPUs: 1, MemoryMiB: 64}, &api.VM{})
	case 6:
		return call("vm.rm", api.VMRemove{Name: vm})
	case 7:
		return stream("image.promote", api.ImagePromote{VM: vm, Name: image}, &api.Image{})
	default:
		var found []api.Problem
		if err := d.Call(ctx, "system.check", none{}, &found); err != nil || len(found) > 0 {
			return "system.check", errors.Join(err, fmt.Errorf("found %+v", found))
		}
		var pruned []api.Pruned
		return stream("system.prune", api.Prune{All: rng.IntN(4) == 0}, &pruned)
	}
}

// expected says whether an error is of one who came too late.
func expected(err error) bool {
	return errors.Is(err, api.ErrNotFound) || errors.Is(err, api.ErrExists) || errors.Is(err, api.ErrInUse)
}
