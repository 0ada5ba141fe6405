package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"
	"unsafe"
)

func TestTimeOfImpliedDirectories(t *testing.T) {
	t.Parallel()
	created := time.Date(2024, 5, 6, 7, 8, 9, 10, time.FixedZone("", 3600))
	for _, test := range []struct{ option, want time.Time }{
		{created, created},
		{time.Time{}, time.Unix(0, 0)},
		{time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), time.Unix(3<<32-1<<31-1, 0)},
	} {
		tree := New(Options{Time: test.option})
		stream := archive(t, newEntry('5', "./", 0o700).time(time.Unix(7, 7)), file("a/b", "").time(time.Unix(3, 4)))
		if err := tree.Apply("", bytes.NewReader(stream), memory{}); err != nil {
			t.Fatal(err)
		}
		a := tree.Root.Child("a")
		for _, n := range []*Node{tree.Root, a} {
			if !n.ModTime.Equal(test.want) || n.Mode != fs.ModeDir|0o755 {
				t.Errorf("got %v %v, want %v drwxr-xr-x", n.ModTime, n.Mode, test.want)
			}
		}
		if b := a.Child("b"); b.ModTime != time.Unix(3, 4).UTC() {
			t.Errorf("got %v, want %v", b.ModTime, time.Unix(3, 4).UTC())
		}
	}
}

func TestNlink(t *testing.T) {
	t.Parallel()
	tree, err := apply(t,
		[]entry{file("a/b/f", ""), dir("a/c"), link("g", "a/b/f"), link("a/h", "g"), symlink("s", "a"), dir("a/d/e")},
		[]entry{hide("a/.wh.c"), file("a/d", ""), hide("a/.wh.h")},
		[]entry{dir("a/b/x"), dir("y")},
	)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{".": 4, "a": 3, "a/b": 3, "a/b/f": 2, "a/b/x": 2, "a/d": 1, "g": 2, "s": 1, "y": 2} {
		n := tree.Root
		if path != "." {
			for name := range strings.SplitSeq(path, "/") {
				n = n.Child(name)
			}
		}
		if got := n.Nlink(); got != want {
			t.Errorf("%s: got %d links, want %d", path, got, want)
		}
	}
}

func TestWalkAndChildren(t *testing.T) {
	t.Parallel()
	tree, err := apply(t, []entry{file("b", ""), file("a/z", ""), file("a.b", ""), file("a/B", "")})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := tree.Walk(func(path string, _ *Node) error {
		got = append(got, path)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := "[. a a/B a/z a.b b]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
	stop := errors.New("stop")
	if err := tree.Walk(func(path string, _ *Node) error {
		if path == "a/z" {
			return stop
		}
		return nil
	}); !errors.Is(err, stop) {
		t.Errorf("got %v, want %v", err, stop)
	}
	for name := range tree.Root.Children() {
		if name != "a" {
			t.Errorf("got %s first, want a", name)
		}
		break
	}
	if n := tree.Root.Child("b").Child("x"); n != nil {
		t.Errorf("got %v in a file, want nothing", n)
	}
}

func TestXattrsAreShared(t *testing.T) {
	t.Parallel()
	tree, err := apply(t, []entry{file("a", "").xattr("user.a", "1").xattr("user.b", "2"), file("b", "").xattr("user.b", "2").xattr("user.a", "1"), file("c", "").xattr("user.a", "12")})
	if err != nil {
		t.Fatal(err)
	}
	same := func(x, y string) bool {
		return fmt.Sprintf("%p", tree.Root.Child(x).Xattrs) == fmt.Sprintf("%p", tree.Root.Child(y).Xattrs)
	}
	if !same("a", "b") || same("a", "c") {
		t.Errorf("got shared %v and %v, want true and false", same("a", "b"), same("a", "c"))
	}
}

func TestAdd(t *testing.T) {
	t.Parallel()
	tree, err := apply(t, base, []entry{dir("usr/lib").mode(0o700), symlink("lib", "usr/lib"), symlink("lib/x.service", "/dev/null"), symlink("opt", "gone"), file("busy", "")})
	if err != nil {
		t.Fatal(err)
	}
	shared := &Node{Mode: 0o644, Size: 4, Content: "unit"}
	for _, add := range []struct {
		path string
		node *Node
	}{
		{"/lib/systemd/x.service", shared},
		{"lib/y.service", shared},
		{"lib/x.service", &Node{Mode: 0o600, UID: 5, ModTime: time.Unix(1<<40, 0)}},
		{"opt/f", &Node{Mode: fs.ModeSymlink | 0o777, Target: "t"}},
		{"d", &Node{Mode: fs.ModeDir | 0o711}},
		{"d/sub", &Node{Mode: 0o644}},
		{"busy/f", &Node{Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, Major: 1, Minor: 3}},
		{"/stargz.index.json", &Node{Mode: 0o644}},
	} {
		if err := tree.Add(add.path, add.node); err != nil {
			t.Error(err)
		}
	}
	want := lines(`busy/ 755
		busy/f char 1:3 600
		d/ 711
		d/low 644 "low"
		d/other 644 "other"
		d/sub 644 ""
		gone/ 755
		gone/f -> t
		lib -> usr/lib
		opt -> gone
		stargz.index.json 644 ""
		usr/ 755
		usr/lib/ 700
		usr/lib/systemd/ 755
		usr/lib/systemd/x.service 644 "unit" links=2
		usr/lib/x.service 600 "" @5:0 t=10737418239.000000000
		usr/lib/y.service = usr/lib/systemd/x.service`)
	if got := list(tree); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := warningKinds(tree); got != "parent-replaced" {
		t.Errorf("got warnings %q, want parent-replaced", got)
	}
	for _, bad := range []struct {
		path string
		node *Node
		want string
	}{
		{"/", &Node{Mode: fs.ModeDir}, "the root is there already"},
		{"e", tree.Root.Child("d"), "has a name already"},
		{"s", &Node{Mode: fs.ModeSymlink}, "without a target"},
		{"i", &Node{Mode: fs.ModeIrregular}, "of type"},
		{"b", &Node{Mode: fs.ModeDevice, Major: 4096}, "device 4096:0"},
		{"a\x00", &Node{}, "NUL"},
		{"d/.wh.x", &Node{}, "whiteout's"},
		{"x", &Node{Xattrs: map[string]string{strings.Repeat("x", 256): ""}}, "256 bytes"},
	} {
		err := tree.Add(bad.path, bad.node)
		if err == nil || !strings.Contains(err.Error(), bad.want) || !strings.HasPrefix(err.Error(), "add ") {
			t.Errorf("add %s: got %v, want an error with %q", bad.path, err, bad.want)
		}
	}
}

// TestLongestPath has a file whose path from the root is as long as Linux takes it.
func TestLongestPath(t *testing.T) {
	t.Parallel()
	tree, err := apply(t, []entry{file(deep+"/"+long[1:], ""), symlink("l", deep), file("l/"+long[2:], ""), file("l/"+long[10:]+"/12345678", "")})
	if err != nil {
		t.Fatal(err)
	}
	longest := 0
	_ = tree.Walk(func(path string, _ *Node) error {
		longest = max(longest, len("/"+path))
		return nil
	})
	if longest != maxPath {
		t.Errorf("got a path of %d bytes, want %d", longest, maxPath)
	}
}

// TestNodeIsSmall guards the memory of an image of millions of files: a byte
// more, and each node takes the next size class of the allocator.
func TestNodeIsSmall(t *testing.T) {
	if got := unsafe.Sizeof(Node{}); got > 112 {
		t.Errorf("got a node of %d bytes, want at most 112", got)
	}
}
