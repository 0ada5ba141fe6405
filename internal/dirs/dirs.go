// Package dirs says where banger keeps things: the XDG base directories, or
// everything below $BANGER_HOME when that is set.
package dirs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Dirs are absolute paths. They need not exist, but for Run.
type Dirs struct {
	Config string // settings
	State  string // images, kernels, VMs, the database
	Cache  string // blobs
	Run    string // sockets; made by [Find], 0700 and ours
}

// maxRun keeps the sockets in Run below the 108 bytes of sun_path (unix(7)):
// the longest name in it is "vm-", 12 digits and ".agent.sock".
const maxRun = 108 - 1 - 32

// Find reads the environment.
func Find(getenv func(string) string) (Dirs, error) {
	if home := getenv("BANGER_HOME"); home != "" {
		home, err := filepath.Abs(home)
		if err != nil {
			return Dirs{}, fmt.Errorf("BANGER_HOME %s: %w", home, err)
		}
		run := filepath.Join(home, "run")
		if len(run) > maxRun {
			// A name made from the path, so that every process finds the same one.
			sum := sha256.Sum256([]byte(home))
			run = temporary(hex.EncodeToString(sum[:6]))
		}
		return Dirs{
			Config: filepath.Join(home, "config"),
			State:  filepath.Join(home, "state"),
			Cache:  filepath.Join(home, "cache"),
			Run:    run,
		}, makePrivate(run)
	}
	home := getenv("HOME")
	base := func(variable, fallback string) string {
		dir := getenv(variable)
		if !filepath.IsAbs(dir) { // relative ones are to be ignored (XDG Base Directory Specification)
			dir = filepath.Join(home, fallback)
		}
		return filepath.Join(dir, "banger")
	}
	if !filepath.IsAbs(home) && (getenv("XDG_STATE_HOME") == "" || getenv("XDG_CACHE_HOME") == "") {
		return Dirs{}, fmt.Errorf("find the home directory: HOME is %q; set HOME or BANGER_HOME", home)
	}
	d := Dirs{
		Config: base("XDG_CONFIG_HOME", ".config"),
		State:  base("XDG_STATE_HOME", ".local/state"),
		Cache:  base("XDG_CACHE_HOME", ".cache"),
	}
	d.Run = runtimeDir(getenv)
	return d, makePrivate(d.Run)
}

// runtimeDir finds a directory for sockets also where no session manager has
// set XDG_RUNTIME_DIR, as under su, cron and CI.
func runtimeDir(getenv func(string) string) string {
	for _, dir := range []string{getenv("XDG_RUNTIME_DIR"), "/run/user/" + strconv.Itoa(os.Getuid())} {
		if filepath.IsAbs(dir) && owned(dir) == nil && len(dir)+len("/banger") <= maxRun {
			return filepath.Join(dir, "banger")
		}
	}
	return temporary(strconv.Itoa(os.Getuid()))
}

func temporary(name string) string {
	dir := os.TempDir()
	if len(dir) > maxRun-len("/banger-")-len(name) {
		dir = "/tmp"
	}
	return filepath.Join(dir, "banger-"+name)
}

// makePrivate makes dir with mode 0700 and refuses one that is another's: in
// /tmp anybody could have made it first.
func makePrivate(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	return owned(dir)
}

func owned(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || int(st.Uid) != os.Getuid() || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("directory %s: want one of uid %d with mode 0700, have uid %d and %v", dir, os.Getuid(), st.Uid, info.Mode())
	}
	return nil
}

// Sync makes the names in dir durable: what was renamed into it stays renamed
// after a power cut.
func Sync(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
