package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"banger/internal/agent"
)

// installedAgent is where an image that we converted has its agent.
const installedAgent = "/usr/local/bin/banger-vsock-agent"

// handedOver is what the boot leaves to the service beside the configuration.
type handedOver struct {
	record  *phases
	self    *os.File // the agent's program
	modules string   // where the kernel's modules are mounted, or ""
}

// handOff makes next PID 1. It returns only with an error.
func handOff(cfg agent.Config, next pid1, over handedOver) error {
	if over.modules != "" {
		// It is read-only and stays to the end: without this, systemd would try to
		// unmount it at shutdown, while its own udev holds it.
		cfg.Runtime = append(cfg.Runtime, agent.File{
			Path: "/run/systemd/system/" + mountUnit(over.modules) + ".d/banger.conf", Mode: 0o644,
			Content: []byte("[Unit]\nDefaultDependencies=no\n"),
		})
	}
	if err := leaveRuntime(cfg, next, over.self); err != nil {
		return err
	}
	over.record.mark(phaseHandoff)
	if err := over.record.write(phasesPath); err != nil {
		return err
	}
	if next.name != initSystemd {
		// Nothing in the image starts our service, so it starts as a child that
		// the image's init does not know. It must be in the new root by then: one
		// from the initramfs would keep that alive.
		attr := &syscall.ProcAttr{Dir: "/", Env: []string{defaultPath}, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true}}
		if _, err := syscall.ForkExec(selfPath, []string{selfPath}, attr); err != nil {
			return fmt.Errorf("start the agent: %w", err)
		}
	}
	err := syscall.Exec(next.args[0], next.args, next.env)
	if errors.Is(err, syscall.ENOENT) {
		err = errors.New("the interpreter or loader it asks for is not in the image")
	}
	return fmt.Errorf("run %s: %w", next.args[0], err)
}

// leaveRuntime leaves in /run what the agent's service needs: this boot's
// agent, its configuration, and the units and masks that come with it.
func leaveRuntime(cfg agent.Config, next pid1, self *os.File) error {
	files := cfg.Runtime
	if cfg.Network != nil && len(cfg.Network.DNS) > 0 {
		files = append(files, agent.File{
			Path: "/run/systemd/resolved.conf.d/banger.conf", Mode: 0o644,
			Content: []byte("[Resolve]\nDNS=" + strings.Join(cfg.Network.DNS, " ") + "\n"),
		})
	}
	cfg.Runtime, cfg.Modules = nil, nil
	text, err := json.Marshal(cfg)
	if err != nil {
		return fmt.Errorf("leave configuration: %w", err)
	}
	files = append(files,
		agent.File{Path: configPath, Mode: 0o600, Content: text},
		agent.File{Path: initPath, Mode: 0o644, Content: []byte(next.name)},
	)
	for _, f := range files {
		if err := leave(f); err != nil {
			return fmt.Errorf("leave %s: %w", f.Path, err)
		}
	}
	if err := copyTo(selfPath, self); err != nil {
		return fmt.Errorf("leave the agent: %w", err)
	}
	return replaceInstalled()
}

// mountUnit is what systemd calls a mount point; systemd.unit(5), "string
// escaping".
func mountUnit(dir string) string {
	var b strings.Builder
	for i, c := range []byte(strings.Trim(dir, "/")) {
		switch {
		case c == '/':
			b.WriteByte('-')
		case c == '_', c == ':', c == '.' && i > 0, c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String() + ".mount"
}

// leave makes one file below /run, which is ours and new.
func leave(f agent.File) error {
	if !strings.HasPrefix(path.Clean(f.Path), "/run/") {
		return errors.New("not below /run")
	}
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
		return err
	}
	if f.Link != "" {
		return os.Symlink(f.Link, f.Path)
	}
	return os.WriteFile(f.Path, f.Content, os.FileMode(f.Mode).Perm())
}

func copyTo(name string, from io.Reader) error {
	to, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}

// replaceInstalled puts this boot's agent over the one in the image, which may
// be from another build: the unit in the image's /etc wins over ours in /run.
func replaceInstalled() error {
	info, err := os.Stat(installedAgent)
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	if err := unix.Mount(selfPath, installedAgent, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("replace %s: %w", installedAgent, err)
	}
	return nil
}
