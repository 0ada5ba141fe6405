package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"banger/internal/api"
)

const imageColumns = `id, ref, digest, platform, managed, rootfs_path, kernel_ref, kernel_path, initrd_path, modules_dir,
	size_bytes, rootfs_mtime, created_at, process, source, added, warnings,
	(SELECT json_group_array(name) FROM (SELECT name FROM image_names WHERE image_id = images.id ORDER BY rowid))`

// Images returns all images, newest first.
func (s *Store) Images(ctx context.Context) ([]api.Image, error) {
	return collect(ctx, s.db, scanImage, "SELECT "+imageColumns+" FROM images ORDER BY created_at DESC, id")
}

// Image returns the image of that name or ID, else [api.ErrNotFound].
func (s *Store) Image(ctx context.Context, nameOrID string) (api.Image, error) {
	img, err := scanImage(s.db.QueryRowContext(ctx, "SELECT "+imageColumns+
		" FROM images WHERE id = coalesce((SELECT image_id FROM image_names WHERE name = ?1), ?1)", nameOrID))
	if err != nil {
		return img, fmt.Errorf("image %s: %w", nameOrID, notFound(err))
	}
	if slices.Contains(img.Names, nameOrID) {
		img.Name = nameOrID
	}
	return img, nil
}

// UnusedImages returns the images that no VM uses.
func (s *Store) UnusedImages(ctx context.Context) ([]api.Image, error) {
	return collect(ctx, s.db, scanImage, "SELECT "+imageColumns+
		" FROM images WHERE NOT EXISTS (SELECT 1 FROM vms WHERE image_id = images.id) ORDER BY created_at, id")
}

// PutImage adds img under its name. An image that had the name loses it.
func (s *Store) PutImage(ctx context.Context, img api.Image) error {
	var columns [4]string // JSON
	for i, v := range []any{img.Process, img.Source, img.Added, img.Warnings} {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		columns[i] = string(b)
	}
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			img.ID, img.Ref, img.Digest, img.Platform, img.Managed, img.RootfsPath, img.KernelRef,
			img.KernelPath, img.InitrdPath, img.ModulesDir, img.SizeBytes, fromTime(img.RootfsModTime), fromTime(img.CreatedAt),
			columns[0], columns[1], columns[2], columns[3])
		if err != nil {
			return err
		}
		// Not an update: the name is the youngest of its image.
		if _, err := tx.ExecContext(ctx, "DELETE FROM image_names WHERE name = ?", img.Name); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO image_names VALUES (?, ?)", img.Name, img.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("store image %s: %w", img.Name, err)
	}
	return nil
}

// AddName gives an image one more name; [api.ErrExists] when it is taken.
func (s *Store) AddName(ctx context.Context, id, name string) error {
	_, err := s.db.ExecContext(ctx, "INSERT INTO image_names VALUES (?, ?)", name, id)
	switch {
	case taken(err):
		err = api.ErrExists
	case refersToNothing(err):
		return fmt.Errorf("image %s: %w", id, api.ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("name image %s: %w", name, err)
	}
	return nil
}

// RemoveName takes a name from its image, which stays.
func (s *Store) RemoveName(ctx context.Context, name string) error {
	if _, err := s.db.ExecContext(ctx, "DELETE FROM image_names WHERE name = ?", name); err != nil {
		return fmt.Errorf("remove the name %s: %w", name, err)
	}
	return nil
}

// FreeImageName returns a name like the one that is taken.
func (s *Store) FreeImageName(ctx context.Context, name string) string {
	return s.freeName(ctx, name, "SELECT 1 FROM image_names WHERE name = ?")
}

func (s *Store) freeName(ctx context.Context, name, query string) string {
	return api.FreeName(name, func(name string) bool {
		var one int
		return s.db.QueryRowContext(ctx, query, name).Scan(&one) == nil
	})
}

// SetKernel stores the kernel of an image that had none.
func (s *Store) SetKernel(ctx context.Context, img api.Image) error {
	_, err := s.db.ExecContext(ctx, "UPDATE images SET kernel_ref = ?, kernel_path = ?, initrd_path = ?, modules_dir = ? WHERE id = ?",
		img.KernelRef, img.KernelPath, img.InitrdPath, img.ModulesDir, img.ID)
	if err != nil {
		return fmt.Errorf("store the kernel of image %s: %w", img.Name, err)
	}
	return nil
}

// DeleteImage removes the row and all names. It is [api.ErrInUse], naming them, while VMs use
// the image.
func (s *Store) DeleteImage(ctx context.Context, id string) error {
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		var names sql.NullString
		err := tx.QueryRowContext(ctx, "SELECT group_concat(name, ', ') FROM vms WHERE image_id = ?", id).Scan(&names)
		if err != nil {
			return err
		}
		if names.String != "" {
			return api.Hint(fmt.Errorf("%w by vm %s", api.ErrInUse, names.String),
				"remove it first: banger vm rm "+strings.ReplaceAll(names.String, ",", ""))
		}
		res, err := tx.ExecContext(ctx, "DELETE FROM images WHERE id = ?", id)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return notFound(sql.ErrNoRows)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove image %s: %w", id, err)
	}
	return nil
}

func scanImage(row scanner) (api.Image, error) {
	var img api.Image
	var mtime, created int64
	var process, source, added, warnings, names []byte
	err := row.Scan(&img.ID, &img.Ref, &img.Digest, &img.Platform, &img.Managed, &img.RootfsPath, &img.KernelRef,
		&img.KernelPath, &img.InitrdPath, &img.ModulesDir, &img.SizeBytes, &mtime, &created, &process, &source, &added, &warnings, &names)
	if err != nil {
		return img, err
	}
	img.RootfsModTime, img.CreatedAt = toTime(mtime), toTime(created)
	for _, column := range []struct {
		name string
		json []byte
		into any
	}{
		{"process", process, &img.Process},
		{"source", source, &img.Source},
		{"added", added, &img.Added},
		{"warnings", warnings, &img.Warnings},
		{"names", names, &img.Names},
	} {
		if err := json.Unmarshal(column.json, column.into); err != nil {
			return img, fmt.Errorf("image %s: %s: %w", img.ID, column.name, err)
		}
	}
	if len(img.Names) > 0 {
		img.Name = img.Names[0]
	}
	return img, nil
}
