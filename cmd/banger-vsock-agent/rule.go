package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"

	"banger/internal/agent"
)

// What a guest's PID 1 is, when it is no path.
const (
	initBanger  = "banger"
	initSystemd = "systemd"
)

// pid1 is what becomes PID 1. Args is empty for ourselves.
type pid1 struct {
	name string // initBanger, initSystemd or a path: agent.Info.Init
	args []string
	env  []string
}

// choose decides what becomes PID 1 of the image in root.
//
// An image's /sbin/init is used only when it is systemd: busybox has one in
// every image, and it neither knows ENTRYPOINT nor starts anything. An image
// whose command is an init by path says so itself, and gets its arguments and
// environment; /init is that of s6-overlay, which must be PID 1.
func choose(root string, cfg agent.Config) (pid1, error) {
	switch name := cfg.Init; {
	case name == initBanger:
		return pid1{name: initBanger}, nil
	case name != "":
		if err := executable(root, name); err != nil {
			return pid1{}, fmt.Errorf("use %s as init: %w", name, err)
		}
		return imageInit(root, []string{name}, cfg), nil
	}
	if args := cfg.Process.Args; len(args) > 0 && path.IsAbs(args[0]) && executable(root, args[0]) == nil {
		if slices.Contains(initPaths(), args[0]) || isSystemd(root, args[0]) {
			return imageInit(root, args, cfg), nil
		}
	}
	if isSystemd(root, "/sbin/init") {
		return imageInit(root, []string{"/sbin/init"}, cfg), nil
	}
	return pid1{name: initBanger}, nil
}

func initPaths() []string {
	return []string{"/sbin/init", "/usr/sbin/init", "/bin/init", "/usr/bin/init", "/init"}
}

// imageInit is args as PID 1. systemd gets nothing of the image's environment:
// images made for it set container=docker, and that would make it believe it.
func imageInit(root string, args []string, cfg agent.Config) pid1 {
	if isSystemd(root, args[0]) {
		return pid1{initSystemd, args, []string{defaultPath, "HOME=/", "TERM=linux"}}
	}
	return pid1{args[0], args, mergeEnv([]string{defaultPath, "HOME=/root", "TERM=linux"}, cfg.Process.Env)}
}

// isSystemd reports whether name is a program called systemd when its links are
// followed.
func isSystemd(root, name string) bool {
	at, err := resolve(root, name)
	return err == nil && path.Base(at) == "systemd" && executable(root, at) == nil
}

// executable returns an error unless name is a file in root that can be run.
func executable(root, name string) error {
	at, err := inside(root, name)
	if err != nil {
		return err
	}
	info, err := os.Stat(at)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("no such file in the image")
	case err != nil:
		return err
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
		return errors.New("not an executable file")
	}
	return nil
}
