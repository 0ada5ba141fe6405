package image

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"banger/internal/api"
)

// slow is a pull that ends when it is told to, or cancelled.
type slow struct {
	runs    int
	release chan struct{}
}

func (s *slow) pull(ctx context.Context, p api.Progress) (api.Image, error) {
	s.runs++
	p.Say("step", "working")
	select {
	case <-s.release:
		return api.Image{Name: "web"}, nil
	case <-ctx.Done():
		return api.Image{}, ctx.Err()
	}
}

func TestSamePullIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fs flights
		s := slow{release: make(chan struct{})}
		req := api.ImagePull{Name: "web", Ref: "r"}
		results := make(chan error, 3)
		leaver, leave := context.WithCancel(t.Context())
		for _, ctx := range []context.Context{leaver, t.Context(), t.Context()} {
			go func() {
				img, err := fs.join(ctx, req, nil, s.pull)
				if err == nil && img.Name != "web" {
					err = errors.New("no image")
				}
				results <- err
			}()
			synctest.Wait()
		}
		if _, err := fs.join(t.Context(), api.ImagePull{Name: "web", Ref: "other"}, nil, s.pull); !errors.Is(err, api.ErrInUse) {
			t.Errorf("another source to the same name: got %v, want ErrInUse", err)
		}
		leave() // the one who began it
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("who left got %v, want Canceled", err)
		}
		close(s.release)
		for range 2 {
			if err := <-results; err != nil {
				t.Errorf("who stayed got %v", err)
			}
		}
		if s.runs != 1 {
			t.Errorf("%d pulls ran, want 1", s.runs)
		}
	})
}

func TestPullEndsWhenAllHaveLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fs flights
		s := slow{release: make(chan struct{})}
		ctx, leave := context.WithCancel(t.Context())
		go func() { synctest.Wait(); leave() }()
		if _, err := fs.join(ctx, api.ImagePull{Name: "web"}, nil, s.pull); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want Canceled", err)
		}
		if len(fs.byKey) != 0 {
			t.Error("a pull that nobody wants goes on")
		}
		close(s.release)
		if _, err := fs.join(t.Context(), api.ImagePull{Name: "web"}, nil, s.pull); err != nil {
			t.Errorf("the next one: %v", err)
		}
	})
}
