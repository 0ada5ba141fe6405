package main

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"banger/internal/agent"
)

// makeRoot makes the root directory of an image: a name ending in "/" is a
// directory, a text beginning with "->" a link, one beginning with "#!" is
// executable.
func makeRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		at := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		target, link := strings.CutPrefix(text, "->")
		switch {
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(at, 0o755)
		case link:
			err = os.Symlink(target, at)
		case strings.HasPrefix(text, "#!"):
			err = os.WriteFile(at, []byte(text), 0o755)
		default:
			err = os.WriteFile(at, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestResolve(t *testing.T) {
	t.Parallel()
	chain := map[string]string{"end": "x"}
	for i := range maxLinks + 1 {
		chain["n"+string(rune('0'+i/10))+string(rune('0'+i%10))] = "->n" + string(rune('0'+(i+1)/10)) + string(rune('0'+(i+1)%10))
	}
	chain["n41"] = "x"
	root := makeRoot(t, chain)
	for name, text := range map[string]string{
		"sbin": "->usr/sbin", "usr/sbin/init": "->../../lib/systemd/systemd", "lib": "->/usr/lib",
		"usr/lib/systemd/systemd": "#!", "loop": "->loop", "up": "->../../../../etc/passwd",
		"abs": "->/etc/./x//y", "dangling": "->/run/none/file", "etc/passwd": "x",
	} {
		at := filepath.Join(root, name)
		os.MkdirAll(filepath.Dir(at), 0o755)
		if target, ok := strings.CutPrefix(text, "->"); ok {
			os.Symlink(target, at)
		} else {
			os.WriteFile(at, nil, 0o755)
		}
	}
	for name, want := range map[string]string{
		"/sbin/init":         "/usr/lib/systemd/systemd",
		"/up":                "/etc/passwd",
		"/abs":               "/etc/x/y",
		"/dangling":          "/run/none/file",
		"/":                  "/",
		"":                   "/",
		"/../../etc/passwd":  "/etc/passwd",
		"/usr/sbin/../../up": "/etc/passwd",
		"/n01":               "/n41", // 40 links
		"/n00":               "",     // 41 links
		"/loop":              "",
	} {
		got, err := resolve(root, name)
		if want == "" {
			if err == nil {
				t.Errorf("%s: got %s, want an error", name, got)
			}
		} else if err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, want)
		}
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	systemd := map[string]string{"sbin": "->usr/sbin", "lib": "->usr/lib", "usr/sbin/init": "->/lib/systemd/systemd", "usr/lib/systemd/systemd": "#!"}
	busybox := map[string]string{"sbin/init": "->/bin/busybox", "bin/busybox": "#!", "bin/sh": "->busybox"}
	s6 := map[string]string{"init": "#!/bin/execlineb"}
	sysv := map[string]string{"sbin/init": "#!", "bin/tini": "#!"}
	for _, tt := range []struct {
		name  string
		files map[string]string
		init  string
		args  []string
		want  string
		argv  []string
	}{
		{"scratch", nil, "", []string{"/app"}, "banger", nil},
		{"systemd", systemd, "", []string{"bash"}, "systemd", []string{"/sbin/init"}},
		{"systemd, forced ours", systemd, "banger", nil, "banger", nil},
		{"systemd by path", systemd, "/usr/lib/systemd/systemd", nil, "systemd", []string{"/usr/lib/systemd/systemd"}},
		{"systemd as command", systemd, "", []string{"/lib/systemd/systemd", "--log-level=info"}, "systemd", []string{"/lib/systemd/systemd", "--log-level=info"}},
		{"dangling init", map[string]string{"sbin/init": "->/lib/systemd/systemd"}, "", nil, "banger", nil},
		{"busybox has an init", busybox, "", []string{"sh"}, "banger", nil},
		{"busybox init as command", busybox, "", []string{"/sbin/init"}, "/sbin/init", []string{"/sbin/init"}},
		{"busybox init by path", busybox, "/sbin/init", nil, "/sbin/init", []string{"/sbin/init"}},
		{"s6-overlay", s6, "", []string{"/init", "serve"}, "/init", []string{"/init", "serve"}},
		{"an init that is not there", busybox, "", []string{"/init"}, "banger", nil},
		{"sysv init is not used", sysv, "", []string{"/bin/tini", "--", "x"}, "banger", nil},
		{"init by path that is not there", busybox, "/no/init", nil, "", nil},
		{"init by path that is no program", map[string]string{"etc/passwd": "x"}, "/etc/passwd", nil, "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := choose(makeRoot(t, tt.files), agent.Config{Init: tt.init, Process: agent.Process{Args: tt.args, Env: []string{"container=docker"}}})
			if tt.want == "" {
				if err == nil {
					t.Fatalf("got %+v, want an error", got)
				}
				return
			}
			if err != nil || got.name != tt.want || !slices.Equal(got.args, tt.argv) {
				t.Fatalf("got %+v, %v, want %s with %q", got, err, tt.want, tt.argv)
			}
			if has := slices.Contains(got.env, "container=docker"); has != (got.name[0] == '/') {
				t.Errorf("environment of %s: got %q", got.name, got.env)
			}
		})
	}
}

