// Package daemon is the HTTP API on a unix socket, and where its parts are put
// together: rows, images, kernels and VMs. [Run] serves until it is told to
// stop. VMs are processes of their own: they run on when the daemon ends, and
// the next one finds them again.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/api"
	"banger/internal/catalog"
	"banger/internal/config"
	"banger/internal/dirs"
	"banger/internal/image"
	"banger/internal/kernel"
	"banger/internal/oci"
	"banger/internal/store"
	"banger/internal/vm"
)

// Config is what a daemon is told at its start.
type Config struct {
	Dirs      dirs.Dirs
	Version   string
	Build     string   // see api.Version
	Supervise []string // command that supervises one VM; vm.Host says how it is called
	Log       *slog.Logger
}

// cacheDir is where blobs are kept.
func (c Config) cacheDir() string { return filepath.Join(c.Dirs.Cache, "oci") }

// fetch returns how to fetch, as the user has set it by now.
func (c Config) fetch() (oci.Options, error) {
	settings, err := config.Read(c.Dirs.Config)
	return settings.Fetch(c.cacheDir()), err
}

// SocketName is the API's socket in dirs.Dirs.Run.
const SocketName = "banger.sock"

// Run serves the API until ctx ends or a client asks it to stop. A second daemon
// on the same state directory is refused, and told who holds it.
func Run(ctx context.Context, c Config) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	d, free, err := open(ctx, c)
	if err != nil {
		return err
	}
	defer free()
	d.stop = stop
	l, err := listen(ctx, d.socket())
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler:           d.routes().mux,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(c.Log.Handler(), slog.LevelWarn),
		// Calls under way end with the daemon, and clean up after themselves.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ownerOnly{l, os.Getuid()}) }()
	c.Log.Info("listening", "socket", d.socket(), "pid", os.Getpid(), "version", c.Version)
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err = srv.Shutdown(grace)
	<-served //nolint:errcheck // it is http.ErrServerClosed
	c.Log.Info("stopped")
	return err
}

// socket is the path of the API's socket.
func (d *daemon) socket() string { return filepath.Join(d.Dirs.Run, SocketName) }

// open makes the directories, takes the state directory for this process, opens
// the database and clears away what a crash has left.
func open(ctx context.Context, c Config) (d *daemon, free func(), err error) {
	state := c.Dirs.State
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, nil, err
	}
	lock, err := lockState(state)
	if err != nil {
		return nil, nil, err
	}
	rows, err := store.Open(ctx, filepath.Join(state, "banger.db"))
	if err != nil {
		return nil, nil, errors.Join(err, lock.Close())
	}
	kernels := &kernel.Store{Dir: filepath.Join(state, "kernels")}
	var spawned sync.WaitGroup
	d = &daemon{
		Config:  c,
		spawn:   func(f func(context.Context)) { spawned.Go(func() { f(ctx) }) },
		rows:    rows,
		kernels: kernels,
		images: &image.Store{
			Dir: filepath.Join(state, "images"), Fetch: c.fetch, Rows: rows, Kernels: stager{kernels},
			Catalogs: &catalog.Set{
				ConfigDir: filepath.Join(c.Dirs.Config, "catalogs"), StateDir: filepath.Join(state, "catalogs"),
				Remote: web{c.fetch},
			},
		},
		vms: &vm.Host{Dir: filepath.Join(state, "vms"), RunDir: c.Dirs.Run, Supervise: c.Supervise},
	}
	free = func() {
		spawned.Wait()
		if err := errors.Join(rows.Close(), lock.Close()); err != nil {
			c.Log.Error("close", "error", err)
		}
	}
	if err := errors.Join(d.adoptVMs(ctx), d.images.Clean(ctx), d.images.Catalogs.Clean(), d.kernels.Clean()); err != nil {
		free()
		return nil, nil, fmt.Errorf("clear up after the last run: %w", err)
	}
	return d, free, nil
}

// lockState takes the state directory for this process. The lock is the
// kernel's (flock), so it cannot outlive us.
func lockState(state string) (*os.File, error) {
	path := filepath.Join(state, "daemon.lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(path)
		return nil, errors.Join(api.Hint(
			fmt.Errorf("state directory %s: %w by the daemon with pid %s", state, api.ErrInUse, holder),
			"stop it with: banger daemon stop; or set BANGER_HOME to another directory"), f.Close())
	}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := fmt.Fprint(f, os.Getpid()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// listen makes the socket. The state directory is ours by now, so a socket that
// is there is a dead daemon's.
func listen(ctx context.Context, socket string) (net.Listener, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}
