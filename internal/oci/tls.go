package oci

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"banger/internal/api"
)

// Registry says how a registry or another host is reached. The zero value is a
// registry that anyone can reach by HTTPS.
type Registry struct {
	Mirrors  []string `toml:"mirrors"`   // host[:port][/path], asked in this order before the registry itself
	CAFile   string   `toml:"ca_file"`   // PEM; trusted besides the system's
	CertFile string   `toml:"cert_file"` // PEM; shown to a host that asks for a client certificate
	KeyFile  string   `toml:"key_file"`  // PEM; goes with CertFile
	Insecure bool     `toml:"insecure"`  // plain HTTP is allowed
}

// hosts is one [http.Transport] for each host, for hosts differ in whom they
// trust: a registry's authority is good for whatever it sends us to, its token
// service and its storage; a client certificate is shown to its own host only.
type hosts struct {
	own     string // the registry's host as in URLs
	name    string // the same as in the settings: docker.io is index.docker.io in URLs
	options Options

	mu  sync.Mutex // guards all
	all map[string]*http.Transport
}

func newHosts(own, name string, o Options) *hosts {
	return &hosts{own: own, name: name, options: o, all: map[string]*http.Transport{}}
}

// RoundTrip implements [http.RoundTripper].
func (h *hosts) RoundTrip(req *http.Request) (*http.Response, error) {
	t, err := h.transport(req.URL.Host)
	if err != nil {
		return nil, err
	}
	return t.RoundTrip(req)
}

func (h *hosts) transport(host string) (*http.Transport, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.all[host]; t != nil {
		return t, nil
	}
	conf, err := h.tlsConfig(host)
	if err != nil {
		return nil, err
	}
	// With HTTP/2 all parts of a blob would share one connection, and its window.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	h.all[host] = &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           h.options.dial,
		TLSClientConfig:       conf,
		Protocols:             &protocols,
		TLSHandshakeTimeout:   h.options.stall,
		MaxIdleConnsPerHost:   2 * h.options.Parallel,
		IdleConnTimeout:       10 * time.Second, // soon gone: nobody closes them
		DisableCompression:    true,             // the bytes as stored are what is hashed
		ExpectContinueTimeout: time.Second,
	}
	return h.all[host], nil
}