func TestLookupUser(t *testing.T) {
	t.Parallel()
	root := makeRoot(t, map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\njoe:x:1000:100:Joe:/home/joe:/bin/sh\n\nbroken:x:y:z::/:\n7:x:70:71::/seven:\nnohome:x:9:9:::\n",
		"etc/group":  "root:x:0:root\nusers:x:100:\ndisk:x:6:ann,joe\nwheel:x:10:joe\nbad:x:y:joe\n",
	})
	for spec, want := range map[string]user{
		"":           {0, 0, []uint32{0}, "/root"},
		"root":       {0, 0, []uint32{0}, "/root"},
		"joe":        {1000, 100, []uint32{6, 10, 100}, "/home/joe"},
		"1000":       {1000, 100, []uint32{6, 10, 100}, "/home/joe"},
		"joe:":       {1000, 100, []uint32{6, 10, 100}, "/home/joe"},
		"joe:disk":   {1000, 6, []uint32{6}, "/home/joe"},
		"joe:12345":  {1000, 12345, []uint32{12345}, "/home/joe"},
		"4242":       {4242, 0, []uint32{0}, "/"},
		"4242:users": {4242, 100, []uint32{100}, "/"},
		":disk":      {0, 6, []uint32{6}, "/root"},
		"7":          {70, 71, []uint32{71}, "/seven"}, // a name made of a digit
		"nohome":     {9, 9, []uint32{9}, "/"},
	} {
		if got, err := lookupUser(root, spec); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, %v, want %+v", spec, got, err, want)
		}
	}
	for _, spec := range []string{"nobody", "joe:nogroup", "broken", "-1", "4294967296"} {
		if got, err := lookupUser(root, spec); err == nil {
			t.Errorf("%q: got %+v, want an error", spec, got)
		}
	}
	if got, err := lookupUser(t.TempDir(), "12:34"); err != nil || got.uid != 12 || got.gid != 34 {
		t.Errorf("without /etc/passwd: got %+v, %v", got, err)
	}
}

