package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"banger/internal/api"
	"banger/internal/dirs"
)

// Each catalog of the user is a file, <config>/catalogs/<name>.toml, so that
// adding one never edits what somebody has written by hand. Their order is that
// of the names.
const configSuffix = ".toml"

// config is one of these files.
type config struct {
	name string

	Source   string `toml:"source"`             // path, URL or oci:<registry>/<repository>[:tag]
	Key      string `toml:"key,omitempty"`      // minisign public key
	Insecure bool   `toml:"insecure,omitempty"` // no signature wanted
}

// remote says whether the catalog has to be fetched.
func (c config) remote() bool { return !filepath.IsAbs(c.Source) }

// check says whether c makes sense.
func (c config) check() error {
	if err := checkSource(c.Source); err != nil {
		return err
	}
	switch {
	case c.Key != "" && c.Insecure:
		return fmt.Errorf("%w: it has a key and is insecure; want one of them", api.ErrInvalid)
	case c.Key != "":
		_, err := parseKey(c.Key)
		return err
	case c.remote() && !c.Insecure:
		return api.Hint(fmt.Errorf("%w: %s comes from elsewhere and no key says who must have signed it", api.ErrInvalid, c.Source),
			"give the minisign key of who publishes it: --key RW...; or take it as it comes: --insecure")
	}
	return nil
}

func checkSource(source string) error {
	if filepath.IsAbs(source) {
		return nil
	}
	if ref, ok := strings.CutPrefix(source, "oci:"); ok {
		if !validRef.MatchString(ref) {
			return fmt.Errorf("%w source %q: want oci:registry/repository[:tag]", api.ErrInvalid, source)
		}
		return nil
	}
	u, err := url.Parse(source)
	if err == nil {
		err = checkWeb(u)
	}
	if err != nil {
		return fmt.Errorf("%w source %q: %w", api.ErrInvalid, source, err)
	}
	return nil
}

// readConfigs returns the catalogs of the user in their order. A file that
// cannot be read is in the list as well, with its error.
func readConfigs(dir string) (all []config, errs []error, err error) {
	entries, err := os.ReadDir(dir) // sorted
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read catalogs: %w", err)
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), configSuffix)
		if !ok || strings.HasPrefix(name, ".") {
			continue
		}
		c, err := readConfig(dir, name)
		all, errs = append(all, c), append(errs, err)
	}
	return all, errs, nil
}

func readConfig(dir, name string) (config, error) {
	c := config{name: name}
	if err := api.CheckName("catalog", name); err != nil {
		return c, err
	}
	path := filepath.Join(dir, name+configSuffix)
	meta, err := toml.DecodeFile(path, &c)
	if errors.Is(err, fs.ErrNotExist) {
		return c, api.Hint(fmt.Errorf("catalog %s: %w", name, api.ErrNotFound), "see what there is: banger catalog sources")
	}
	if err != nil {
		return c, fmt.Errorf("%w: read %s: %w", api.ErrInvalid, path, err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return c, fmt.Errorf("%w: %s: unknown key %s", api.ErrInvalid, path, unknown[0])
	}
	if err := c.check(); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// write stores c as a file, which appears whole or not at all.
func (c config) write(dir string) error {
	text, err := toml.Marshal(c)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, c.name+configSuffix), slices.Concat([]byte("# written by banger catalog add\n"), text))
}

// tmpPrefix begins the names of files that are not there yet.
const tmpPrefix = ".tmp-"

// writeFile replaces a file durably.
func writeFile(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, tmpPrefix+"*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return dirs.Sync(dir)
}
