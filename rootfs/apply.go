package rootfs

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
)

// layer is the work on one layer.
type layer struct {
	tree *Tree
	name string
	sink Sink
	tar  *tar.Reader

	header *tar.Header // of the current entry
	names  []string    // its path
	path   []step      // scratch of resolve

	hidden   map[*Node]map[string]*Node // names that this layer took away from a directory
	linked   map[string]*Node           // files of aufs that have no name but in links
	promises []promise
	stubs    map[*Node]int // index in promises
	warned   map[Kind]int  // warnings so far
	silent   map[Kind]int  // those that were left out
}

func (t *Tree) newLayer(name string) *layer {
	t.layers++
	return &layer{
		tree:   t,
		name:   name,
		hidden: map[*Node]map[string]*Node{},
		linked: map[string]*Node{},
		stubs:  map[*Node]int{},
		warned: map[Kind]int{},
		silent: map[Kind]int{},
	}
}

// Apply puts a layer on top of the tree: r is its uncompressed tar stream, and
// layer its digest, for messages. The content of regular files goes to sink as
// it is read. Apply reads r to its end, past the end of the archive, so that a
// reader that verifies a digest has seen the whole stream.
func (t *Tree) Apply(layer string, r io.Reader, sink Sink) error {
	in := bufio.NewReaderSize(&meter{r, t}, 64<<10)
	l := t.newLayer(layer)
	l.sink = sink
	l.tar = tar.NewReader(in)
	err := l.entries()
	if err == nil {
		err = l.keepPromises()
	}
	if err == nil || isFormatError(err) {
		// A stream that is damaged rather than malformed says so at its end.
		var limit *LimitError
		if _, drained := io.Copy(io.Discard, in); drained != nil && (err == nil || !errors.As(drained, &limit)) {
			err = drained
		}
	}
	if err != nil {
		return fmt.Errorf("layer %s: %w", layer, err)
	}
	l.sumWarnings()
	return nil
}

func isFormatError(err error) bool {
	return errors.Is(err, tar.ErrHeader) || errors.Is(err, tar.ErrFieldTooLong)
}

// entries applies all entries of the archive.
func (l *layer) entries() error {
	for {
		hdr, err := l.tar.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, tar.ErrInsecurePath):
			// With GODEBUG=tarinsecurepath=0; the header is good, and so is the path here.
		case errors.Is(err, tar.ErrFieldTooLong):
			return fmt.Errorf("%s: %w: %w", l.next(), err, &LimitError{"bytes in a header", "", maxPAX})
		case err != nil:
			return fmt.Errorf("%s: %w", l.next(), err)
		}
		l.header = hdr
		if err := l.entry(); err != nil {
			return fmt.Errorf("entry %s: %w", quote(hdr.Name), err)
		}
	}
}

// next says which entry comes now, whose own name is not known yet.
func (l *layer) next() string {
	if l.header == nil {
		return "first entry"
	}
	return "entry after " + quote(l.header.Name)
}

// entry applies the current entry.
func (l *layer) entry() error {
	if err := l.tree.use(1, 0); err != nil {
		return err
	}
	if l.header.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	names, clamped, err := split(l.names[:0], l.header.Name)
	if err != nil {
		return err
	}
	l.names = names
	if clamped {
		l.warn(PathClamped, "took %s for %s", quote(l.header.Name), quote(join(names)))
	}
	if done, err := l.reserved(); done || err != nil {
		return err
	}
	if len(names) == 0 {
		return l.root()
	}
	switch kind := l.header.Typeflag; {
	case kind == tar.TypeLink:
		n, err := l.node()
		if err != nil {
			return err
		}
		return l.link(l.header.Linkname, n)
	case kind == tar.TypeChar && l.header.Devmajor == 0 && l.header.Devminor == 0:
		l.warn(DeviceWhiteout, "took a character device 0:0 for a whiteout")
		last := len(names) - 1
		return l.whiteout(names[:last], names[last])
	case isRegular(kind), slices.Contains([]byte{tar.TypeDir, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo}, kind):
		return l.file()
	}
	l.warn(EntrySkipped, "skipped an entry of unknown type %q", l.header.Typeflag)
	return nil
}

// root applies an entry for the root. Images disagree about its attributes for
// no reason but how they were packed, so only extended ones count.
func (l *layer) root() error {
	if l.header.Typeflag != tar.TypeDir {
		l.warn(EntrySkipped, "skipped an entry that would replace the root")
		return nil
	}
	n, err := l.node()
	if err != nil {
		return err
	}
	l.tree.Root.Xattrs = n.Xattrs
	return nil
}

// file applies an entry that is a file of its own.
func (l *layer) file() error {
	n, err := l.node()
	if err != nil {
		return err
	}
	if err := l.write(n); err != nil {
		return err
	}
	_, err = l.place(l.names, n)
	return err
}

// write sends the content of the current entry to the sink.
func (l *layer) write(n *Node) error {
	if !n.Mode.IsRegular() || l.header.Size == 0 {
		return nil
	}
	if err := l.tree.useContent(l.header.Size); err != nil {
		return err
	}
	content, err := l.sink.WriteContent(l.tar, l.header.Size)
	if err != nil {
		return fmt.Errorf("write content: %w", err)
	}
	n.Size, n.Content = l.header.Size, content
	return nil
}

// isRegular reports whether archive/tar delivers an entry of this type as the
// bytes of a file: also what GNU tar calls sparse and POSIX calls contiguous. It
// has turned the zero byte of old archives into TypeReg or TypeDir already. A
// name that ends in a slash stays a regular file here, as in all runtimes.
func isRegular(typeflag byte) bool {
	return typeflag == tar.TypeReg || typeflag == tar.TypeCont || typeflag == tar.TypeGNUSparse
}

// isLandmark reports whether name, at the root, belongs to the eStargz format
// and not to the image; docs/estargz.md of containerd/stargz-snapshotter.
func isLandmark(name string) bool {
	switch name {
	case ".prefetch.landmark", ".no.prefetch.landmark", "stargz.index.json":
		return true
	}
	return false
}

// check reports what no Linux file system could hold.
func (n *Node) check() error {
	switch n.Mode.Type() {
	case 0, fs.ModeDir, fs.ModeNamedPipe, fs.ModeSocket:
	case fs.ModeSymlink:
		if n.Target == "" {
			return errors.New("symlink without a target")
		}
		if len(n.Target) > maxPath {
			return fmt.Errorf("symlink target is %d bytes, more than %d", len(n.Target), maxPath)
		}
	case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
		if n.Major > maxMajor || n.Minor > maxMinor {
			return fmt.Errorf("device %d:%d is beyond %d:%d", n.Major, n.Minor, maxMajor, maxMinor)
		}
	default:
		return fmt.Errorf("a file of type %s", n.Mode.Type())
	}
	return checkXattrs(n.Xattrs)
}