func TestMergeEnv(t *testing.T) {
	t.Parallel()
	got := mergeEnv([]string{"PATH=/bin", "A=1"}, []string{"B=2", "A=3"}, []string{"PATH=/x=y"})
	if want := []string{"PATH=/x=y", "A=3", "B=2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWriteIdentity(t *testing.T) {
	t.Parallel()
	cfg := agent.Config{
		Hostname: "dev", MachineID: "0123456789abcdef0123456789abcdef",
		Network: &agent.Network{Address: "10.0.2.15/24", Gateway: "10.0.2.2", DNS: []string{"10.0.2.3", "fd00::3"}},
	}
	dns := mark + "nameserver 10.0.2.3\nnameserver fd00::3\n"
	names := mark + "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.2.15\tdev\n"
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  map[string]string
	}{
		{"nothing there", nil, map[string]string{"etc/hostname": "dev\n", "etc/hosts": names, "etc/machine-id": cfg.MachineID + "\n", "etc/resolv.conf": dns}},
		{
			"empty",
			map[string]string{"etc/machine-id": "uninitialized\n", "etc/resolv.conf": "\n", "etc/hosts": mark + "old", "etc/hostname": ""},
			map[string]string{"etc/hostname": "dev\n", "etc/hosts": names, "etc/machine-id": cfg.MachineID + "\n", "etc/resolv.conf": dns},
		},
		{
			"its own",
			map[string]string{"etc/machine-id": "ffff\n", "etc/resolv.conf": "nameserver 1.1.1.1\n", "etc/hosts": "127.0.0.1 x\n", "etc/hostname": "own\n"},
			map[string]string{"etc/machine-id": "ffff\n", "etc/resolv.conf": "nameserver 1.1.1.1\n", "etc/hosts": "127.0.0.1 x\n", "etc/hostname": "own\n"},
		},
		{
			"link that leads nowhere",
			map[string]string{"etc/resolv.conf": "->/run/systemd/resolve/stub-resolv.conf"},
			map[string]string{"run/systemd/resolve/stub-resolv.conf": dns},
		},
		{"no server", map[string]string{"etc/ssh/sshd_config": "x"}, map[string]string{"etc/ssh/ssh_host_ed25519_key": ""}},
		{
			"a key of its own",
			map[string]string{"usr/sbin/sshd": "#!", "etc/ssh/ssh_host_rsa_key": "own"},
			map[string]string{"etc/ssh/ssh_host_rsa_key": "own", "etc/ssh/ssh_host_ed25519_key": ""},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := makeRoot(t, tt.files)
			for range 2 { // the second boot changes nothing
				for _, err := range writeIdentity(root, cfg) {
					t.Error(err)
				}
				for name, want := range tt.want {
					got, err := os.ReadFile(filepath.Join(root, name))
					if want == "" && !os.IsNotExist(err) {
						t.Errorf("%s is there", name)
					} else if string(got) != want {
						t.Errorf("%s: got %q, want %q", name, got, want)
					}
				}
			}
		})
	}
}

func TestPhases(t *testing.T) {
	t.Parallel()
	p := &phases{list: []agent.Phase{{Name: phaseInit, At: 912340 * time.Microsecond}, {Name: phaseRoot, At: 1250 * time.Millisecond}}}
	file := filepath.Join(t.TempDir(), "boot")
	if err := p.write(file); err != nil {
		t.Fatal(err)
	}
	q := readPhases(file)
	if !slices.Equal(p.list, q.list) {
		t.Errorf("got %v, want %v", q.list, p.list)
	}
	q.mark(phaseRoot)
	q.mark(phaseAgent)
	if got := q.all(); len(got) != 3 || got[1] != p.list[1] || got[2].Name != phaseAgent || got[2].At <= 0 {
		t.Errorf("after marks: got %v", got)
	}
}

func TestExtent(t *testing.T) {
	t.Parallel()
	super := make([]byte, 1024)
	super[0x4], super[0x150], super[0x18] = 9, 1, 2
	if blocks, size := extent(super); blocks != 9 || size != 4096 {
		t.Errorf("32 bit: got %d blocks of %d bytes", blocks, size)
	}
	super[0x60] = 0x80
	if blocks, _ := extent(super); blocks != 1<<32+9 {
		t.Errorf("64 bit: got %d blocks", blocks)
	}
}

func TestMountUnit(t *testing.T) {
	t.Parallel()
	got := mountUnit("/usr/lib/modules/6.1.0-56-cloud-amd64")
	if want := `usr-lib-modules-6.1.0\x2d56\x2dcloud\x2damd64.mount`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestStopSignal(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]syscall.Signal{
		"": syscall.SIGTERM, "SIGQUIT": syscall.SIGQUIT, "int": syscall.SIGINT, "37": 37, "nonsense": syscall.SIGTERM, "900": syscall.SIGTERM,
	} {
		if got := stopSignal(name); got != want {
			t.Errorf("%q: got %v, want %v", name, got, want)
		}
	}
}

func TestLeaveStaysInRun(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"/etc/passwd", "/run/../etc/passwd", "run/x", "/runaway"} {
		if err := leave(agent.File{Path: name}); err == nil {
			t.Errorf("%s was written", name)
		}
	}
}
