// Package guest is what banger adds to a guest: the files that go into an
// image ([Files]), the units and masks of one boot ([Runtime]), the initramfs
// that boots it ([Initramfs]), and the agent, a program embedded here ([Agent]).
// Each text exists once, in the directory files.
package guest

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"banger/internal/agent"
	"banger/internal/api"
)

// Where the agent is: in a converted image, and in /run of every guest whose
// image brings an init.
const (
	agentPath        = "/usr/local/bin/banger-vsock-agent"
	agentRuntimePath = "/run/banger/banger-vsock-agent"
)

const (
	bootstrapPath = "/usr/local/libexec/banger-network-bootstrap"
	unitDir       = "/etc/systemd/system"
	runtimeDir    = "/run/systemd/system"
	agentUnit     = "banger-vsock-agent.service"
	networkUnit   = "banger-network.service"
	wants         = "multi-user.target.wants"
)

//go:embed files
var files embed.FS

// embedded holds the agent when there is one: a clean checkout has only the
// README beside it.
//
//go:embed embed
var embedded embed.FS

// Agent returns the guest agent's program.
func Agent() ([]byte, error) {
	program, err := embedded.ReadFile("embed/banger-vsock-agent")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, api.Hint(errors.New("this build of banger has no guest agent in it"), "run `make build`")
	}
	return program, err
}

// Files returns what goes into every converted image, all owned by root.
func Files() ([]agent.File, error) {
	program, err := Agent()
	if err != nil {
		return nil, err
	}
	list := []agent.File{{Path: agentPath, Mode: 0o755, Content: program}}
	for _, f := range []agent.File{
		{Path: bootstrapPath, Mode: 0o755},
		{Path: unitDir + "/" + networkUnit, Mode: 0o644},
		{Path: unitDir + "/" + agentUnit, Mode: 0o644},
		{Path: "/etc/modules-load.d/banger-vsock.conf", Mode: 0o644},
	} {
		if f.Content, err = text(f.Path); err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	for _, unit := range []string{networkUnit, agentUnit} {
		list = append(list, agent.File{Path: unitDir + "/" + wants + "/" + unit, Link: "../" + unit})
	}
	return list, nil
}

// Runtime returns what a boot puts below /run for systemd: the agent's unit,
// for disks that have none, and what keeps systemd from waiting. Units in the
// image's /etc win over these.
func Runtime() ([]agent.File, error) {
	unit, err := text(agentUnit)
	if err != nil {
		return nil, err
	}
	list := []agent.File{
		{
			Path: runtimeDir + "/" + agentUnit, Mode: 0o644,
			Content: []byte(strings.Replace(string(unit), agentPath, agentRuntimePath, 1)),
		},
		{Path: runtimeDir + "/" + wants + "/" + agentUnit, Link: "../" + agentUnit},
	}
	for _, unit := range []string{
		// The console is a log here. Where the image has no udev, its device unit
		// never comes up, and the login prompt on it waits 90 s for that. Prompts
		// on virtual terminals are seen by nobody.
		"getty.target", "serial-getty@ttyS0.service", "serial-getty@ttyAMA0.service",
		// The network is up before systemd starts, and by none of its managers:
		// these would wait for them in vain, for up to 120 s.
		"systemd-networkd-wait-online.service", "NetworkManager-wait-online.service",
		// It looks for snapshots of LVM at each boot, for two seconds when emulated.
		"e2scrub_reap.service",
	} {
		list = append(list, agent.File{Path: runtimeDir + "/" + unit, Link: "/dev/null"})
	}
	for _, d := range []struct{ unit, text string }{
		// After a power off without ACPI the VMM runs on with a halted machine; a
		// reboot ends it.
		{"systemd-poweroff.service", "[Unit]\nSuccessAction=reboot-force\n"},
		{"systemd-halt.service", "[Unit]\nSuccessAction=reboot-force\n"},
		// The modules are there even if the image has nothing to load them with.
		{"kmod-static-nodes.service", "[Unit]\nConditionPathExists=|/bin/kmod\nConditionPathExists=|/usr/bin/kmod\n"},
	} {
		list = append(list, agent.File{Path: runtimeDir + "/" + d.unit + ".d/banger.conf", Mode: 0o644, Content: []byte(d.text)})
	}
	return list, nil
}

// text is the file of this name in the directory files.
func text(name string) ([]byte, error) {
	b, err := files.ReadFile("files/" + name[strings.LastIndexByte(name, '/')+1:])
	if err != nil {
		return nil, fmt.Errorf("guest file %s: %w", name, err)
	}
	return b, nil
}
