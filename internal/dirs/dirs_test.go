package dirs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func env(m map[string]string) func(string) string { return func(k string) string { return m[k] } }

func TestFind(t *testing.T) {
	tmp := t.TempDir()
	run := filepath.Join(tmp, "r")
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		env  map[string]string
		want Dirs
	}{
		{"home", map[string]string{"HOME": "/home/u", "XDG_RUNTIME_DIR": run}, Dirs{
			"/home/u/.config/banger", "/home/u/.local/state/banger", "/home/u/.cache/banger", run + "/banger",
		}},
		{"xdg", map[string]string{"HOME": "/home/u", "XDG_CONFIG_HOME": "/c", "XDG_STATE_HOME": "/s", "XDG_CACHE_HOME": "/k", "XDG_RUNTIME_DIR": run}, Dirs{
			"/c/banger", "/s/banger", "/k/banger", run + "/banger",
		}},
		{"relative xdg is ignored", map[string]string{"HOME": "/home/u", "XDG_STATE_HOME": "s", "XDG_RUNTIME_DIR": run}, Dirs{
			"/home/u/.config/banger", "/home/u/.local/state/banger", "/home/u/.cache/banger", run + "/banger",
		}},
		{"banger home wins", map[string]string{"HOME": "/home/u", "XDG_STATE_HOME": "/s", "BANGER_HOME": tmp + "/b"}, Dirs{
			tmp + "/b/config", tmp + "/b/state", tmp + "/b/cache", tmp + "/b/run",
		}},
	} {
		got, err := Find(env(tt.env))
		if err != nil || got != tt.want {
			t.Errorf("%s: got %+v, %v; want %+v", tt.name, got, err, tt.want)
		}
	}
}

func TestLongHomeHasShortSockets(t *testing.T) {
	home := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	a, err := Find(env(map[string]string{"BANGER_HOME": home}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(a.Run) })
	if len(a.Run) > maxRun {
		t.Errorf("run directory %s has %d bytes, want at most %d", a.Run, len(a.Run), maxRun)
	}
	b, err := Find(env(map[string]string{"BANGER_HOME": home}))
	if err != nil || b.Run != a.Run {
		t.Errorf("the second time: got %s, %v; want %s", b.Run, err, a.Run)
	}
}

func TestForeignRunDirectoryIsRefused(t *testing.T) {
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(home, "run"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(env(map[string]string{"BANGER_HOME": home})); err == nil {
		t.Error("a run directory that others can enter was accepted")
	}
}

func TestNoHome(t *testing.T) {
	if d, err := Find(env(nil)); err == nil {
		t.Errorf("without HOME: got %+v, want an error", d)
	}
}
