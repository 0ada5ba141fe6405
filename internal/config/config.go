// Package config reads what the user has set, config.toml in the configuration
// directory: how registries are reached, how large the cache may become, how a
// pull behaves. docs/config.md describes it. [Read] it for each call that needs
// it: a daemon then needs no restart to see a change.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"banger/internal/api"
	"banger/internal/oci"
)

// File is the name of the file in the configuration directory.
const File = "config.toml"

// Config is what the file says. A file that is not there says nothing, and all
// has its default.
type Config struct {
	Registries map[string]oci.Registry `toml:"registry"` // by host[:port]
	Cache      Cache                   `toml:"cache"`
	Pull       Pull                    `toml:"pull"`
}

// Cache is about the cache of downloads.
type Cache struct {
	MaxBytes *Size `toml:"max_bytes"` // nil: [oci.DefaultCacheBytes]; 0: no limit
}

// Pull is about pulls.
type Pull struct {
	Parallel int `toml:"parallel"` // connections of one pull at once; 0: [oci.DefaultParallel]
}

// maxParallel keeps a slip of the finger from being an attack on a registry.
const maxParallel = 64

// keys is what there is, for errors.
const keys = `the keys are: in [registry."HOST"] mirrors, ca_file, cert_file, key_file, insecure; in [cache] max_bytes; in [pull] parallel`

// Read reads the file in dir. Relative paths in it become absolute, seen from dir.
func Read(dir string) (Config, error) {
	path := filepath.Join(dir, File)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, nil
	}
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	c, err := parse(string(data), dir)
	if at := (*positioned)(nil); errors.As(err, &at) {
		return Config{}, api.Hint(fmt.Errorf("%w configuration: %s:%d: %s", api.ErrInvalid, path, at.line, at.message), at.hint)
	}
	return c, err
}

// positioned is an error in a line of the file.
type positioned struct {
	line    int
	message string
	hint    string
}

func (p *positioned) Error() string { return p.message }

func parse(text, dir string) (c Config, err error) {
	meta, err := toml.Decode(text, &c)
	if parse := (toml.ParseError{}); errors.As(err, &parse) {
		return c, &positioned{parse.Position.Line, parse.Message, keys}
	}
	if err != nil { // a wrong type: `toml: line 3 (last key "pull.parallel"): ...`
		line := 1
		fmt.Sscanf(err.Error(), "toml: line %d", &line) //nolint:errcheck // else it is in the text
		return c, &positioned{line, strings.TrimPrefix(err.Error(), fmt.Sprintf("toml: line %d ", line)), keys}
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return c, &positioned{lineOf(text, unknown[0]), "unknown key " + unknown[0].String(), keys}
	}
	bad := func(err error, hint string, key ...string) error {
		return &positioned{lineOf(text, key), toml.Key(key).String() + ": " + err.Error(), hint}
	}
	for host, r := range c.Registries {
		if err := oci.CheckHost(host); err != nil {
			return c, bad(err, `write the host as in names of images, as in [registry."docker.io"] or [registry."localhost:5000"]`, "registry", host)
		}
		for _, mirror := range r.Mirrors {
			if err := oci.CheckMirror(mirror); err != nil {
				return c, bad(fmt.Errorf("%q: %w", mirror, err), `such as mirrors = ["mirror.example:5000", "mirror.example/docker-hub"]`, "registry", host, "mirrors")
			}
		}
		if (r.CertFile == "") != (r.KeyFile == "") {
			return c, bad(errors.New("cert_file and key_file go together"), "name the client certificate and its key", "registry", host)
		}
		for _, file := range []*string{&r.CAFile, &r.CertFile, &r.KeyFile} {
			if *file != "" && !filepath.IsAbs(*file) {
				*file = filepath.Join(dir, *file)
			}
		}
		c.Registries[host] = r
	}
	if n := c.Pull.Parallel; n < 0 || n > maxParallel {
		return c, bad(fmt.Errorf("%d connections at once", n), fmt.Sprintf("choose 1 to %d, or leave it out for %d", maxParallel, oci.DefaultParallel), "pull", "parallel")
	}
	return c, nil
}

// lineOf returns the line, from 1, in which text defines key: that which ends the
// shortest beginning that has it. The parser does not tell.
func lineOf(text string, key toml.Key) int {
	lines := strings.SplitAfter(text, "\n")
	for n := range lines {
		var all map[string]any
		meta, err := toml.Decode(strings.Join(lines[:n+1], ""), &all)
		if err == nil && slices.ContainsFunc(meta.Keys(), func(k toml.Key) bool { return slices.Equal(k, key) }) {
			return n + 1
		}
	}
	return 1
}

// Fetch returns how to fetch, with blobs cached in cacheDir.
func (c Config) Fetch(cacheDir string) oci.Options {
	o := oci.Options{CacheDir: cacheDir, Registries: c.Registries, Parallel: c.Pull.Parallel}
	if size := c.Cache.MaxBytes; size != nil {
		o.CacheBytes = cmp.Or(int64(*size), -1)
	}
	return o
}
