package ext4

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"strings"
	"testing"
	"time"
)

// A want is a file as it is written and as it should be read back.
type want struct {
	path string
	Header
	data string
	link string // the path of an earlier file: this is another name for it
}

// put writes files in order and returns their inodes. Parents come first; the
// root is ".".
func put(t testing.TB, w *Writer, files []want) map[string]Ino {
	t.Helper()
	inos, err := putAll(w, files)
	if err != nil {
		t.Fatal(err)
	}
	return inos
}

func putAll(w *Writer, files []want) (map[string]Ino, error) {
	inos := map[string]Ino{".": Root}
	for _, f := range files {
		h, err := f.Header, error(nil)
		parent, ok := inos[path.Dir(f.path)]
		switch {
		case !ok:
			err = fmt.Errorf("%s has no parent", f.path)
		case f.path == ".":
			err = w.SetRoot(&h)
		case f.link != "":
			inos[f.path] = inos[f.link]
			err = w.Link(parent, path.Base(f.path), inos[f.link])
		default:
			if h.Content, err = w.WriteContent(strings.NewReader(f.data), int64(len(f.data))); err == nil {
				inos[f.path], err = w.Create(parent, path.Base(f.path), &h)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return inos, nil
}

// compare reports how what fsys has differs from what is wanted.
func compare(t testing.TB, fsys fs.ReadLinkFS, files []want) {
	t.Helper()
	byPath := map[string]*want{}
	for i := range files {
		f := &files[i]
		if f.link != "" {
			f = byPath[f.link]
		}
		byPath[files[i].path] = f
	}
	links := linkCounts(files)
	for name, f := range byPath {
		info, err := fsys.Lstat(name)
		if err != nil {
			t.Error(err)
			continue
		}
		got := info.Sys().(*Stat)
		if d := differ(got, f); d != "" {
			t.Errorf("%.99s: %s", name, d)
		}
		if got.Links != links[name] {
			t.Errorf("%.99s: links = %d, want %d", name, got.Links, links[name])
		}
		if f.Mode.IsRegular() {
			data, err := fs.ReadFile(fsys, name)
			if err != nil || string(data) != f.data {
				t.Errorf("%.99s: content is %d bytes (%v), want these %d", name, len(data), err, len(f.data))
			}
		}
	}
	err := fs.WalkDir(fsys, ".", func(name string, _ fs.DirEntry, err error) error {
		if byPath[name] == nil && name != "." && name != lostFound {
			t.Errorf("%.99s is there and should not be", name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// linkCounts tells how many links each path has: a file its names, a directory
// two and its subdirectories.
func linkCounts(files []want) map[string]uint32 {
	first := map[string]string{} // the path whose other name this is
	for _, f := range files {
		first[f.path] = f.path
		if f.link != "" {
			first[f.path] = first[f.link]
		}
	}
	links := map[string]uint32{".": 1} // lost+found
	for _, f := range files {
		if !f.Mode.IsDir() {
			links[first[f.path]]++
			continue
		}
		links[f.path] += 2
		if f.path != "." && f.path != lostFound {
			links[path.Dir(f.path)]++
		}
	}
	for name, of := range first {
		links[name] = links[of]
	}
	return links
}

func differ(got *Stat, f *want) string {
	switch {
	case got.Mode != f.Mode:
		return fmt.Sprintf("mode = %v, want %v", got.Mode, f.Mode)
	case got.UID != f.UID || got.GID != f.GID:
		return fmt.Sprintf("owner = %d:%d, want %d:%d", got.UID, got.GID, f.UID, f.GID)
	case got.Major != f.Major || got.Minor != f.Minor:
		return fmt.Sprintf("device = %d:%d, want %d:%d", got.Major, got.Minor, f.Major, f.Minor)
	case got.Target != f.Target:
		return fmt.Sprintf("target = %q, want %q", got.Target, f.Target)
	case !maps.Equal(got.Xattrs, f.Xattrs):
		return fmt.Sprintf("attributes = %q, want %q", got.Xattrs, f.Xattrs)
	case f.ModTime.IsZero() && !got.ModTime.Equal(day), !f.ModTime.IsZero() && !got.ModTime.Equal(f.ModTime):
		return fmt.Sprintf("time = %v, want %v", got.ModTime, f.ModTime)
	case f.Mode.IsRegular() && got.Size != int64(len(f.data)):
		return fmt.Sprintf("size = %d, want %d", got.Size, len(f.data))
	}
	return ""
}

// noise is n bytes that are not zero and do not repeat soon.
func noise(n int) string {
	b := make([]byte, n)
	x := uint32(n) | 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x>>24) | 1
	}
	return string(b)
}

// acl is an ACL in wire format.
func acl(entries ...[3]uint32) string {
	b := le.AppendUint32(nil, 2)
	for _, e := range entries {
		b = le.AppendUint16(b, uint16(e[0]))
		b = le.AppendUint16(b, uint16(e[1]))
		b = le.AppendUint32(b, e[2])
	}
	return string(b)
}

var (
	accessACL  = acl([3]uint32{1, 7, aclNoID}, [3]uint32{2, 6, 1000}, [3]uint32{4, 5, aclNoID}, [3]uint32{8, 4, 100_000}, [3]uint32{16, 7, aclNoID}, [3]uint32{32, 0, aclNoID})
	capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" // cap_net_bind_service
)

// everything is a tree with one of everything, the edges included.
func everything() []want {
	dirMode, linkMode := fs.ModeDir|0o755, fs.ModeSymlink|0o777
	files := []want{
		{path: ".", Header: Header{Mode: fs.ModeDir | 0o750, UID: 1, GID: 2, ModTime: time.Unix(5, 6), Xattrs: map[string]string{"user.root": "yes"}}},
		{path: lostFound, Header: Header{Mode: fs.ModeDir | 0o711, GID: 7}},
		{path: "lost+found/found", Header: Header{Mode: 0o600}, data: "again"},
		{path: "etc", Header: Header{Mode: dirMode}},
		{path: "etc/passwd", Header: Header{Mode: 0o644}, data: "root:x:0:0\n"},
		{path: "etc/empty", Header: Header{Mode: 0o644}},
		{path: "sticky", Header: Header{Mode: fs.ModeDir | fs.ModeSticky | fs.ModeSetgid | 0o777}},
		{path: "sticky/sudo", Header: Header{Mode: fs.ModeSetuid | 0o755, Xattrs: map[string]string{"security.capability": capability}}, data: "#!"},
		{path: "none", Header: Header{Mode: 0}},
		{path: "owner32", Header: Header{Mode: 0o600, UID: 4_000_000_000, GID: 65_536}},
		{path: "fifo", Header: Header{Mode: fs.ModeNamedPipe | 0o622}},
		{path: "socket", Header: Header{Mode: fs.ModeSocket | 0o700}},
		{path: "null", Header: Header{Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 3}},
		{path: "char00", Header: Header{Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666}},
		{path: "sda", Header: Header{Mode: fs.ModeDevice | 0o660, Major: 8, Minor: 0, GID: 6}},
		{path: "minor256", Header: Header{Mode: fs.ModeDevice | 0o660, Major: 8, Minor: 256}},
		{path: "major256", Header: Header{Mode: fs.ModeDevice | 0o660, Major: 256}},
		{path: "device_max", Header: Header{Mode: fs.ModeDevice | 0o660, Major: maxMajor, Minor: maxMinor}},
		{path: "symlink_1", Header: Header{Mode: linkMode, Target: "."}},
		{path: "symlink_59", Header: Header{Mode: linkMode, Target: noise(59)}},
		{path: "symlink_60", Header: Header{Mode: linkMode, Target: noise(60)}},
		{path: "symlink_4095", Header: Header{Mode: linkMode, Target: noise(4095), UID: 70_000}},
		{path: "symlink_fast_attr", Header: Header{Mode: linkMode, Target: "x", Xattrs: map[string]string{"trusted.x": noise(200)}}},
		{path: "symlink_slow_attr", Header: Header{Mode: linkMode, Target: noise(100), Xattrs: map[string]string{"trusted.x": noise(200)}}},
		{path: "hard_link", link: "etc/passwd"},
		{path: "sticky/hard_link", link: "etc/passwd"},
		{path: "hard_symlink", link: "symlink_59"},
		{path: "acl", Header: Header{Mode: 0o770, Xattrs: map[string]string{"system.posix_acl_access": accessACL}}},
		{path: "acl_dir", Header: Header{Mode: fs.ModeDir | 0o770, Xattrs: map[string]string{
			"system.posix_acl_access": accessACL, "system.posix_acl_default": accessACL, "user.x": "",
		}}},
		{path: "attrs", Header: Header{Mode: 0o644, Xattrs: map[string]string{
			"user.a": noise(30), "user.long_name": noise(300), "trusted.b": noise(3), "security.c": noise(500),
			"user.b": "", "user.\xff\xfe": noise(77), "security.selinux": "system_u:object_r:bin_t:s0\x00",
		}}},
		{path: "attrs_full", Header: Header{Mode: 0o644, Xattrs: map[string]string{
			"user.a": noise(72 - 4), "user.b": noise(attrInBlock - attrEnd - attrHead - 4),
		}}},
		{path: "attrs_inode_full", Header: Header{Mode: 0o644, Xattrs: map[string]string{"user.a": noise(attrInode - attrEnd - attrHead - 4)}}},
		{path: "name_255_" + noiseName(246), Header: Header{Mode: 0o644}, data: "long"},
		{path: "bytes\xff\xfe \n\t\\*?\"ünï", Header: Header{Mode: 0o644}},
	}
	for _, s := range []struct {
		name string
		time time.Time
	}{
		{"oldest", time.Unix(minSeconds, 0)},
		{"1969", time.Unix(-1, 999_999_999)},
		{"1970", time.Unix(0, 0)},
		{"2038", time.Unix(1<<31, 1)},
		{"2100", time.Unix(4102444800, 5)},
		{"2106", time.Unix(1<<32, 2)},
		{"2242", time.Unix(1<<33, 3)},
		{"newest", time.Unix(maxSeconds, 999_999_999)},
	} {
		files = append(files, want{path: "time_" + s.name, Header: Header{Mode: 0o644, ModTime: s.time}})
	}
	for _, n := range []int{1, 4095, 4096, 4097, 1<<20 - 1, 1 << 20, 1<<20 + 1} {
		files = append(files, want{path: fmt.Sprintf("size_%d", n), Header: Header{Mode: 0o644}, data: noise(n)})
	}
	zeros := strings.Repeat("\x00", 8192)
	for name, data := range map[string]string{
		"hole_first": zeros + "x", "hole_last": noise(4096) + zeros, "hole_only": zeros + "\x00", "hole_mid": noise(4096) + zeros + noise(5000),
		"zero_byte": "\x00", "holes": strings.Repeat(zeros+noise(4096), 6),
	} {
		files = append(files, want{path: name, Header: Header{Mode: 0o644}, data: data})
	}
	deep := "deep"
	for i := range 40 {
		files = append(files, want{path: deep, Header: Header{Mode: dirMode}})
		deep = path.Join(deep, fmt.Sprintf("level%d", i))
	}
	return files
}

func noiseName(n int) string {
	return strings.Repeat("n", n)
}