// tlsConfig puts together whom we trust there and who we are.
func (h *hosts) tlsConfig(host string) (*tls.Config, error) {
	names := []string{h.name}
	if host == h.own {
		host = h.name
	}
	if host != h.name {
		names = append(names, host)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	for _, name := range names {
		id, err := h.options.identity(name)
		if err != nil {
			return nil, fmt.Errorf("certificates for %s: %w", name, err)
		}
		for _, file := range id.authorities {
			if err := trust(conf, file); err != nil {
				return nil, fmt.Errorf("certificates for %s: %w", name, err)
			}
		}
		if name != host || id.cert == "" {
			continue
		}
		cert, err := tls.LoadX509KeyPair(id.cert, id.key)
		if err != nil {
			return nil, fmt.Errorf("certificates for %s: client certificate %s with key %s: %w", name, id.cert, id.key, err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	return conf, nil
}

// trust adds the authorities in a file to those of the system.
func trust(conf *tls.Config, file string) error {
	pem, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if conf.RootCAs == nil {
		if conf.RootCAs, err = x509.SystemCertPool(); err != nil {
			conf.RootCAs = x509.NewCertPool()
		}
	}
	if !conf.RootCAs.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%w: no certificate in %s", api.ErrInvalid, file)
	}
	return nil
}

// identity names the files with certificates for one host.
type identity struct {
	authorities []string
	cert, key   string // "" for none
}

// identity finds the files for a host: those of the settings, and in the
// directories of podman and docker the first that exists (containers-certs.d(5)).
func (o Options) identity(name string) (id identity, err error) {
	set := o.Registries[name]
	if set.CAFile != "" {
		id.authorities = []string{set.CAFile}
	}
	id.cert, id.key = set.CertFile, set.KeyFile
	for _, dir := range o.certDirs {
		entries, err := os.ReadDir(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue // what is not for this user is not needed, as for podman
		}
		if err != nil {
			return id, err
		}
		for _, e := range entries {
			path := filepath.Join(dir, name, e.Name())
			base, isCert := strings.CutSuffix(path, ".cert")
			switch {
			case strings.HasSuffix(path, ".crt"):
				id.authorities = append(id.authorities, path)
			case isCert && id.cert == "":
				id.cert, id.key = path, base+".key"
			}
		}
		break
	}
	return id, nil
}

// certDirs lists where podman and docker keep certificates, a directory for each
// host in it.
func certDirs() []string {
	dirs := []string{"/etc/containers/certs.d", "/etc/docker/certs.d"}
	if home, err := os.UserHomeDir(); err == nil {
		dirs = append([]string{filepath.Join(home, ".config", "containers", "certs.d")}, dirs...)
	}
	return dirs
}

// explainTLS says what the user can do about an error of TLS with host; it
// returns nil for any other error.
func explainTLS(err error, host string) error {
	table := fmt.Sprintf("[registry.%q] of config.toml", host)
	var (
		unknown x509.UnknownAuthorityError
		cert    *tls.CertificateVerificationError
		record  tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &unknown):
		return api.Hint(err, fmt.Sprintf("if you trust who signed its certificate, name their own in ca_file, %s, or put it into /etc/containers/certs.d/%s/ca.crt", table, host))
	case errors.As(err, &cert):
		return api.Hint(err, "check the name of the registry and this machine's clock")
	case errors.As(err, &record), strings.Contains(err.Error(), speaksPlainHTTP):
		return api.Hint(err, fmt.Sprintf("it speaks plain HTTP: use --insecure, or insecure = true in %s, if you trust the network between here and there", table))
	case strings.Contains(err.Error(), refusedByTLS):
		return api.Hint(err, fmt.Sprintf("it may want a client certificate: name one by cert_file and key_file in %s, or put client.cert and client.key into /etc/containers/certs.d/%s", table, host))
	}
	return nil
}

// What crypto/tls and net/http have no types for: the peer ended a handshake by
// an alert; it speaks plain HTTP.
const (
	refusedByTLS    = "remote error: tls:"
	speaksPlainHTTP = "server gave HTTP response to HTTPS client"
)

// differs reports whether the peer wants another kind of TLS than ours. Where
// plain HTTP is allowed that was tried next, and what came of it stands behind.
func differs(err error) bool {
	return strings.Contains(err.Error(), refusedByTLS) || strings.HasSuffix(err.Error(), speaksPlainHTTP)
}

// withDefaults says what zero means.
func (o Options) withDefaults() Options {
	o.ReadAhead = cmp.Or(o.ReadAhead, 8<<20)
	o.MaxLayerBytes = cmp.Or(o.MaxLayerBytes, 64<<30)
	o.MaxRatio = cmp.Or(o.MaxRatio, 200)
	o.ratioFrom = cmp.Or(o.ratioFrom, defaultRatioFrom)
	o.Parallel = cmp.Or(o.Parallel, DefaultParallel)
	o.CacheBytes = cmp.Or(o.CacheBytes, DefaultCacheBytes)
	o.backoff = cmp.Or(o.backoff, 500*time.Millisecond)
	o.stall = cmp.Or(o.stall, 30*time.Second)
	o.patience = cmp.Or(o.patience, defaultPatience)
	o.partSize = cmp.Or(o.partSize, defaultPartSize)
	if o.certDirs == nil {
		o.certDirs = certDirs()
	}
	if o.dial == nil {
		o.dial = (&net.Dialer{Timeout: o.stall, KeepAlive: o.stall}).DialContext
	}
	return o
}
