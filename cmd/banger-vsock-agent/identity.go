package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"

	"banger/internal/agent"
)

// mark heads the files that are written anew at every boot, because they depend
// on where the machine runs.
const mark = "# Written by banger at every boot. Without this line the file is left alone.\n"

// writeIdentity gives the machine its own name, IDs and keys in the image at
// root, where the image has none.
func writeIdentity(root string, cfg agent.Config) []error {
	var errs []error
	write := func(name, content string, mode os.FileMode, ours func(old string) bool) {
		if err := writeUnlessTheirs(root, name, content, mode, ours); err != nil {
			errs = append(errs, fmt.Errorf("write %s: %w", name, err))
		}
	}
	marked := func(old string) bool { return strings.TrimSpace(old) == "" || strings.HasPrefix(old, mark) }
	unset := func(old string) bool {
		id := strings.TrimSpace(old)
		return id == "" || id == "uninitialized" // machine-id(5)
	}

	if cfg.Hostname != "" {
		write("/etc/hostname", cfg.Hostname+"\n", 0o644, unset)
		write("/etc/hosts", hosts(cfg), 0o644, marked)
	}
	if cfg.MachineID != "" {
		// A systemd without one takes this for the first boot of an installation
		// and undoes the image's choice of services.
		write("/etc/machine-id", cfg.MachineID+"\n", 0o444, unset)
	}
	if cfg.Network != nil && len(cfg.Network.DNS) > 0 {
		write("/etc/resolv.conf", mark+nameservers(cfg.Network.DNS), 0o644, marked)
	}
	if err := writeHostKey(root, cfg.Hostname); err != nil {
		errs = append(errs, fmt.Errorf("write SSH host key: %w", err))
	}
	return errs
}

func hosts(cfg agent.Config) string {
	own := "127.0.1.1"
	if cfg.Network != nil {
		if ip, _, err := net.ParseCIDR(cfg.Network.Address); err == nil {
			own = ip.String()
		}
	}
	return mark + "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" + own + "\t" + cfg.Hostname + "\n"
}

func nameservers(dns []string) string {
	var b strings.Builder
	for _, server := range dns {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	return b.String()
}

// writeUnlessTheirs writes a file that is not there, or whose content is ours
// to replace. A link that leads nowhere is followed: systemd-resolved and the
// like fill in its target later, when they run.
func writeUnlessTheirs(root, name, content string, mode os.FileMode, ours func(old string) bool) error {
	at, err := inside(root, name)
	if err != nil {
		return err
	}
	old, err := os.ReadFile(at)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	if err == nil && (!ours(string(old)) || string(old) == content) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	return os.WriteFile(at, []byte(content), mode)
}

// writeHostKey makes a key for an image that has an SSH server and no host key:
// sshd would refuse to start, and a key inside an image is no secret.
func writeHostKey(root, hostname string) error {
	dir, err := inside(root, "/etc/ssh")
	if err != nil {
		return err
	}
	keys, err := filepath.Glob(filepath.Join(dir, "ssh_host_*_key"))
	if err != nil || len(keys) > 0 || executable(root, "/usr/sbin/sshd") != nil {
		return err
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(private, "root@"+hostname)
	if err != nil {
		return err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	file := filepath.Join(dir, "ssh_host_ed25519_key")
	line := append(bytes.TrimSpace(ssh.MarshalAuthorizedKey(key)), " root@"+hostname+"\n"...)
	if err := os.WriteFile(file+".pub", line, 0o644); err != nil {
		return err
	}
	return os.WriteFile(file, pem.EncodeToMemory(block), 0o600)
}
