package image

import (
	"context"
	"fmt"
	"sync"

	"banger/internal/api"
)

// flights are the pulls under way, by the name of the image to be.
type flights struct {
	mu    sync.Mutex // guards all
	byKey map[string]*flight
}

// flight is one pull and all who wait for it. It goes on as long as anybody
// does: one who leaves does not disturb the others.
type flight struct {
	req    api.ImagePull
	cancel context.CancelFunc
	done   chan struct{} // closed when img and err are there
	img    api.Image
	err    error

	mu       sync.Mutex // guards watchers
	watchers map[*watcher]bool
}

// watcher is one caller's progress.
type watcher struct{ p api.Progress }

// join runs pull for req, or watches the one under way for the same request. A
// pull of another source to the same name is refused at once.
func (fs *flights) join(ctx context.Context, req api.ImagePull, p api.Progress,
	pull func(context.Context, api.Progress) (api.Image, error),
) (api.Image, error) {
	f, w, err := fs.board(ctx, req, p, pull)
	if err != nil {
		return api.Image{}, err
	}
	defer f.leave(w)
	select {
	case <-f.done:
		return f.img, f.err
	case <-ctx.Done():
		if f.leave(w) {
			<-f.done // we were the last: nothing is left behind when we return
		}
		return api.Image{}, ctx.Err()
	}
}

func (fs *flights) board(ctx context.Context, req api.ImagePull, p api.Progress,
	pull func(context.Context, api.Progress) (api.Image, error),
) (*flight, *watcher, error) {
	w := &watcher{p}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f, ok := fs.byKey[req.Name]; ok {
		if f.req != req {
			return nil, nil, api.Hint(fmt.Errorf("image %s: %w: it is being pulled from %s", req.Name, api.ErrInUse, f.req.Ref),
				"wait for that one, or choose another --name")
		}
		if f.enter(w) {
			p.Note("image", fmt.Sprintf("%s is being pulled already: watching that", req.Name))
			return f, w, nil
		}
		// Everybody has left it, and it is about to end: one of our own follows,
		// and the lock of the name makes it wait.
	}
	// The work belongs to all who watch it, so no single one's end is its end.
	shared, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight{req: req, cancel: cancel, done: make(chan struct{}), watchers: map[*watcher]bool{w: true}}
	if fs.byKey == nil {
		fs.byKey = map[string]*flight{}
	}
	fs.byKey[req.Name] = f
	go func() {
		defer cancel()
		f.img, f.err = pull(shared, f.tell)
		fs.mu.Lock()
		if fs.byKey[req.Name] == f {
			delete(fs.byKey, req.Name)
		}
		fs.mu.Unlock()
		close(f.done)
	}()
	return f, w, nil
}

// enter adds a watcher; it is false when everybody has left.
func (f *flight) enter(w *watcher) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.watchers) == 0 {
		return false
	}
	f.watchers[w] = true
	return true
}

// leave removes a watcher. The last one to leave ends the flight, which is true
// then.
func (f *flight) leave(w *watcher) (last bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.watchers[w] {
		return false
	}
	delete(f.watchers, w)
	if len(f.watchers) > 0 {
		return false
	}
	f.cancel()
	return true
}

// tell gives an event to all who watch.
func (f *flight) tell(e api.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range f.watchers {
		if w.p != nil {
			w.p(e)
		}
	}
}
