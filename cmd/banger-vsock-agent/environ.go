package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// defaultPath is what a command without a PATH gets, as from container engines.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Exit statuses of a command that never ran, as shells have them.
const (
	exitCannotRun = 126
	exitNotFound  = 127
)

// mergeEnv joins lists of KEY=value; the last value of a key counts, in the
// place of the first.
func mergeEnv(lists ...[]string) []string {
	var merged []string
	at := map[string]int{}
	for _, list := range lists {
		for _, entry := range list {
			key, _, _ := strings.Cut(entry, "=")
			if i, ok := at[key]; ok {
				merged[i] = entry
				continue
			}
			at[key] = len(merged)
			merged = append(merged, entry)
		}
	}
	return merged
}

func getenv(env []string, key string) string {
	for _, entry := range env {
		if k, v, _ := strings.Cut(entry, "="); k == key {
			return v
		}
	}
	return ""
}

// notRun is why a command could not be started.
type notRun struct {
	code   int
	reason string
}

// find returns the file that name means to a command in dir with this PATH.
func find(name, dir, path string) (string, *notRun) {
	if strings.Contains(name, "/") {
		at := name
		if !filepath.IsAbs(at) {
			at = filepath.Join(dir, at)
		}
		return at, runnable(name, at)
	}
	var denied *notRun
	for _, d := range filepath.SplitList(path) {
		at := filepath.Join(d, name)
		if !filepath.IsAbs(at) {
			at = filepath.Join(dir, at)
		}
		err := runnable(name, at)
		if err == nil {
			return at, nil
		}
		if err.code == exitCannotRun && denied == nil {
			denied = err
		}
	}
	if denied != nil {
		return "", denied
	}
	return "", &notRun{exitNotFound, fmt.Sprintf("%s: not found in PATH", name)}
}

// runnable is a first look, for a message that names the cause; the kernel has
// the last word.
func runnable(name, at string) *notRun {
	info, err := os.Stat(at)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		return &notRun{exitNotFound, fmt.Sprintf("%s: no such file", name)}
	case err != nil:
		return &notRun{exitCannotRun, fmt.Sprintf("%s: %v", name, errors.Unwrap(err))}
	case info.IsDir():
		return &notRun{exitCannotRun, fmt.Sprintf("%s: is a directory", name)}
	case info.Mode().Perm()&0o111 == 0:
		return &notRun{exitCannotRun, fmt.Sprintf("%s: permission denied", name)}
	}
	return nil
}

// startError explains what the kernel said to a file that runnable let pass.
func startError(name string, err error) *notRun {
	switch {
	case errors.Is(err, syscall.ENOENT):
		return &notRun{exitNotFound, fmt.Sprintf("%s: the interpreter or loader it asks for is not there", name)}
	case errors.Is(err, syscall.ENOEXEC):
		return &notRun{exitCannotRun, fmt.Sprintf("%s: neither a program for this machine nor a script with a #! line", name)}
	}
	return &notRun{exitCannotRun, fmt.Sprintf("%s: %v", name, err)}
}
