package main

import (
	"os"
	"os/exec"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// The scripts run the test binary as banger.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"banger": main})
}

// TestScripts runs testdata/script/*.txtar, each with a BANGER_HOME and a daemon
// of its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			home, err := os.MkdirTemp("", "banger-script-") // short: sockets are below it
			if err != nil {
				return err
			}
			env.Setenv("BANGER_HOME", home)
			env.Defer(func() {
				stop := exec.Command("banger", "daemon", "stop")
				stop.Env = env.Vars
				if out, err := stop.CombinedOutput(); err != nil {
					t.Errorf("banger daemon stop: %v\n%s", err, out)
				}
				if err := os.RemoveAll(home); err != nil {
					t.Error(err)
				}
			})
			return nil
		},
	})
}
