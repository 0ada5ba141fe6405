package kernel

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/api"
	"banger/internal/dirs"
)

// stagePrefix begins the name of every directory that is not a kernel yet, or
// not any more.
const stagePrefix = ".staging-"

// stage is where a kernel is put together before it is published.
type stage struct {
	store *Store
	dir   string // below the store, so that publishing is a rename
	out   string // becomes the kernel's directory
}

func (s *Store) newStage() (*stage, error) {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, err
	}
	s.stagesMu.Lock() // until it is known: nobody takes it for a leftover
	dir, err := os.MkdirTemp(s.Dir, stagePrefix)
	if err == nil {
		if s.stages == nil {
			s.stages = map[string]bool{}
		}
		s.stages[filepath.Base(dir)] = true
	}
	s.stagesMu.Unlock()
	if err != nil {
		return nil, err
	}
	st := &stage{store: s, dir: dir, out: filepath.Join(dir, "kernel")}
	if err := os.Mkdir(st.out, 0o755); err != nil {
		return nil, errors.Join(err, st.remove())
	}
	return st, nil
}

func (st *stage) remove() error {
	err := os.RemoveAll(st.dir)
	st.store.stagesMu.Lock()
	defer st.store.stagesMu.Unlock()
	delete(st.store.stages, filepath.Base(st.dir))
	return err
}

// leftovers returns the names of the staging directories that nobody works in.
func (s *Store) leftovers() ([]string, error) {
	s.stagesMu.Lock()
	defer s.stagesMu.Unlock()
	entries, err := os.ReadDir(s.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), stagePrefix) && !s.stages[e.Name()] {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Clean removes what a crash has left in the store, and finds a default when the
// one that is named never came or has gone. Call it when nothing else works in
// the store, as at the start of the daemon.
func (s *Store) Clean() error {
	names, err := s.leftovers()
	if err != nil {
		return fmt.Errorf("clean kernels: %w", err)
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, os.RemoveAll(filepath.Join(s.Dir, name)))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if name := s.defaultName(); name != "" {
		if _, err := os.Lstat(filepath.Join(s.Dir, name)); errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, s.electDefault())
		}
	}
	return errors.Join(errs...)
}

// publish makes the files in st.out the kernel called m.Name. With replace, a
// kernel of that name makes way in the same step. It fills in the rest of m.
func (s *Store) publish(st *stage, m manifest, replace bool) (api.Kernel, error) {
	fail := func(err error) (api.Kernel, error) {
		return api.Kernel{}, fmt.Errorf("publish kernel %s: %w", m.Name, err)
	}
	var err error
	if m.SHA256, err = hashFiles(st.out); err != nil {
		return fail(err)
	}
	m.CreatedAt = time.Now().UTC().Truncate(time.Second)
	b, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return fail(err)
	}
	if err := writeFile(filepath.Join(st.out, manifestFile), append(b, '\n')); err != nil {
		return fail(err)
	}
	if err := dirs.Sync(st.out); err != nil {
		return fail(err)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	// The default goes first: while it names no kernel it counts as none, so a
	// crash in between does no harm.
	if _, err := s.defaultKernel(); errors.Is(err, api.ErrNotFound) && m.Arch == s.arch() {
		if err := s.writeDefault(m.Name); err != nil {
			return fail(err)
		}
	}
	final := filepath.Join(s.Dir, m.Name)
	err = unix.Renameat2(unix.AT_FDCWD, st.out, unix.AT_FDCWD, final, unix.RENAME_NOREPLACE)
	if errors.Is(err, fs.ErrExist) {
		if !replace {
			return api.Kernel{}, s.exists(m.Name)
		}
		// The old kernel changes places with the new one and goes with the stage.
		err = unix.Renameat2(unix.AT_FDCWD, st.out, unix.AT_FDCWD, final, unix.RENAME_EXCHANGE)
	}
	if err != nil {
		return fail(err)
	}
	if err := dirs.Sync(s.Dir); err != nil {
		return fail(err)
	}
	return s.get(m.Name)
}

// exists is the error of a kernel whose name another one has.
func (s *Store) exists(name string) error {
	free := api.FreeName(name, func(name string) bool {
		_, err := os.Lstat(filepath.Join(s.Dir, name))
		return err == nil
	})
	return api.Hint(fmt.Errorf("kernel %s: %w", name, api.ErrExists),
		fmt.Sprintf("choose another, such as --name %s, or remove it: banger kernel rm %s", free, name))
}

// hashFiles returns the hex sha256 of each file in dir.
func hashFiles(dir string) (map[string]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	sums := make(map[string]string, len(entries))
	for _, e := range entries {
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		sums[e.Name()] = hex.EncodeToString(h.Sum(nil))
	}
	return sums, nil
}

// writeFile makes a new read-only file that is on the disk when it returns.
func writeFile(path string, data []byte) error {
	f, err := createFile(path)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return finishFile(f, err)
}

// copyFile makes a copy of src that is on the disk when it returns.
func copyFile(dst, src string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	f, err := createFile(dst)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, in)
	return finishFile(f, err)
}

// createFile makes a new file. It is read-only for everyone after this: kernels
// are shared by hard links.
func createFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o444)
}

// finishFile flushes and closes f, and removes it when there is an error.
func finishFile(f *os.File, err error) error {
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
