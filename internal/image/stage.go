package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"banger/internal/api"
	"banger/internal/dirs"
)

// stage is an image in the making: a directory under another name than that of
// an image.
type stage struct {
	store *Store
	id    string // of the image to be
	dir   string
	final string
	free  func()
}

// newStage makes a directory for a new image. What follows is
//
//	defer func() { err = st.end(err) }()
func (s *Store) newStage(ctx context.Context) (*stage, error) {
	id := newID()
	free, err := s.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	st := &stage{s, id, filepath.Join(s.Dir, id+stagingSuffix), filepath.Join(s.Dir, id), free}
	if err := os.MkdirAll(st.dir, 0o700); err != nil {
		free()
		return nil, err
	}
	return st, nil
}

// publish gives the directory its name, durably, and stores the row: img, whose
// paths are those of the final directory.
func (st *stage) publish(ctx context.Context, img api.Image) error {
	if err := dirs.Sync(st.dir); err != nil {
		return err
	}
	if err := os.Rename(st.dir, st.final); err != nil {
		return err
	}
	if err := dirs.Sync(st.store.Dir); err != nil {
		return err
	}
	return st.store.Rows.PutImage(ctx, img)
}

// end removes what is left of the stage, after an error all of it, and returns
// the error with what came to it.
func (st *stage) end(err error) error {
	defer st.free()
	if err != nil {
		err = errors.Join(err, os.RemoveAll(st.final))
	}
	return errors.Join(err, os.RemoveAll(st.dir))
}
