package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// recipe is the version of the images below; those of another are made anew.
const recipe = 3

// packages are what the second layer of the Debian image installs.
var packages = []string{"python3", "git", "curl", "openssh-server"}

// made is when everything that no package brings was made.
var made = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// recipeDir is where the images are in a cache directory.
func recipeDir(cache string) string { return filepath.Join(cache, fmt.Sprintf("recipe-%d", recipe)) }

// makeImages makes the images that the cache does not have, in place of those of
// other recipes.
func makeImages(ctx context.Context, cache string, s scale) error {
	dir := recipeDir(cache)
	old, err := filepath.Glob(filepath.Join(cache, "recipe-*"))
	for _, o := range old {
		if o != dir {
			err = errors.Join(err, os.RemoveAll(o))
		}
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	base, full := filepath.Join(dir, "base.tar"), filepath.Join(dir, "full.tar")
	if err := debianTars(ctx, base, full); err != nil {
		return err
	}
	text, err := readCorpus(full)
	if err != nil {
		return err
	}
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("find Go's sources: %w", err)
	}
	sources := os.DirFS(filepath.Join(strings.TrimSpace(string(root)), "src"))
	debian := []layer{copyTar(base, asItIs), difference(base, full), application(sources)}
	for _, img := range []struct {
		name   string
		layers []layer
		stored compression
	}{
		{"debian", debian, gzipped},
		{"debian-zstd", debian, zstandard},
		{"flat", []layer{copyTar(full, withoutACLs)}, gzipped},
		{s.name("small"), []layer{text.smallFiles(s.smallFiles)}, gzipped},
		{s.name("large"), []layer{text.largeFiles(s.largeBytes)}, gzipped},
		{s.name("huge"), text.hugeLayers(s.hugeBytes, s.hugeFiles), gzippedFast},
	} {
		at := filepath.Join(dir, img.name)
		if _, err := os.Stat(at); errors.Is(err, fs.ErrNotExist) {
			start := time.Now()
			if err := writeLayout(at, img.layers, img.stored); err != nil {
				return fmt.Errorf("make image %s: %w", img.name, err)
			}
			say("made image %s in %.0f s", img.name, time.Since(start).Seconds())
		}
	}
	return nil
}

// openImages returns the images, which are there.
func openImages(cache string, s scale) (map[string]layout, error) {
	images := map[string]layout{}
	for _, name := range order {
		img, err := openLayout(filepath.Join(recipeDir(cache), s.name(name)))
		if err != nil {
			return nil, err
		}
		images[name] = img
	}
	return images, nil
}

// debianTars makes two root file systems at once, the second with the packages.
func debianTars(ctx context.Context, base, full string) error {
	group, ctx := errgroup.WithContext(ctx)
	for out, with := range map[string][]string{base: nil, full: packages} {
		if _, err := os.Stat(out); err == nil {
			continue
		}
		group.Go(func() error {
			tmp := strings.TrimSuffix(out, ".tar") + ".making.tar"
			cmd := exec.CommandContext(ctx, "scripts/debian-image", append([]string{tmp}, with...)...)
			say("making a Debian root file system with %d packages more", len(with))
			if text, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w\n%s", cmd, err, text)
			}
			return os.Rename(tmp, out)
		})
	}
	return group.Wait()
}

// eachEntry calls fn for the entries of a tar file, with their content.
func eachEntry(name string, fn func(h *tar.Header, content io.Reader) error) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if err := fn(h, r); err != nil {
			return err
		}
	}
}

// copyTar is a layer with all that is in a tar file, with what change does to it.
func copyTar(name string, change func(h *tar.Header)) layer {
	return func(w *tar.Writer) error {
		return eachEntry(name, func(h *tar.Header, content io.Reader) error {
			change(h)
			if err := w.WriteHeader(h); err != nil {
				return err
			}
			_, err := io.Copy(w, content)
			return err
		})
	}
}

func asItIs(*tar.Header) {}

// withoutACLs leaves out what tar2ext4 stores as it comes, which is not the form
// that ext4 has for it: its disk could not be compared.
func withoutACLs(h *tar.Header) {
	acl := func(name, _ string) bool { return strings.Contains(name, "system.posix_acl_") }
	maps.DeleteFunc(h.PAXRecords, acl)
	maps.DeleteFunc(h.Xattrs, acl) //nolint:staticcheck // a tar.Reader fills it, and a tar.Writer looks at it
}

// difference is a layer that makes upper of lower.
func difference(lower, upper string) layer {
	return func(w *tar.Writer) error {
		have := map[string][sha256.Size]byte{}
		err := eachEntry(lower, func(h *tar.Header, content io.Reader) (err error) {
			have[h.Name], err = entrySum(h, content)
			return err
		})
		if err != nil {
			return err
		}
		f, err := os.Open(upper)
		if err != nil {
			return err
		}
		defer f.Close()
		err = eachEntry(upper, func(h *tar.Header, content io.Reader) error {
			var data bytes.Buffer
			sum, err := entrySum(h, io.TeeReader(content, &data))
			if err != nil {
				return err
			}
			old, was := have[h.Name]
			delete(have, h.Name)
			if was && old == sum {
				return nil
			}
			if err := w.WriteHeader(h); err != nil {
				return err
			}
			_, err = w.Write(data.Bytes())
			return err
		})
		if err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(have)) {
			dir, file := path.Split(strings.TrimSuffix(name, "/"))
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: dir + ".wh." + file, Mode: 0o644, ModTime: made}); err != nil {
				return err
			}
		}
		return nil
	}
}

