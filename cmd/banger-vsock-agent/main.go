// Command banger-vsock-agent is banger inside a guest. What it does depends on
// how it is started:
//
//   - As PID 1 it is the /init of the initramfs: it makes the machine ready and
//     then either hands over to the init of the image or stays PID 1.
//   - As "banger-vsock-agent" it is a service under an init of the image and
//     answers the host.
//   - As "banger-vsock-agent network" it brings the network up, if nobody has.
//
// It is one static program and needs nothing of the image it finds itself in.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"banger/internal/agent"
)

// Where a boot leaves what the agent and people want to know of it.
const (
	runDir     = "/run/banger"
	selfPath   = runDir + "/banger-vsock-agent"
	configPath = runDir + "/config.json" // root only: the environment may hold secrets
	phasesPath = runDir + "/boot"
	initPath   = runDir + "/init" // agent.Info.Init
)

func main() {
	if os.Getpid() == 1 {
		if err := boot(); err != nil {
			warn("init: %v", err)
			restart()
		}
		return
	}
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	var err error
	switch {
	case len(args) == 0:
		err = serve()
	case len(args) == 1 && args[0] == "network":
		err = network()
	default:
		fmt.Fprintln(os.Stderr, "usage: banger-vsock-agent [network]")
		return 2
	}
	if err != nil {
		warn("%v", err)
		return 1
	}
	return 0
}

// warn says what went wrong, on the console or in the journal. Nobody hears a
// word when all is well.
func warn(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "banger: "+format+"\n", args...)
}

// serve is the service under an init of the image.
func serve() error {
	cfg, err := readConfig(configPath)
	if err != nil {
		return err
	}
	device, err := findPort()
	if err != nil {
		return err
	}
	name, err := os.ReadFile(initPath)
	if err != nil {
		return fmt.Errorf("read the name of PID 1: %w", err)
	}
	collector, stop := newChildren()
	defer stop()
	g := &guest{cfg: cfg, init: string(name), phases: readPhases(phasesPath), children: collector}
	g.powerOff = g.askInit
	servePort(&agent.Server{Handler: g}, device, g.ready)
	return nil
}

// network is for banger-network-bootstrap: it repeats what init has done.
func network() error {
	cfg, err := readConfig(configPath)
	if os.IsNotExist(err) {
		return setNetwork(nil) // not started by us: there is no address to set
	}
	if err != nil {
		return err
	}
	return setNetwork(cfg.Network)
}

func readConfig(file string) (agent.Config, error) {
	var cfg agent.Config
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &cfg)
	}
	if err != nil {
		return cfg, fmt.Errorf("read configuration %s: %w", filepath.Base(file), err)
	}
	return cfg, nil
}
