package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"banger/internal/api"
)

// check holds the database and the directories against each other. What is being
// made or removed at the moment is no problem.
func (d *daemon) check(ctx context.Context, req api.SystemCheck) ([]api.Problem, error) {
	c := api.Checkup{Repair: req.Repair, Problems: []api.Problem{}}
	problems, err := d.rows.Check(ctx)
	if err != nil {
		return nil, err
	}
	for _, text := range problems {
		c.Found(api.Problem{Kind: "database", Name: "banger.db", Message: text}, nil)
	}
	err = errors.Join(d.images.Check(ctx, &c), d.kernels.Check(ctx, &c), d.checkVMs(ctx, &c))
	return c.Problems, err
}

// checkVMs holds VMs against their rows.
func (d *daemon) checkVMs(ctx context.Context, c *api.Checkup) error {
	settled := d.moving.TryLock()
	if settled {
		defer d.moving.Unlock()
	}
	// Directories first: one that is removed meanwhile has lost its row before.
	ids, leftovers, err := d.vms.Entries()
	if err != nil {
		return err
	}
	rows, err := d.rows.VMs(ctx)
	if err != nil {
		return err
	}
	for _, row := range rows {
		problems, err := d.vms.Problems(row.ID)
		switch {
		case errors.Is(err, api.ErrNotFound) && settled:
			c.Found(api.Problem{Kind: "vm", Name: row.Name, Message: row.Dir + " is gone", Repair: "forget the VM"},
				func() error { return d.rows.DeleteVM(ctx, row.ID) })
		case err != nil && !errors.Is(err, api.ErrNotFound):
			return err
		}
		for _, text := range problems {
			c.Found(api.Problem{Kind: "vm", Name: row.Name, Message: text}, nil)
		}
	}
	if !settled {
		return nil // a VM without a row may be about to get one, or to go
	}
	for _, id := range ids {
		if slices.ContainsFunc(rows, func(row api.VM) bool { return row.ID == id }) {
			continue
		}
		c.Found(api.Problem{
			Kind: "vm", Name: id, Message: filepath.Join(d.vms.Dir, id) + " is a VM that the database does not know", Repair: "remove it",
		}, func() error { return d.vms.Remove(id, nil) })
	}
	for _, name := range leftovers {
		path := filepath.Join(d.vms.Dir, name)
		c.Found(api.Problem{
			Kind: "staging", Name: name, Message: path + " is left of a VM that was never made, or is removed", Repair: "remove it",
		}, func() error { return os.RemoveAll(path) })
	}
	return nil
}
