package store

import (
	"context"
	"fmt"

	"banger/internal/api"
)

const vmColumns = `v.id, v.name, v.image_id,
	coalesce((SELECT name FROM image_names WHERE image_id = v.image_id ORDER BY rowid LIMIT 1), ''),
	v.ephemeral, v.cpus, v.memory_mib, v.disk_bytes, v.dir, v.created_at`

// VMs returns all VMs, newest first. Their State is not known here.
func (s *Store) VMs(ctx context.Context) ([]api.VM, error) {
	return collect(ctx, s.db, scanVM, "SELECT "+vmColumns+" FROM vms v ORDER BY v.created_at DESC, v.id")
}

// VM returns the VM of that name or ID, else [api.ErrNotFound].
func (s *Store) VM(ctx context.Context, nameOrID string) (api.VM, error) {
	vm, err := scanVM(s.db.QueryRowContext(ctx, "SELECT "+vmColumns+
		" FROM vms v WHERE v.name = ?1 OR v.id = ?1 ORDER BY v.name = ?1 DESC", nameOrID))
	if err != nil {
		return vm, fmt.Errorf("vm %s: %w", nameOrID, notFound(err))
	}
	return vm, nil
}

// AddVM adds a VM; [api.ErrExists] when its name is taken.
func (s *Store) AddVM(ctx context.Context, vm api.VM) error {
	_, err := s.db.ExecContext(ctx, "INSERT INTO vms VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
		vm.ID, vm.Name, vm.ImageID, vm.Ephemeral, vm.CPUs, vm.MemoryMiB, vm.DiskBytes, vm.Dir, fromTime(vm.CreatedAt))
	switch {
	case taken(err):
		return s.VMNameTaken(ctx, vm.Name)
	case refersToNothing(err):
		return fmt.Errorf("vm %s: its image was removed meanwhile: %w", vm.Name, api.ErrNotFound)
	case err != nil:
		return fmt.Errorf("store vm %s: %w", vm.Name, err)
	}
	return nil
}

// VMNameTaken is the error of a VM whose name another one has.
func (s *Store) VMNameTaken(ctx context.Context, name string) error {
	free := s.freeName(ctx, name, "SELECT 1 FROM vms WHERE name = ?")
	return api.Hint(fmt.Errorf("vm %s: %w", name, api.ErrExists),
		fmt.Sprintf("choose another, such as --name %s, or remove it: banger vm rm %s", free, name))
}

// DeleteVM removes the row; removing one that is gone is no error.
func (s *Store) DeleteVM(ctx context.Context, id string) error {
	if _, err := s.db.ExecContext(ctx, "DELETE FROM vms WHERE id = ?", id); err != nil {
		return fmt.Errorf("remove vm %s: %w", id, err)
	}
	return nil
}

func scanVM(row scanner) (api.VM, error) {
	var vm api.VM
	var created int64
	err := row.Scan(&vm.ID, &vm.Name, &vm.ImageID, &vm.ImageName, &vm.Ephemeral, &vm.CPUs, &vm.MemoryMiB, &vm.DiskBytes,
		&vm.Dir, &created)
	vm.CreatedAt = toTime(created)
	return vm, err
}
