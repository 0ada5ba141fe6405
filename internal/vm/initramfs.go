package vm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"banger/ext4"
	"banger/internal/guest"
)

// buildInitramfs writes the initramfs of one start. It is made anew each time, so
// that the agent in it is always that of this build, and the clock right.
func buildInitramfs(w io.Writer, s spec) (err error) {
	init, err := guest.Agent()
	if err != nil {
		return err
	}
	g := guest.Spec{Config: s.Config, Agent: init, UserInitrd: s.Initrd}
	g.Config.Time = time.Now()
	if g.Config.Runtime, err = guest.Runtime(); err != nil {
		return err
	}
	if s.Modules != "" {
		f, err := os.Open(s.Modules)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		modules, err := ext4.Open(f)
		if err != nil {
			return fmt.Errorf("open %s: %w", s.Modules, err)
		}
		g.Modules = modules
	}
	return guest.Initramfs(w, g)
}
