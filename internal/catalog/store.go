package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"banger/internal/api"
)

// Remote reads what is not on this machine.
type Remote interface {
	// Document returns the bytes at a URL, [api.ErrNotFound] when there are none.
	Document(ctx context.Context, url string) ([]byte, error)
	// Artifact returns those of the named files that an artifact in a registry has.
	Artifact(ctx context.Context, ref string, names ...string) (map[string][]byte, error)
}

// snapshot is a catalog as it was fetched, with its signature: one file, so that
// the two never part.
type snapshot struct {
	Source    string    `json:"source"`
	FetchedAt time.Time `json:"fetched_at,omitzero"`
	Catalog   []byte    `json:"catalog"`
	Signature []byte    `json:"signature,omitempty"`
}

// artifactFile is the name of the catalog in an artifact; its signature is
// beside it.
const artifactFile = "catalog.json"

// loaded is a catalog that can be used.
type loaded struct {
	document
	signedAt, fetchedAt time.Time
}

// open verifies and reads a snapshot.
func (c config) open(s snapshot) (l loaded, err error) {
	if c.Key != "" {
		if l.signedAt, err = verify(s.Catalog, s.Signature, c.Key); err != nil {
			return l, api.Hint(err, fmt.Sprintf("if its publisher has a new key, give it: banger catalog remove %s, then banger catalog add with --key", c.name))
		}
	}
	l.fetchedAt = s.FetchedAt
	l.document, err = parse(s.Catalog, c.name, c.Source)
	return l, err
}

// load reads the catalog from this machine.
func (s *Set) load(c config) (loaded, error) {
	if !c.remote() {
		snap, err := c.readLocal()
		if err != nil {
			return loaded{}, err
		}
		return c.open(snap)
	}
	b, err := os.ReadFile(s.snapshotPath(c.name))
	var snap snapshot
	if err == nil {
		err = json.Unmarshal(b, &snap)
	}
	if errors.Is(err, fs.ErrNotExist) || err == nil && snap.Source != c.Source {
		return loaded{}, api.Hint(fmt.Errorf("%s was never fetched: %w", c.Source, api.ErrNotFound), "fetch it: banger catalog update "+c.name)
	}
	if err != nil {
		return loaded{}, fmt.Errorf("read what was fetched: %w", err)
	}
	return c.open(snap)
}

func (s *Set) snapshotPath(name string) string { return filepath.Join(s.StateDir, name+".json") }

// readLocal reads a catalog that is a file, and its signature when one is wanted.
func (c config) readLocal() (snap snapshot, err error) {
	if snap.Catalog, err = readBounded(c.Source); err != nil || c.Key == "" {
		return snap, err
	}
	snap.Signature, err = readBounded(c.Source + signatureSuffix)
	if errors.Is(err, api.ErrNotFound) {
		err = nil // verify says what is wrong
	}
	return snap, err
}

func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, api.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // opening a fifo would hang
		return nil, fmt.Errorf("%w: %s is not a regular file", api.ErrInvalid, path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxCatalog+1))
	if err == nil {
		err = checkSize(b)
	}
	return b, err
}

func checkSize(b []byte) error {
	if len(b) > maxCatalog {
		return fmt.Errorf("%w: more than %d bytes", api.ErrInvalid, maxCatalog)
	}
	return nil
}

// fetch gets the catalog as it is now, verified. One that was signed before the
// one we have is refused: it may be an old one that somebody gives us again.
func (s *Set) fetch(ctx context.Context, c config) error {
	snap, err := s.get(ctx, c)
	if err != nil {
		return err
	}
	now, err := c.open(snap)
	if err != nil {
		return err
	}
	if old, err := s.load(c); err == nil && now.signedAt.Before(old.signedAt) {
		return api.Hint(fmt.Errorf("%w: it was signed on %s, and the one we have later, on %s",
			api.ErrInvalid, now.signedAt.Format(time.DateTime), old.signedAt.Format(time.DateTime)),
			fmt.Sprintf("if that is meant: banger catalog remove %s, then banger catalog add", c.name))
	}
	b, err := json.Marshal(snap)
	if err != nil {
		return err
	}
	return writeFile(s.snapshotPath(c.name), b)
}

// get downloads the catalog and, when one is wanted, its signature.
func (s *Set) get(ctx context.Context, c config) (snapshot, error) {
	snap := snapshot{Source: c.Source, FetchedAt: time.Now().UTC()}
	if ref, ok := strings.CutPrefix(c.Source, "oci:"); ok {
		files, err := s.Remote.Artifact(ctx, ref, artifactFile, artifactFile+signatureSuffix)
		if err != nil {
			return snap, err
		}
		if files[artifactFile] == nil {
			return snap, fmt.Errorf("%w: the artifact %s has no %s", api.ErrInvalid, ref, artifactFile)
		}
		snap.Catalog, snap.Signature = files[artifactFile], files[artifactFile+signatureSuffix]
		return snap, checkSize(snap.Catalog)
	}
	var err error
	if snap.Catalog, err = s.Remote.Document(ctx, c.Source); err != nil {
		return snap, err
	}
	if err := checkSize(snap.Catalog); err != nil || c.Key == "" {
		return snap, err
	}
	beside, err := url.Parse(c.Source)
	if err != nil {
		return snap, err
	}
	beside.Path += signatureSuffix // not behind a query
	snap.Signature, err = s.Remote.Document(ctx, beside.String())
	if errors.Is(err, api.ErrNotFound) {
		err = nil // verify says what is wrong
	}
	return snap, err
}
