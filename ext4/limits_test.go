package ext4

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// Every mistake is an error that names the path, and the last thing that the
// writer does.
func TestMistakes(t *testing.T) {
	t.Parallel()
	file := Header{Mode: 0o644}
	with := func(change func(h *Header)) Header {
		h := file
		change(&h)
		return h
	}
	attr := func(name, value string) Header {
		return Header{Mode: 0o644, Xattrs: map[string]string{name: value}}
	}
	for name, row := range map[string]struct {
		parent Ino
		name   string
		h      Header
		want   string
	}{
		"name_empty":      {12, "", file, "/dir/: name"},
		"name_dot":        {12, ".", file, "/dir/.: name"},
		"name_dotdot":     {12, "..", file, "/dir/..: name"},
		"name_slash":      {12, "a/b", file, "/dir/a/b: name"},
		"name_nul":        {12, "a\x00", file, "is not valid"},
		"name_256":        {12, strings.Repeat("x", 256), file, "longer than 255"},
		"name_taken":      {12, "a", file, "/dir/a: file already exists"},
		"lost_found_file": {Root, lostFound, file, "/lost+found: file already exists"},
		"parent_file":     {13, "x", file, "parent 13 is not a directory"},
		"parent_missing":  {99, "x", file, "parent 99 is not a directory"},
		"parent_reserved": {journalIno, "x", file, "parent 8 is not a directory"},
		"target_empty":    {12, "x", Header{Mode: fs.ModeSymlink}, "target of 0 bytes"},
		"target_4096":     {12, "x", Header{Mode: fs.ModeSymlink, Target: noise(4096)}, "target of 4096 bytes"},
		"target_nul":      {12, "x", Header{Mode: fs.ModeSymlink, Target: "a\x00b"}, "contains NUL"},
		"time_early":      {12, "x", with(func(h *Header) { h.ModTime = time.Unix(minSeconds-1, 0) }), "/dir/x: time"},
		"time_late":       {12, "x", with(func(h *Header) { h.ModTime = time.Unix(maxSeconds+1, 0) }), "/dir/x: time"},
		"device_major":    {12, "x", Header{Mode: fs.ModeDevice, Major: maxMajor + 1}, "device 4096:0"},
		"device_minor":    {12, "x", Header{Mode: fs.ModeDevice, Minor: maxMinor + 1}, "device 0:1048576"},
		"mode_irregular":  {12, "x", Header{Mode: fs.ModeIrregular}, "cannot be stored"},
		"mode_two_types":  {12, "x", Header{Mode: fs.ModeDir | fs.ModeSymlink, Target: "x"}, "no single type"},
		"content_taken":   {12, "x", with(func(h *Header) { h.Content = Content{1} }), "belongs to inode 13"},
		"content_unknown": {12, "x", with(func(h *Header) { h.Content = Content{2} }), "another writer"},
		"content_of_dir":  {12, "x", Header{Mode: fs.ModeDir, Content: Content{1}}, "only a regular file"},
		"attr_prefix":     {12, "x", attr("foo.bar", ""), `/dir/x: attribute "foo.bar": name`},
		"attr_no_name":    {12, "x", attr("user.", ""), "name cannot be stored"},
		"attr_acl_suffix": {12, "x", attr("system.posix_acl_access.x", accessACL), "name cannot be stored"},
		"attr_name_256":   {12, "x", attr("user."+strings.Repeat("x", 256), ""), "name cannot be stored"},
		"attr_too_large":  {12, "x", attr("user.x", noise(attrInBlock)), "/dir/x: attributes are 24 bytes too large"},
		"acl_version":     {12, "x", attr("system.posix_acl_access", "\x01\x00\x00\x00"), "not a valid POSIX ACL"},
		"acl_short":       {12, "x", attr("system.posix_acl_access", "\x02\x00\x00\x00\x01"), "not a valid POSIX ACL"},
		"acl_tag":         {12, "x", attr("system.posix_acl_access", acl([3]uint32{3, 7, 0})), "not a valid POSIX ACL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := must[*Writer](t)(NewWriter(&memory{}, Options{}))
			put(t, w, []want{
				{path: "dir", Header: Header{Mode: fs.ModeDir | 0o755}},
				{path: "dir/a", Header: file, data: "a"},
			})
			_, err := w.Create(row.parent, row.name, &row.h)
			var pathErr *fs.PathError
			if !errors.As(err, &pathErr) || !strings.Contains(err.Error(), row.want) {
				t.Fatalf("create = %v, want %q", err, row.want)
			}
			if _, later := w.Create(Root, "fine", &file); later != err {
				t.Errorf("create after it = %v, want the same error", later)
			}
			if later := w.Close(); later != err {
				t.Errorf("close after it = %v, want the same error", later)
			}
		})
	}
}

func TestLinkMistakes(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		ino  Ino
		name string
		want string
	}{
		"to_directory": {Root, "x", "/x: inode 2 is a directory"},
		"to_nothing":   {13, "x", "/x: inode 13: file does not exist"},
		"to_reserved":  {journalIno, "x", "/x: inode 8: file does not exist"},
		"name_taken":   {12, "a", "/a: file already exists"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := must[*Writer](t)(NewWriter(&memory{}, Options{}))
			put(t, w, []want{{path: "a", Header: Header{Mode: 0o644}}})
			if err := w.Link(Root, row.name, row.ino); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("link = %v, want %q", err, row.want)
			}
		})
	}
}

