package compare_test

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"banger/internal/compare"
)

func need(t *testing.T, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err == nil {
		return
	}
	required := strings.Split(os.Getenv("BANGER_REQUIRE"), ",")
	if slices.Contains(required, tool) || slices.Contains(required, "all") {
		t.Fatalf("%s is missing and required", tool)
	}
	t.Skipf("%s is missing", tool)
}

// debugfs runs commands of debugfs(8) on a disk and returns what they print.
func debugfs(t *testing.T, disk, commands string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "debugfs", "-w", "-f", "-", disk)
	cmd.Stdin = strings.NewReader(commands + "\n")
	var said, failed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &failed
	if err := cmd.Run(); err != nil || strings.Count(failed.String(), "\n") > 1 { // its version
		t.Fatalf("debugfs: %v\n%s\n%s%s", err, commands, said.String(), failed.String())
	}
	return said.String()
}

// TestDamage changes a disk in one attribute after the other: each is found, and
// nothing else is.
func TestDamage(t *testing.T) {
	t.Parallel()
	need(t, "debugfs")
	whole, err := build(t, pure, archive(t, []entry{
		dir("d"), file("d/f", "content"), link("d/g", "d/f"), file("one", strings.Repeat("x", 10_000)).xattr("user.a", "1"), file("two", strings.Repeat("x", 10_000)),
		symlink("s", "target"), device(tar.TypeChar, "c", 1, 3), newEntry(tar.TypeFifo, "p", 0o600), dir("d/sub"),
		file("acl", "").xattr("system.posix_acl_access", acl), newEntry(tar.TypeDir, "./", 0o755).xattr("user.root", "1"),
	}))
	if err != nil {
		t.Fatal(err)
	}
	if got := whole.differences(t); got != nil {
		t.Fatalf("whole: %q", got)
	}
	disk, err := os.ReadFile(whole.path)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, commands, want string }{
		{"mode", "sif /d/f mode 0104644", "/d/f mode: want 0644, got 4644\n/d/g mode: want 0644, got 4644"},
		{"uid", "sif /one uid 5", "/one owner: want 0:0, got 5:0"},
		{"gid beyond 16 bits", "sif /one gid 65536", "/one owner: want 0:0, got 0:65536"},
		{"mtime", "sif /d mtime @1", "/d mtime: want 2023-11-14T22:13:20.000000005Z, got 1970-01-01T00:00:01.000000005Z"},
		{"nanosecond", "sif /d mtime_extra 24", "/d mtime: want 2023-11-14T22:13:20.000000005Z, got 2023-11-14T22:13:20.000000006Z"},
		{"device", "sif /c block[0] 0x105", "/c device: want 1:3, got 1:5"},
		{"target", "sif /s block[0] 0x67726175", "/s target: want target, got uarget"},
		{"size", "sif /one size 9999", "/one size: want 10000, got 9999"},
		{"attribute", "ea_set /one user.a 2", `/one xattr user.a: want "1", got "2"`},
		{"attribute gone", "ea_rm /one user.a", `/one xattr user.a: want "1", got none`},
		{"attribute more", "ea_set /one user.b 2", `/one xattr user.b: want none, got "2"`},
		{"attribute of the root", "ea_rm / user.root", `/ xattr user.root: want "1", got none`},
		{"acl", "ea_rm /acl system.posix_acl_access", `/acl xattr system.posix_acl_access: want "group::r--,mask::rw-,other::r--,user:1000:rw-,user::rw-", got none`},
		{"type", "sif /p mode 0140600", "/p type: want fifo, got socket"},
		{"nlink", "sif /one links_count 2", "/one nlink: want 1, got 2"},
		{"nlink of a directory", "sif /d links_count 2", "/d nlink: want 3, got 2"},
		{"missing", "rm /two", "/two missing: want file, got "},
		{"missing directory", "rmdir /d/sub\nsif /d links_count 2", "/d/sub missing: want directory, got "},
		{"extra", "mkdir /more", "/more extra: want , got directory"},
		{"extra in lost+found", "mkdir /lost+found/more", "/lost+found extra: want , got directory\n/lost+found/more extra: want , got directory"},
		{"link gone", "unlink /d/g\nsif /d/f links_count 1", "/d/f links: want /d/f /d/g, got /d/f\n/d/g missing: want file, got "},
		{"link more", "ln /one /three\nsif /one links_count 2", "/one links: want /one, got /one /three\n/three extra: want , got file"},
		{"link to another", "unlink /two\nln /one /two\nsif /one links_count 2", "/one links: want /one, got /one /two\n/two xattr user.a: want none, got \"1\"\n/two links: want /two, got /one /two"},
		{"root", "sif / mode 040700\nsif / uid 7\nsif / mtime @1", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			damaged := built{path: filepath.Join(t.TempDir(), "disk.ext4"), made: whole.made}
			if err := os.WriteFile(damaged.path, disk, 0o600); err != nil {
				t.Fatal(err)
			}
			debugfs(t, damaged.path, tt.commands)
			if got := strings.Join(damaged.differences(t), "\n"); got != tt.want {
				t.Errorf("got\n%s, want\n%s", got, tt.want)
			}
			if tt.name == "root" || strings.Contains(tt.name, "nlink") {
				return
			}
			// Held against the disk as it was, it shows the same.
			r, err := compare.Disks(t.Context(), open(t, whole.path), open(t, damaged.path), nil)
			if got := strings.Join(lines(r.Differences), "\n"); err != nil || !strings.HasSuffix(got, tt.want) && !strings.Contains(tt.name, "lost+found") {
				t.Errorf("Disks: got %v\n%s, want\n%s", err, got, tt.want)
			}
		})
	}

	t.Run("content", func(t *testing.T) {
		t.Parallel()
		said := strings.Fields(debugfs(t, whole.path, "blocks /one"))
		block, err := strconv.ParseInt(said[len(said)-2], 10, 64) // its last but one, before the prompt
		if err != nil {
			t.Fatalf("blocks: %q", said)
		}
		changed := bytes.Clone(disk)
		changed[block*4096+100]++
		damaged := built{path: filepath.Join(t.TempDir(), "disk.ext4"), made: whole.made}
		if err := os.WriteFile(damaged.path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		got := strings.Join(damaged.differences(t), "\n")
		if !strings.HasPrefix(got, "/one content: want , got another byte at ") || strings.Contains(got, "\n") {
			t.Errorf("got\n%s", got)
		}
		// Two disks: a write leaves its time on the inode.
		for _, commands := range []string{"sif /one ctime_extra 24", "sif /one ctime @1", "sif /one generation 1"} {
			debugfs(t, damaged.path, commands)
			r, err := compare.Disks(t.Context(), open(t, whole.path), open(t, damaged.path), nil)
			if err != nil || strings.Join(lines(r.Differences), "\n") != got {
				t.Errorf("Disks after %s: got %v\n%q, want\n%s", commands, err, lines(r.Differences), got)
			}
			debugfs(t, damaged.path, "sif /one ctime_extra 20\nsif /one ctime @1700000000\nsif /one generation 0")
		}
	})
}
