package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"banger/internal/api"
	"banger/internal/du"
)

// Prune removes images that no VM uses: those without a name, and with req.All
// the others too; and what is left of images in the making. It returns what went,
// or what would go: tally knows what went before, and learns of this.
func (s *Store) Prune(ctx context.Context, req api.Prune, tally *du.Tally) ([]api.Pruned, error) {
	pruned := []api.Pruned{}
	images, err := s.Rows.UnusedImages(ctx)
	if err != nil {
		return pruned, err
	}
	for _, img := range images {
		one, err := s.pruneImage(ctx, img.ID, req, tally)
		if err != nil {
			return pruned, fmt.Errorf("prune image %s: %w", display(img), err)
		}
		pruned = append(pruned, one...)
	}
	ids, err := s.entries()
	if err != nil {
		return pruned, err
	}
	for _, id := range ids.staging {
		one, err := s.pruneStaging(id, req, tally)
		if err != nil {
			return pruned, fmt.Errorf("prune %s: %w", id+stagingSuffix, err)
		}
		pruned = append(pruned, one...)
	}
	return pruned, nil
}

// pruneImage prunes one image, or none: it may have changed, or be in use.
func (s *Store) pruneImage(ctx context.Context, id string, req api.Prune, tally *du.Tally) ([]api.Pruned, error) {
	free, ok := s.tryLock(id)
	if !ok {
		return nil, nil // not to wait for: it may be the caller's
	}
	defer free()
	img, err := s.Rows.Image(ctx, id)
	if errors.Is(err, api.ErrNotFound) {
		return nil, nil
	}
	if err != nil || len(img.Names) > 0 && !req.All {
		return nil, err
	}
	freed, err := tally.Add(filepath.Join(s.Dir, id))
	if err != nil {
		return nil, err
	}
	if !req.DryRun {
		tally.Reset()
		if err := s.drop(ctx, img); errors.Is(err, api.ErrInUse) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
	}
	return []api.Pruned{{Kind: "image", Name: display(img), FreedBytes: freed}}, nil
}

// DropUnused removes the images that were replaced and that no VM uses any more.
func (s *Store) DropUnused(ctx context.Context) error {
	_, err := s.Prune(ctx, api.Prune{}, new(du.Tally))
	return err
}

// pruneStaging removes a staging directory that nobody works in.
func (s *Store) pruneStaging(id string, req api.Prune, tally *du.Tally) ([]api.Pruned, error) {
	free, ok := s.tryLock(id)
	if !ok {
		return nil, nil
	}
	defer free()
	path := filepath.Join(s.Dir, id+stagingSuffix)
	if !exists(path) {
		return nil, nil
	}
	freed, err := tally.Add(path)
	if err == nil && !req.DryRun {
		tally.Reset()
		err = os.RemoveAll(path)
	}
	return []api.Pruned{{Kind: "staging", Name: filepath.Base(path), FreedBytes: freed}}, err
}

// entries is what is in the store's directory.
type entries struct {
	images, staging []string // IDs
	others          []string // names
}

func (s *Store) entries() (e entries, err error) {
	all, err := os.ReadDir(s.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return e, err
	}
	for _, entry := range all {
		id, staging := strings.CutSuffix(entry.Name(), stagingSuffix)
		switch {
		case !isID(id):
			e.others = append(e.others, entry.Name())
		case staging:
			e.staging = append(e.staging, id)
		default:
			e.images = append(e.images, id)
		}
	}
	return e, nil
}
