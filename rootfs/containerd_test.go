package rootfs

import (
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/archive/tartest"
)

// TestContainerd has the layers of containerd's TestBreakouts, TestApplyTar and
// TestTarWithXattr, made by containerd's own writers: each must give what
// containerd's test wants, here as a whole tree.
func TestContainerd(t *testing.T) {
	t.Parallel()
	tc := tartest.TarContext{}.WithModTime(time.Unix(0, 0))
	all := tartest.TarAll
	file := func(name, body string) tartest.WriterToTar { return tc.File(name, []byte(body), 0o644) }
	dir := func(name string) tartest.WriterToTar { return tc.Dir(name, 0o755) }
	withXattr := func(name, value string) tartest.TarContext {
		return tc.WithXattrs(map[string]string{name: value})
	}
	etc := all(dir("etc"), file("/etc/passwd", "inside"))
	const unbroken = `etc/ 755
		etc/unbroken 644 "unbroken"
		`
	// containerd writes the header of a link with mode 0777, which is the inode's then.
	const linked = `etc/ 755
		etc/passwd 777 "inside" links=2
		`
	for _, test := range []struct {
		name         string
		lower, layer tartest.WriterToTar
		want         string // or "error: " and a part of it
	}{
		{"SymlinkAbsolute", nil, all(dir("etc"), tc.Symlink("/etc", "localetc"), file("/localetc/unbroken", "unbroken")), unbroken + "localetc -> /etc"},
		{"SymlinkUpAndOut", nil, all(dir("etc"), dir("dummy"), tc.Symlink("/dummy/../etc", "localetc"), file("/localetc/unbroken", "unbroken")), "dummy/ 755\n" + unbroken + "localetc -> /dummy/../etc"},
		{"SymlinkMultipleAbsolute", nil, all(dir("etc"), dir("dummy"), tc.Symlink("/etc", "/dummy/etc"), tc.Symlink("/dummy/etc", "localetc"), file("/dummy/etc/unbroken", "unbroken")), "dummy/ 755\ndummy/etc -> /etc\n" + unbroken + "localetc -> /dummy/etc"},
		{"SymlinkMultipleRelative", nil, all(dir("etc"), dir("dummy"), tc.Symlink("/etc", "/dummy/etc"), tc.Symlink("./dummy/etc", "localetc"), file("/dummy/etc/unbroken", "unbroken")), "dummy/ 755\ndummy/etc -> /etc\n" + unbroken + "localetc -> ./dummy/etc"},
		{"SymlinkEmptyFile", nil, all(dir("etc"), file("etc/emptied", "notempty"), tc.Symlink("/etc", "localetc"), file("/localetc/emptied", "")), "etc/ 755\netc/emptied 644 \"\"\nlocaletc -> /etc"},
		{"HardlinkRelative", etc, all(dir("breakouts"), tc.Symlink("../../etc", "breakouts/d1"), tc.Link("/breakouts/d1/passwd", "breakouts/mypasswd")), `breakouts/ 755
			breakouts/d1 -> ../../etc
			breakouts/mypasswd 777 "inside" links=2
			etc/ 755
			etc/passwd = breakouts/mypasswd`},
		{"HardlinkDownAndOut", etc, all(dir("breakouts"), dir("downandout"), tc.Symlink("../downandout/../../etc", "breakouts/d1"), tc.Link("/breakouts/d1/passwd", "breakouts/mypasswd")), `breakouts/ 755
			breakouts/d1 -> ../downandout/../../etc
			breakouts/mypasswd 777 "inside" links=2
			downandout/ 755
			etc/ 755
			etc/passwd = breakouts/mypasswd`},
		{"HardlinkAbsolute", etc, all(tc.Symlink("/etc", "localetc"), tc.Link("/localetc/passwd", "localpasswd")), linked + "localetc -> /etc\nlocalpasswd = etc/passwd"},
		{"HardlinkRelativeLong", etc, all(tc.Symlink("../../../../../../../etc", "localetc"), tc.Link("/localetc/passwd", "localpasswd")), linked + "localetc -> ../../../../../../../etc\nlocalpasswd = etc/passwd"},
		{"HardlinkRelativeUpAndOut", etc, all(dir("upandout"), tc.Symlink("upandout/../../../etc", "localetc"), tc.Link("/localetc/passwd", "localpasswd")), linked + "localetc -> upandout/../../../etc\nlocalpasswd = etc/passwd\nupandout/ 755"},
		{"HardlinkDirectRelative", etc, tc.Link("../../../../../etc/passwd", "localpasswd"), linked + "localpasswd = etc/passwd"},
		{"HardlinkDirectAbsolute", etc, tc.Link("/etc/passwd", "localpasswd"), linked + "localpasswd = etc/passwd"},
		{"SymlinkParentDirectory", etc, all(tc.Symlink("/etc/", ".."), tc.Link("/etc/passwd", "localpasswd")), linked + "localpasswd = etc/passwd"},
		{"SymlinkEmptyFilename", etc, all(tc.Symlink("/etc/", ""), tc.Link("/etc/passwd", "localpasswd")), linked + "localpasswd = etc/passwd"},
		{"SymlinkParentRelative", etc, all(tc.Symlink("/etc/", "localetc/sub/.."), tc.Link("/etc/passwd", "/localetc/localpasswd")), `etc/ 755
			etc/localpasswd 777 "inside" links=2
			etc/passwd = etc/localpasswd
			localetc -> /etc/`},
		{"SymlinkSlashEnded", etc, all(dir("localetc/"), tc.Link("/etc/passwd", "/localetc/localpasswd")), linked + "localetc/ 755\nlocaletc/localpasswd = etc/passwd"},
		{"SymlinkOverrideDirectory", all(etc, dir("/localetc/")), all(tc.Symlink("/etc", "localetc"), tc.Link("/etc/passwd", "/localetc/localpasswd")), `etc/ 755
			etc/localpasswd 777 "inside" links=2
			etc/passwd = etc/localpasswd
			localetc -> /etc`},
		{"SymlinkOverrideDirectoryRelative", all(etc, dir("/localetc/")), all(tc.Symlink("../../etc", "localetc"), tc.Link("/etc/passwd", "/localetc/localpasswd")), `etc/ 755
			etc/localpasswd 777 "inside" links=2
			etc/passwd = etc/localpasswd
			localetc -> ../../etc`},
		{"DirectoryOverrideSymlink", all(etc, tc.Symlink("/etc", "localetc")), all(dir("/localetc/"), tc.Link("/etc/passwd", "/localetc/localpasswd")), linked + "localetc/ 755\nlocaletc/localpasswd = etc/passwd"},
		{"DirectoryOverrideSymlinkAndHardlink", all(etc, tc.Symlink("etc", "localetc"), tc.Link("/etc/passwd", "/localetc/localpasswd")), all(dir("/localetc/"), file("/localetc/localpasswd", "different")), `etc/ 755
			etc/localpasswd 777 "inside" links=2
			etc/passwd = etc/localpasswd
			localetc/ 755
			localetc/localpasswd 644 "different"`},
		{"WhiteoutRootParent", etc, file(".wh...", ""), "error: names no file"},
		{"WhiteoutParent", etc, file("etc/.wh...", ""), "error: names no file"},
		{"WhiteoutRoot", etc, file(".wh..", ""), "error: names no file"},
		{"WhiteoutCurrentDirectory", etc, file("etc/.wh..", ""), "error: names no file"},
		{"WhiteoutSymlink", all(etc, tc.Symlink("/etc", "localetc")), file(".wh.localetc", ""), "etc/ 755\netc/passwd 644 \"inside\""},
		{"WhiteoutSymlinkPath", all(etc, file("/etc/whitedout", "x"), tc.Symlink("/etc", "localetc")), file("localetc/.wh.whitedout", ""), "etc/ 755\netc/passwd 644 \"inside\"\nlocaletc -> /etc"},
		// containerd keeps .wh.etc/somefile, which no name may be: layer.md, Whiteouts.
		{"WhiteoutDirectoryName", etc, file(".wh.etc/somefile", "non-empty"), "etc/ 755\netc/passwd 644 \"inside\""},
		{"WhiteoutDeadSymlinkParent", all(etc, tc.Symlink("/dne", "localetc")), file("localetc/.wh.etc", ""), "etc/ 755\netc/passwd 644 \"inside\"\nlocaletc -> /dne"},
		{"WhiteoutRelativePath", all(etc, tc.Symlink("/dne", "localetc")), file("dne/../.wh.etc", ""), "localetc -> /dne"},
		{"WhiteoutOpaque", all(etc, tc.File("/etc/shadow", []byte("x"), 0o600)), all(file("etc/.wh..wh..opq", ""), file("etc/group", "all")), "etc/ 755\netc/group 644 \"all\""},
		{"WhiteoutOpaqueOutOfOrder", etc, all(file("etc/group", "all"), file("etc/.wh..wh..opq", "")), "etc/ 755\netc/group 644 \"all\""},
		// containerd's own check follows the symlink that the link is.
		{"HardlinkSymlinkBeforeCreateTarget", nil, all(dir("etc"), tc.Symlink("/etc/passwd", "localpasswd"), tc.Link("localpasswd", "localpasswd-dup"), file("/etc/passwd", "after")), `etc/ 755
			etc/passwd 644 "after"
			localpasswd -> /etc/passwd links=2
			localpasswd-dup = localpasswd`},
		{"HardlinkSymlinkRelative", etc, all(tc.Symlink("../../../../../etc/passwd", "passwdlink"), tc.Link("/passwdlink", "localpasswd")), "etc/ 755\netc/passwd 644 \"inside\"\nlocalpasswd -> ../../../../../etc/passwd links=2\npasswdlink = localpasswd"},
		{"HardlinkSymlinkAbsolute", etc, all(tc.Symlink("/etc/passwd", "passwdlink"), tc.Link("/passwdlink", "localpasswd")), "etc/ 755\netc/passwd 644 \"inside\"\nlocalpasswd -> /etc/passwd links=2\npasswdlink = localpasswd"},
		{"HardlinkSymlinkChmod", nil, all(tc.Symlink("/tmp/perm400", "/tmp/outside"), tc.Link("/tmp/outside", "sketchylink")), "sketchylink -> /tmp/perm400 links=2\ntmp/ 755\ntmp/outside = sketchylink"},
		{"DirectoryCreation", dir("/etc/"), all(dir("/etc/subdir"), dir("/etc/subdir2/"), dir("/etc/subdir2/more"), dir("/other/noparent-1/1"), dir("/other/noparent-2/2/")), `etc/ 755
			etc/subdir/ 755
			etc/subdir2/ 755
			etc/subdir2/more/ 755
			other/ 755
			other/noparent-1/ 755
			other/noparent-1/1/ 755
			other/noparent-2/ 755
			other/noparent-2/2/ 755`},
		{"WithXattrsUser", nil, withXattr("user.key", "value").File("/file", nil, 0o755), `file 755 "" {user.key="value"}`},
		// Unlike containerd we drop it: it is a label of the builder's policy.
		{"WithXattrSelinux", nil, withXattr("security.selinux", "unconfined_u:object_r:default_t:s0\x00").File("/file", nil, 0o755), `file 755 ""`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			tree := New(Options{})
			var err error
			for _, w := range []tartest.WriterToTar{test.lower, test.layer} {
				if w != nil && err == nil {
					err = tree.Apply("containerd", tartest.TarFromWriterTo(w), memory{})
				}
			}
			if reason, fails := strings.CutPrefix(test.want, "error: "); fails {
				if err == nil || !strings.Contains(err.Error(), reason) {
					t.Errorf("got %v, want an error with %q", err, reason)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, want := list(tree), lines(test.want); got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}