func TestLinkLimit(t *testing.T) {
	t.Parallel()
	w, f := image(t, Options{})
	h := Header{Mode: 0o644, Content: must[Content](t)(w.WriteContent(strings.NewReader("x"), 1))}
	ino := must[Ino](t)(w.Create(Root, "0", &h))
	for i := 1; i < MaxLinks; i++ {
		if err := w.Link(Root, fmt.Sprint(i), ino); err != nil {
			t.Fatal(err)
		}
	}
	fsys := finish(t, w, f)
	info := must[fs.FileInfo](t)(fsys.Stat("64999"))
	if got := info.Sys().(*Stat).Links; got != MaxLinks {
		t.Errorf("links = %d, want %d", got, MaxLinks)
	}

	w = must[*Writer](t)(NewWriter(&memory{}, Options{}))
	ino = must[Ino](t)(w.Create(Root, "0", &Header{Mode: 0o644}))
	w.inodes[ino].links = MaxLinks
	if err := w.Link(Root, "one more", ino); err == nil || !strings.Contains(err.Error(), "/one more: inode 12 has 65000 links") {
		t.Errorf("link 65001 = %v", err)
	}
}

// Unlike files, directories are not limited by their links (DIR_NLINK).
func TestSubdirectories(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		dirs  int
		links uint32
	}{
		{"counted", MaxLinks - 2, MaxLinks},
		{"uncounted", MaxLinks - 1, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w, f := image(t, Options{NoJournal: true})
			dir := must[Ino](t)(w.Create(Root, "d", &Header{Mode: fs.ModeDir | 0o755}))
			for i := range row.dirs {
				if _, err := w.Create(dir, fmt.Sprint(i), &Header{Mode: fs.ModeDir | 0o755}); err != nil {
					t.Fatal(err)
				}
			}
			fsys := finish(t, w, f)
			info := must[fs.FileInfo](t)(fsys.Stat("d"))
			if got := info.Sys().(*Stat).Links; got != row.links {
				t.Errorf("links = %d, want %d", got, row.links)
			}
		})
	}
}

func TestBadOptions(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]Options{
		"label":        {Label: "seventeen bytes !"},
		"size -1":      {Size: -1},
		"minimal size": {MinSize: MaxSize + 1},
		"time":         {Time: time.Unix(maxSeconds+1, 0)},
	} {
		if _, err := NewWriter(&memory{}, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewWriter = %v, want %q", err, want)
		}
	}
}

func TestContentMistakes(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		r    io.Reader
		size int64
		want error
	}{
		"short":    {strings.NewReader("four"), 5, io.ErrUnexpectedEOF},
		"empty":    {strings.NewReader(""), 1, io.ErrUnexpectedEOF},
		"closed":   {iotest.ErrReader(fs.ErrClosed), 1, fs.ErrClosed}, // not to be taken for ours
		"failing":  {io.MultiReader(strings.NewReader("x"), iotest.ErrReader(errFull)), 9, errFull},
		"negative": {strings.NewReader(""), -1, nil},
		"huge":     {strings.NewReader(""), MaxSize + 1, nil},
	} {
		w := must[*Writer](t)(NewWriter(&memory{}, Options{}))
		_, err := w.WriteContent(row.r, row.size)
		if err == nil || row.want != nil && !errors.Is(err, row.want) {
			t.Errorf("%s: write content = %v, want %v", name, err, row.want)
		}
		if later := w.Close(); later != err {
			t.Errorf("%s: close after it = %v, want the same error", name, later)
		}
	}
}

// Bytes behind the size are the caller's.
func TestContentReadsNoMore(t *testing.T) {
	t.Parallel()
	w := must[*Writer](t)(NewWriter(&memory{}, Options{}))
	r := strings.NewReader("filerest")
	must[Content](t)(w.WriteContent(r, 4))
	if rest, _ := io.ReadAll(r); string(rest) != "rest" {
		t.Errorf("left = %q, want %q", rest, "rest")
	}
}

func TestClampTime(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ in, want time.Time }{
		{time.Time{}, time.Unix(minSeconds, 0)},
		{time.Unix(minSeconds, 0), time.Unix(minSeconds, 0)},
		{day, day},
		{time.Unix(maxSeconds, 999_999_999), time.Unix(maxSeconds, 999_999_999)},
		{time.Unix(maxSeconds+1, 0), time.Unix(maxSeconds, 999_999_999)},
	} {
		if got := ClampTime(row.in); !got.Equal(row.want) {
			t.Errorf("ClampTime(%v) = %v, want %v", row.in, got, row.want)
		}
	}
}

func TestSetRootMistakes(t *testing.T) {
	t.Parallel()
	w := must[*Writer](t)(NewWriter(&memory{}, Options{}))
	if err := w.SetRoot(&Header{Mode: 0o755}); err == nil || !strings.Contains(err.Error(), "create /: ") {
		t.Errorf("SetRoot = %v", err)
	}
}

// A path in an error is the whole one.
func TestPathInError(t *testing.T) {
	t.Parallel()
	w := must[*Writer](t)(NewWriter(&memory{}, Options{}))
	parent, name := Root, ""
	for i := range 5 {
		name = path.Join(name, fmt.Sprint("d", i))
		parent = must[Ino](t)(w.Create(parent, fmt.Sprint("d", i), &Header{Mode: fs.ModeDir}))
	}
	_, err := w.Create(parent, "x", &Header{Mode: fs.ModeSymlink})
	if err == nil || !strings.HasPrefix(err.Error(), "create /d0/d1/d2/d3/d4/x: ") {
		t.Errorf("error = %v", err)
	}
}
