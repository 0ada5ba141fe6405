package daemon

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"banger/internal/api"
	"banger/internal/image"
	"banger/internal/kernel"
	"banger/internal/store"
	"banger/internal/vm"
)

// daemon ties the parts together: it looks up what one needs of another.
type daemon struct {
	Config
	rows    *store.Store
	images  *image.Store
	kernels *kernel.Store
	vms     *vm.Host

	// moving is held for reading while a VM is made or removed: its row and its
	// directory do not agree then.
	moving sync.RWMutex

	stop  func()                      // ends the daemon
	busy  func() int64                // calls under way
	spawn func(func(context.Context)) // runs something beside the calls, at most as long as the daemon lives
}

// createVM makes a VM of an image. The directory comes first and the row after
// it; adoptVMs removes a directory that no row names.
func (d *daemon) createVM(ctx context.Context, req api.VMCreate, p api.Progress) (made api.VM, err error) {
	d.moving.RLock()
	defer d.moving.RUnlock()
	img, err := d.images.Show(ctx, req.Image)
	if err != nil {
		return made, err
	}
	if err := vm.Runs(img.Platform); err != nil {
		return made, fmt.Errorf("image %s: %w", img.Name, err)
	}
	if img, err = d.images.WithKernel(ctx, img.ID, p); err != nil {
		return made, err
	}
	if err := image.Unchanged(img); err != nil {
		return made, err
	}
	if req.Name == "" {
		req.Name = madeUpName(img)
	} else if other, err := d.rows.VM(ctx, req.Name); err == nil && other.Name == req.Name {
		return made, d.rows.VMNameTaken(ctx, req.Name) // said before a disk is cloned
	}
	made, err = d.vms.Create(ctx, vm.Spec{VMCreate: req, Image: img}, p)
	if err != nil {
		if _, gone := d.rows.Image(ctx, img.ID); errors.Is(gone, api.ErrNotFound) {
			return made, fmt.Errorf("create vm %s: its image was removed meanwhile: %w", req.Name, gone)
		}
		return made, err
	}
	if err := d.rows.AddVM(ctx, made); err != nil {
		return made, errors.Join(err, d.vms.Remove(made.ID, nil))
	}
	return made, nil
}

// madeUpName names a VM after its image.
func madeUpName(img api.Image) string {
	var b [3]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	name := img.Name
	if name == "" {
		name = "vm"
	}
	return name[:min(len(name), 50)] + "-" + hex.EncodeToString(b[:])
}

func (d *daemon) startVM(ctx context.Context, req api.VMStart, p api.Progress) (api.VM, error) {
	row, err := d.rows.VM(ctx, req.Name)
	if err != nil {
		return row, vmHint(err)
	}
	if err := d.vms.Start(ctx, row.ID, vm.Boot{Accel: req.Accel, Detach: req.Detach}, p); err != nil {
		err = fmt.Errorf("start vm %s: %w", row.Name, err)
		if row.Ephemeral && errors.Is(err, context.Canceled) {
			// Who wanted it may be gone for good. Otherwise its console may be wanted.
			err = errors.Join(err, d.forget(context.WithoutCancel(ctx), row))
		}
		return row, err
	}
	if row.Ephemeral {
		d.watch(row)
	}
	return d.status1(row)
}

// watch removes an ephemeral VM when it has ended, whatever ended it.
func (d *daemon) watch(row api.VM) {
	d.spawn(func(ctx context.Context) {
		if _, err := d.vms.Wait(ctx, row.ID); ctx.Err() != nil {
			return // the next daemon goes on
		} else if err != nil && !errors.Is(err, api.ErrNotFound) {
			d.Log.Warn("wait for a VM", "vm", row.Name, "error", err)
			return
		}
		if err := d.forget(ctx, row); err != nil {
			d.Log.Warn("remove a VM that has ended", "vm", row.Name, "error", err)
		}
	})
}

// forget removes a VM that does not run: the row first, for a directory without
// a row is found and removed at the next start.
func (d *daemon) forget(ctx context.Context, row api.VM) error {
	d.moving.RLock()
	defer d.moving.RUnlock()
	if err := d.vms.Remove(row.ID, func() error { return d.rows.DeleteVM(ctx, row.ID) }); err != nil {
		return fmt.Errorf("remove vm %s: %w", row.Name, err)
	}
	return d.images.DropUnused(ctx)
}

// status1 is a row with what its supervisor knows.
func (d *daemon) status1(row api.VM) (api.VM, error) {
	now, err := d.vms.Status(row.ID)
	if errors.Is(err, api.ErrNotFound) {
		row.State, row.Reason = api.VMFailed, "its directory is gone: "+row.Dir
		return row, nil
	}
	if err != nil {
		// One VM that is damaged must not hide the others.
		row.State, row.Reason = api.VMFailed, err.Error()
		return row, nil
	}
	now.ImageName = row.ImageName // the image may have lost its name
	return now, nil
}

func (d *daemon) showVM(ctx context.Context, name string) (api.VM, error) {
	row, err := d.rows.VM(ctx, name)
	if err != nil {
		return row, vmHint(err)
	}
	return d.status1(row)
}