func entrySum(h *tar.Header, content io.Reader) (sum [sha256.Size]byte, err error) {
	s := sha256.New()
	fmt.Fprintln(s, h.Typeflag, h.Name, h.Linkname, h.Mode, h.Uid, h.Gid, h.ModTime, h.PAXRecords)
	_, err = io.Copy(s, content)
	return [sha256.Size]byte(s.Sum(nil)), err
}

// application is a layer as a build puts on top: sources, here Go's library of
// packages, and a deletion.
func application(src fs.FS) layer {
	return func(w *tar.Writer) error {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "etc/.wh.issue.net", Mode: 0o644, ModTime: made}); err != nil {
			return err
		}
		if err := makeDirs(w, "opt"); err != nil {
			return err
		}
		return fs.WalkDir(src, ".", func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.Name() == "testdata" || name == "cmd":
				return fs.SkipDir
			case d.IsDir():
				return makeDirs(w, path.Join("opt/app", name))
			case !d.Type().IsRegular():
				return nil
			}
			data, err := fs.ReadFile(src, name)
			if err != nil {
				return err
			}
			return writeFile(w, path.Join("opt/app", name), data)
		})
	}
}

func makeDirs(w *tar.Writer, names ...string) error {
	for _, name := range names {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: made}); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(w *tar.Writer, name string, data []byte) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data)), Uid: 1000, Gid: 1000, ModTime: made}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

// corpus is what made-up files are cut from: the content of all files of a Debian,
// programs, scripts and text, one after the other.
type corpus []byte

func readCorpus(name string) (corpus, error) {
	var all bytes.Buffer
	err := eachEntry(name, func(_ *tar.Header, content io.Reader) error {
		_, err := all.ReadFrom(content)
		return err
	})
	return all.Bytes(), err
}

// piece returns n bytes from somewhere.
func (c corpus) piece(random *rand.Rand, n int64) []byte {
	n = min(n, int64(len(c)))
	at := random.Int64N(int64(len(c)) - n + 1)
	return c[at : at+n]
}

// smallFiles is a layer of n files of up to 16 KiB, three fifths of them in one
// directory and the rest by hundreds.
func (c corpus) smallFiles(n int) layer {
	return func(w *tar.Writer) error {
		random := rand.New(rand.NewPCG(1, 0))
		dir := "srv/many"
		if err := makeDirs(w, "srv", dir, "srv/tree"); err != nil {
			return err
		}
		for i := range n {
			if i >= n/5*3 && i%100 == 0 {
				dir = fmt.Sprintf("srv/tree/%03d", i/100)
				if err := makeDirs(w, dir); err != nil {
					return err
				}
			}
			if err := writeFile(w, fmt.Sprintf("%s/file-%05d.dat", dir, i), c.piece(random, random.Int64N(16<<10))); err != nil {
				return err
			}
		}
		return nil
	}
}

// largeFiles is a layer of so many bytes in files of 8 to 128 MiB.
func (c corpus) largeFiles(size int64) layer {
	return func(w *tar.Writer) error {
		random := rand.New(rand.NewPCG(2, 0))
		if err := makeDirs(w, "srv"); err != nil {
			return err
		}
		for i := 0; size > 0; i++ {
			n := min(size, 8<<20+random.Int64N(120<<20))
			h := &tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("srv/large-%d.bin", i), Mode: 0o644, Size: n, ModTime: made}
			if err := w.WriteHeader(h); err != nil {
				return err
			}
			for size -= n; n > 0; {
				piece := c.piece(random, min(n, 256<<10))
				if _, err := w.Write(piece); err != nil {
					return err
				}
				n -= int64(len(piece))
			}
		}
		return nil
	}
}

// hugeLayers is eight layers, so many bytes and files in all.
func (c corpus) hugeLayers(size int64, files int) []layer {
	layers := make([]layer, 8)
	for i := range layers {
		layers[i] = func(w *tar.Writer) error {
			random := rand.New(rand.NewPCG(3, uint64(i)))
			dir := fmt.Sprintf("srv/layer-%d", i)
			if err := makeDirs(w, "srv", dir); err != nil {
				return err
			}
			for j := range files / len(layers) {
				if j%500 == 0 {
					dir = fmt.Sprintf("srv/layer-%d/%03d", i, j/500)
					if err := makeDirs(w, dir); err != nil {
						return err
					}
				}
				name := fmt.Sprintf("%s/a-file-of-many-%06d.dat", dir, j)
				if err := writeFile(w, name, c.piece(random, random.Int64N(2*size/int64(files)))); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return layers
}
