package image

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"banger/internal/api"
)

// newName takes a name for a new image until free is called; one that an image
// has is [api.ErrExists].
func (s *Store) newName(ctx context.Context, name string) (free func(), err error) {
	if err := api.CheckName("image", name); err != nil {
		return nil, err
	}
	if free, err = s.lock(ctx, name); err != nil {
		return nil, err
	}
	old, err := s.Rows.Image(ctx, name)
	switch {
	case err == nil && old.Name == name:
		err = s.nameTaken(ctx, old)
	case err == nil || errors.Is(err, api.ErrNotFound): // an image with that ID is no hindrance
		return free, nil
	}
	free()
	return nil, err
}

// nameTaken is the error of an image whose name another one has.
func (s *Store) nameTaken(ctx context.Context, old api.Image) error {
	source := old.Ref
	if source == "" {
		source = old.RootfsPath
	}
	return api.Hint(fmt.Errorf("image %s: %w, from %s", old.Name, api.ErrExists, source),
		fmt.Sprintf("choose another name, such as %s, or remove it: banger image rm %s", s.Rows.FreeImageName(ctx, old.Name), old.Name))
}

// Tag gives an image one more name. One that it has already is no error; one of
// another image is [api.ErrExists].
func (s *Store) Tag(ctx context.Context, req api.ImageTag) (api.Image, error) {
	img, err := s.Show(ctx, req.Image)
	if err != nil || slices.Contains(img.Names, req.Name) {
		return img, err
	}
	free, err := s.newName(ctx, req.Name)
	if err != nil {
		return img, err
	}
	defer free()
	freeImage, err := s.lock(ctx, img.ID)
	if err != nil {
		return img, err
	}
	defer freeImage()
	if err := s.Rows.AddName(ctx, img.ID, req.Name); err != nil {
		return img, err
	}
	return s.Show(ctx, req.Name)
}

// Remove removes a name; and with its last one, or by its ID, the image.
// [api.ErrInUse] while a VM uses it, or when it has more names than one and is
// given by its ID without force. Of a registered image only the row and our own
// copies go.
func (s *Store) Remove(ctx context.Context, req api.ImageRemove) (api.ImageRemoved, error) {
	img, err := s.Show(ctx, req.Name)
	if err != nil {
		return api.ImageRemoved{}, err
	}
	free, err := s.lock(ctx, img.ID)
	if err != nil {
		return api.ImageRemoved{}, err
	}
	defer free()
	if img, err = s.Show(ctx, req.Name); err != nil {
		return api.ImageRemoved{}, err // removed, or renamed, while we waited
	}
	removed := api.ImageRemoved{Image: img}
	if len(img.Names) > 1 {
		if img.Name == req.Name {
			return removed, s.Rows.RemoveName(ctx, img.Name)
		}
		if !req.Force {
			return removed, api.Hint(fmt.Errorf("remove image %s: %w under the names %s", img.ID, api.ErrInUse, strings.Join(img.Names, ", ")),
				"remove a name, or use --force to remove all")
		}
	}
	removed.Deleted = true
	return removed, s.drop(ctx, img)
}

// drop removes an image that no VM uses; its ID is locked. The row goes first:
// should we die in between, Clean finds a directory without a row, never a row
// without its disk.
func (s *Store) drop(ctx context.Context, img api.Image) error {
	if err := s.Rows.DeleteImage(ctx, img.ID); err != nil {
		return fmt.Errorf("remove image %s: %w", display(img), err)
	}
	return s.removeDir(img.ID)
}

// display is what a person calls an image.
func display(img api.Image) string {
	if img.Name == "" {
		return img.ID
	}
	return img.Name
}
