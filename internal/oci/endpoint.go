package oci

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// endpoint is one place that may have a repository: the registry it is named
// after, or a mirror. The first request connects it.
type endpoint struct {
	mirror string // as the settings name it; "" for the registry itself
	repo   name.Repository
	wire   *wire

	mu     sync.Mutex   // guards what follows
	client *http.Client // nil until connected
	login  bool         // there are credentials
	faults int          // how often it did not do what it should
}

func newEndpoint(host, repository string, o Options) (*endpoint, error) {
	plain := o.plain(host)
	var opts []name.Option
	if plain {
		opts = append(opts, name.Insecure)
	}
	reg, err := name.NewRegistry(host, opts...)
	if err != nil {
		return nil, err
	}
	return &endpoint{repo: reg.Repo(repository), wire: newWire(reg.RegistryStr(), host, o)}, nil
}

// plain says whether plain HTTP to host is allowed.
func (o Options) plain(host string) bool {
	return o.Insecure || loopback(hostname(host)) || o.Registries[host].Insecure
}

// connect finds credentials and the way to log in.
func (e *endpoint) connect(ctx context.Context) (*http.Client, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.client != nil {
		return e.client, nil
	}
	auth, err := authn.Resolve(ctx, keychain{}, e.repo)
	if err != nil {
		return nil, err
	}
	e.login = auth != authn.Anonymous
	rt, err := transport.NewWithContext(ctx, e.repo.Registry, auth,
		transport.NewUserAgent(e.wire, "banger"), []string{e.repo.Scope(transport.PullScope)})
	if err != nil {
		return nil, err
	}
	e.client = &http.Client{Transport: rt}
	return e.client, nil
}

// get makes one GET and returns an answer of the 2xx kind.
func (e *endpoint) get(ctx context.Context, what, identifier string, header http.Header) (*http.Response, error) {
	client, err := e.connect(ctx)
	if err != nil {
		return nil, err
	}
	u := url.URL{Scheme: "https", Host: e.repo.RegistryStr(), Path: "/v2/" + e.repo.RepositoryStr() + "/" + what + "/" + identifier}
	return do(ctx, client, u.String(), header)
}

// hasLogin says whether credentials were found.
func (e *endpoint) hasLogin() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.login
}

// blame counts a fault, and says whether it is the first.
func (e *endpoint) blame() (first bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults++
	return e.faults == 1
}

func (e *endpoint) faultCount() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.faults
}

// splitMirror splits host[:port][/path].
func splitMirror(mirror string) (host, path string) {
	host, path, _ = strings.Cut(mirror, "/")
	return host, path
}

// CheckHost says what is wrong with host[:port] as a key of
// [Options.Registries]: it is to be found under the name that refs have.
func CheckHost(host string) error {
	switch {
	case host == "index.docker.io" || host == "registry-1.docker.io":
		return errors.New("Docker's registry is docker.io here") //nolint:staticcheck // a name
	case host != strings.ToLower(host):
		return errors.New("want it in lower case")
	case !validRegistry.MatchString(host):
		return errors.New("want host[:port], without a scheme and a path")
	}
	return nil
}

// CheckMirror says what is wrong with the name of a mirror: it is
// host[:port][/path].
func CheckMirror(mirror string) error {
	host, path := splitMirror(mirror)
	switch {
	case strings.Contains(mirror, "://"):
		return errors.New("want host[:port][/path] without a scheme; plain HTTP is allowed by insecure = true in a table of its own")
	case !validRegistry.MatchString(host):
		return errors.New("want host[:port][/path]")
	case path != "" && !validRepository.MatchString(path):
		return errors.New("its path is not one of a repository")
	}
	return nil
}

// mirrorError is what the registry itself said after its mirrors had been asked
// in vain.
type mirrorError struct {
	error
	mirrors []error
	again   bool // a mirror may well have it a little later
}

func (e *mirrorError) Unwrap() error { return e.error }

// Error implements error.
func (e *mirrorError) Error() string {
	all := make([]string, len(e.mirrors))
	for i, err := range e.mirrors {
		all[i] = err.Error()
	}
	return e.error.Error() + " (" + strings.Join(all, "; ") + ")"
}
