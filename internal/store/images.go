package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"

	"banger/internal/api"
)

const imageColumns = `id, coalesce(name, ''), ref, digest, platform, managed, rootfs_path, kernel_ref,
	kernel_path, initrd_path, modules_dir, size_bytes, rootfs_mtime, created_at, process, warnings`

// Images returns all images, newest first.
func (s *Store) Images(ctx context.Context) ([]api.Image, error) {
	return query(ctx, s.db, scanImage, "SELECT "+imageColumns+" FROM images ORDER BY created_at DESC, id")
}

// Image returns the image of that name or ID, else [api.ErrNotFound].
func (s *Store) Image(ctx context.Context, nameOrID string) (api.Image, error) {
	img, err := scanImage(s.db.QueryRowContext(ctx,
		"SELECT "+imageColumns+" FROM images WHERE name = ?1 OR id = ?1 ORDER BY name = ?1 DESC", nameOrID))
	if err != nil {
		return img, fmt.Errorf("image %s: %w", nameOrID, notFound(err))
	}
	return img, nil
}

// PutImage adds img under its name. An image that had the name loses it, and is
// what [Store.DropUnused] finds once no VM uses it.
func (s *Store) PutImage(ctx context.Context, img api.Image) error {
	process, err := json.Marshal(img.Process)
	if err != nil {
		return err
	}
	warnings, err := json.Marshal(img.Warnings)
	if err != nil {
		return err
	}
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "UPDATE images SET name = NULL WHERE name = ?", img.Name); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			img.ID, img.Name, img.Ref, img.Digest, img.Platform, img.Managed, img.RootfsPath, img.KernelRef,
			img.KernelPath, img.InitrdPath, img.ModulesDir, img.SizeBytes, fromTime(img.RootfsModTime), fromTime(img.CreatedAt),
			string(process), string(warnings))
		return err
	})
	if err != nil {
		return fmt.Errorf("store image %s: %w", img.Name, err)
	}
	return nil
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

// DeleteImage removes the row. It is [api.ErrInUse], naming them, while VMs use
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

// DropUnused removes the rows of images that have lost their name and that no
// VM uses any more, and returns them.
func (s *Store) DropUnused(ctx context.Context) ([]api.Image, error) {
	return query(ctx, s.db, scanImage, `DELETE FROM images
		WHERE name IS NULL AND NOT EXISTS (SELECT 1 FROM vms WHERE image_id = images.id) RETURNING `+imageColumns)
}

func scanImage(row scanner) (api.Image, error) {
	var img api.Image
	var mtime, created int64
	var process, warnings []byte
	err := row.Scan(&img.ID, &img.Name, &img.Ref, &img.Digest, &img.Platform, &img.Managed, &img.RootfsPath, &img.KernelRef,
		&img.KernelPath, &img.InitrdPath, &img.ModulesDir, &img.SizeBytes, &mtime, &created, &process, &warnings)
	if err != nil {
		return img, err
	}
	img.RootfsModTime, img.CreatedAt = toTime(mtime), toTime(created)
	if err := json.Unmarshal(process, &img.Process); err != nil {
		return img, fmt.Errorf("image %s: process: %w", img.ID, err)
	}
	if err := json.Unmarshal(warnings, &img.Warnings); err != nil {
		return img, fmt.Errorf("image %s: warnings: %w", img.ID, err)
	}
	return img, nil
}