func (d *daemon) listVMs(ctx context.Context) ([]api.VM, error) {
	all, err := d.rows.VMs(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i], err = d.status1(all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (d *daemon) stopVM(ctx context.Context, req api.VMStop) (api.VM, error) {
	row, err := d.rows.VM(ctx, req.Name)
	if err != nil {
		return row, vmHint(err)
	}
	timeout := time.Duration(req.TimeoutSeconds) * time.Second
	if timeout == 0 {
		timeout = defaultStop
	}
	if err := d.vms.Stop(ctx, row.ID, timeout); err != nil {
		return row, fmt.Errorf("stop vm %s: %w", row.Name, err)
	}
	return d.status1(row)
}

// defaultStop is how long a guest may take to shut down when nobody says; an
// emulated systemd needs some seconds.
const defaultStop = 30 * time.Second

func (d *daemon) removeVM(ctx context.Context, req api.VMRemove) (none, error) {
	row, err := d.rows.VM(ctx, req.Name)
	if err != nil {
		return none{}, vmHint(err)
	}
	now, err := d.status1(row)
	if err != nil {
		return none{}, err
	}
	if req.Force {
		if err := d.vms.Kill(ctx, row.ID); err != nil && !errors.Is(err, api.ErrNotFound) {
			return none{}, fmt.Errorf("remove vm %s: %w", row.Name, err)
		}
	} else if now.State.Live() {
		return none{}, api.Hint(fmt.Errorf("remove vm %s: %w: it is %s", row.Name, api.ErrInUse, now.State),
			fmt.Sprintf("stop it first: banger vm stop %s; or use --force", row.Name))
	}
	return none{}, d.forget(ctx, row)
}

// execVM joins the client to a stream to the agent; the verb that follows on it
// is between those two.
func (d *daemon) execVM(ctx context.Context, req api.VMExec, accept func() (io.ReadWriteCloser, error)) error {
	row, err := d.rows.VM(ctx, req.Name)
	if err != nil {
		return vmHint(err)
	}
	now, err := d.status1(row)
	if err != nil {
		return err
	}
	if now.State != api.VMRunning {
		return api.Hint(fmt.Errorf("vm %s: it is %s, not running", row.Name, now.State), "start it with: banger vm start "+row.Name)
	}
	guest, err := d.vms.Dial(ctx, row.ID)
	if err != nil {
		return fmt.Errorf("vm %s: %w", row.Name, err)
	}
	client, err := accept()
	if err != nil {
		return errors.Join(err, guest.Close())
	}
	// A daemon that ends takes its connections along.
	defer context.AfterFunc(ctx, func() { guest.Close(); client.Close() })()
	// The server does not wait for connections that it has given away; the daemon
	// does, for what comes after them.
	ended := make(chan struct{})
	d.spawn(func(context.Context) {
		defer close(ended)
		splice(client, guest)
		if row.Ephemeral && req.Owner {
			d.disown(context.WithoutCancel(ctx), row)
		}
	})
	<-ended
	return nil
}

// disown removes an ephemeral VM whose owner has left: at the end of its command,
// killed, or cut off by the end of this daemon.
func (d *daemon) disown(ctx context.Context, row api.VM) {
	err := d.vms.Kill(ctx, row.ID)
	if err == nil || errors.Is(err, api.ErrNotFound) {
		err = d.forget(ctx, row)
	}
	if err != nil {
		d.Log.Warn("remove a VM whose owner has left", "vm", row.Name, "error", err)
	}
}

// vmLogs writes the console as it is, and follows it.
func (d *daemon) vmLogs(ctx context.Context, req api.VMLogs, w io.Writer) error {
	row, err := d.rows.VM(ctx, req.Name)
	if err != nil {
		return vmHint(err)
	}
	if err := d.vms.Logs(ctx, row.ID, req.Follow, w); err != nil && ctx.Err() == nil {
		d.Log.Warn("send logs", "vm", row.Name, "error", err)
		return err
	}
	return nil
}

// adoptVMs makes rows and directories agree after a crash, and takes over the
// ephemeral VMs that still run.
func (d *daemon) adoptVMs(ctx context.Context) error {
	if err := d.vms.Clean(); err != nil {
		return err
	}
	rows, err := d.rows.VMs(ctx)
	if err != nil {
		return err
	}
	named := map[string]bool{}
	for _, row := range rows {
		named[row.ID] = true
		now, err := d.vms.Status(row.ID)
		switch {
		case errors.Is(err, api.ErrNotFound):
			err = d.rows.DeleteVM(ctx, row.ID)
		case err != nil:
			d.Log.Warn("look at a VM", "vm", row.Name, "error", err)
			continue
		case row.Ephemeral && now.State.Live():
			d.watch(row)
		case row.Ephemeral:
			err = d.forget(ctx, row)
		}
		if err != nil {
			return err
		}
	}
	ids, _, err := d.vms.Entries()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if named[id] {
			continue
		}
		// Nobody could have started it: it never had a row.
		if err := d.vms.Remove(id, nil); err != nil {
			return err
		}
	}
	return nil
}

// status is what daemon.status answers.
func (d *daemon) status(ctx context.Context) (api.Version, error) {
	v := api.Version{Version: d.Version, Build: d.Build, PID: os.Getpid(), Socket: d.socket(), StateDir: d.Dirs.State}
	v.BusyCalls = int(d.busy()) - 1 // this one
	all, err := d.listVMs(ctx)
	for _, one := range all {
		if one.State == api.VMRunning {
			v.VMs++
		}
	}
	return v, err
}

func vmHint(err error) error {
	if errors.Is(err, api.ErrNotFound) {
		return api.Hint(err, "see what there is: banger vm list")
	}
	return err
}
