package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"banger/ext4"
	"banger/internal/api"
	"banger/internal/compare"
)

func (c *cli) imageCat() *cobra.Command {
	return &cobra.Command{
		Use:   "cat <image> <path>...",
		Short: "Print files of an image",
		Long: `Print files of an image, or of an ext4 file: an argument with a slash in it or that
ends in .ext4. The disk is read as it is, without a mount. Symlinks are followed inside
of the image, and never lead out of it.` + exitHelp,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usageError{fmt.Errorf("%s: name an image and at least one path", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			d, err := c.openDisk(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, d.Close()) }()
			for _, p := range args[1:] {
				err = errors.Join(err, d.cat(p, c.stdout))
			}
			return err
		},
	}
}

// cat copies the content of a file.
func (d *disk) cat(arg string, w io.Writer) error {
	f, err := d.Open(inside(arg))
	if err != nil {
		return d.fail("cat", arg, err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return d.fail("cat", arg, err)
	case !info.Mode().IsRegular():
		return d.fail("cat", arg, fmt.Errorf("is a %s", compare.Kind(info.Mode())))
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{w}, f, make([]byte, 256<<10)); err != nil {
		return d.fail("cat", arg, err)
	}
	return nil
}

// listing is how files are listed.
type listing struct {
	long, recursive, json bool
}

func (c *cli) imageLs() *cobra.Command {
	var how listing
	list := c.imageList()
	cmd := &cobra.Command{
		Use:   "ls [flags] [<image> [<path>...]]",
		Short: "List the files of an image; without one, list the images",
		Long: `List the files in a directory of an image, or of an ext4 file: an argument with a
slash in it or that ends in .ext4. The disk is read as it is, without a mount. Owners
are numbers and times are UTC. Without an image it does what "image list" does.

Characters of a name that do not show are printed as Go writes them: \n, \x1b.` + exitHelp,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && (how.long || how.recursive) {
				return usageError{fmt.Errorf("%s: -l and -R are for the files of an image: name one", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if len(args) == 0 {
				list.SetContext(cmd.Context())
				if how.json {
					if err := list.Flags().Set("json", "true"); err != nil {
						return err
					}
				}
				return list.RunE(list, nil)
			}
			d, err := c.openDisk(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, d.Close()) }()
			paths := args[1:]
			if len(paths) == 0 {
				paths = []string{"/"}
			}
			return d.list(paths, how, c.stdout)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&how.long, "long", "l", false, "also permissions, links, owner, size, time and target")
	f.BoolVarP(&how.recursive, "recursive", "R", false, "also what is below")
	f.BoolVar(&how.json, "json", false, "print a JSON array")
	return cmd
}

// fileInfo is a file as --json shows it.
type fileInfo struct {
	Path    string            `json:"path"` // bytes that are not UTF-8 are \xNN, as in Target
	Type    string            `json:"type"`
	Mode    string            `json:"mode"` // octal
	UID     uint32            `json:"uid"`
	GID     uint32            `json:"gid"`
	Size    int64             `json:"size_bytes"`
	ModTime time.Time         `json:"mtime"`
	Links   uint32            `json:"nlink"`
	Inode   uint32            `json:"inode"`
	Device  string            `json:"device,omitempty"` // "major:minor"
	Target  string            `json:"target,omitempty"`
	Xattrs  map[string][]byte `json:"xattrs,omitempty"` // base64
}

// list lists directories, and files that are none. It goes on after an error.
func (d *disk) list(paths []string, how listing, w io.Writer) error {
	out := lister{disk: d, how: how, w: bufio.NewWriterSize(w, 64<<10), all: []fileInfo{}, titles: how.recursive || len(paths) > 1}
	var failed error
	for _, arg := range paths {
		if err := out.path(arg); err != nil {
			failed = errors.Join(failed, d.fail("ls", arg, err))
		}
	}
	if how.json {
		failed = errors.Join(failed, printJSON(out.w, out.all))
	}
	return errors.Join(failed, out.w.Flush())
}

// path lists what the user asked for.
func (l *lister) path(arg string) error {
	at := inside(arg)
	info, err := l.disk.Lstat(at)
	if err != nil {
		return err
	}
	if info.Mode().Type() == fs.ModeSymlink && (!l.how.long || strings.HasSuffix(arg, "/")) {
		// As ls does: a link is followed when it leads to a directory.
		if to, err := l.disk.Stat(at); err == nil && to.IsDir() {
			info = to
		}
	}
	if info.IsDir() {
		return l.dir(at)
	}
	return l.add("/", []fs.FileInfo{byPath{info, path.Join("/", at)}})
}

// byPath is a file by the path that the user asked for.
type byPath struct {
	fs.FileInfo
	path string
}

func (n byPath) Name() string { return n.path }

type lister struct {
	disk *disk
	how  listing
	w    *bufio.Writer
	all  []fileInfo // for JSON

	titles bool // each directory has a line of its own
	begun  bool
}

// dir lists a directory, and with -R those in it.
func (l *lister) dir(at string) error {
	entries, err := l.disk.ReadDir(at)
	if err != nil {
		return err
	}
	infos := make([]fs.FileInfo, len(entries))
	for i, e := range entries {
		if infos[i], err = e.Info(); err != nil {
			return err
		}
	}
	if l.titles && !l.how.json {
		if l.begun {
			fmt.Fprintln(l.w)
		}
		fmt.Fprintf(l.w, "%s:\n", escape(path.Join("/", at)))
	}
	if err := l.add(path.Join("/", at), infos); err != nil || !l.how.recursive {
		return err
	}
	for _, info := range infos {
		if info.IsDir() {
			if err := l.dir(path.Join(at, info.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// add lists files of one directory.
func (l *lister) add(dir string, infos []fs.FileInfo) error {
	l.begun = true
	if l.how.json {
		for _, info := range infos {
			l.all = append(l.all, jsonInfo(path.Join(dir, info.Name()), info))
		}
		return nil
	}
	rows := make([][]string, len(infos))
	width := make([]int, 6)
	for i, info := range infos {
		rows[i] = []string{"", "", "", "", "", "", escape(info.Name())}
		if l.how.long {
			rows[i] = row(info)
		}
		for k := range width {
			width[k] = max(width[k], len(rows[i][k]))
		}
	}
	for _, r := range rows {
		if l.how.long {
			fmt.Fprintf(l.w, "%-*s %*s %*s %*s %*s %s ", width[0], r[0], width[1], r[1], width[2], r[2], width[3], r[3], width[4], r[4], r[5])
		}
		fmt.Fprintln(l.w, r[6])
	}
	return nil
}

// row is a line of ls -l.
func row(info fs.FileInfo) []string {
	s := info.Sys().(*ext4.Stat) //nolint:forcetypeassert // what it promises
	bytes := fmt.Sprint(s.Size)
	if s.Mode&fs.ModeDevice != 0 {
		bytes = fmt.Sprintf("%d, %d", s.Major, s.Minor)
	}
	name := escape(info.Name())
	if s.Target != "" {
		name += " -> " + escape(s.Target)
	}
	return []string{
		permissions(s), fmt.Sprint(s.Links), fmt.Sprint(s.UID), fmt.Sprint(s.GID), bytes,
		s.ModTime.UTC().Format("2006-01-02 15:04:05"), name,
	}
}

// permissions is the first column of ls -l; a plus says that there is an ACL.
func permissions(s *ext4.Stat) string {
	text := []byte(s.Mode.Perm().String())
	text[0] = map[fs.FileMode]byte{
		fs.ModeDir: 'd', fs.ModeSymlink: 'l', fs.ModeNamedPipe: 'p', fs.ModeSocket: 's',
		fs.ModeDevice: 'b', fs.ModeDevice | fs.ModeCharDevice: 'c', 0: '-',
	}[s.Mode.Type()]
	for _, special := range []struct {
		bit  fs.FileMode
		at   int
		char byte
	}{{fs.ModeSetuid, 3, 's'}, {fs.ModeSetgid, 6, 's'}, {fs.ModeSticky, 9, 't'}} {
		if s.Mode&special.bit == 0 {
			continue
		}
		if text[special.at] == '-' {
			special.char -= 'a' - 'A' // without the right to execute
		}
		text[special.at] = special.char
	}
	for name := range s.Xattrs {
		if strings.HasPrefix(name, "system.posix_acl_") {
			return string(text) + "+"
		}
	}
	return string(text)
}

func jsonInfo(p string, info fs.FileInfo) fileInfo {
	s := info.Sys().(*ext4.Stat) //nolint:forcetypeassert // what it promises
	f := fileInfo{
		Path: api.Text(p), Type: compare.Kind(s.Mode), Mode: compare.Octal(s.Mode), UID: s.UID, GID: s.GID, Size: s.Size,
		ModTime: s.ModTime.UTC(), Links: s.Links, Inode: uint32(s.Ino), Target: api.Text(s.Target),
	}
	if s.Mode&fs.ModeDevice != 0 {
		f.Device = fmt.Sprintf("%d:%d", s.Major, s.Minor)
	}
	for name, value := range s.Xattrs {
		if f.Xattrs == nil {
			f.Xattrs = map[string][]byte{}
		}
		f.Xattrs[name] = []byte(value)
	}
	return f
}
