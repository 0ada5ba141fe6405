package kernel

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banger/internal/api"
)

func TestReadDeb(t *testing.T) {
	t.Parallel()
	tree := []testFile{{"boot/", nil}, {"boot/a", []byte("A")}, {"../../etc/b", []byte("B")}, {"c", []byte("->a")}}
	for _, tt := range []struct {
		member string
		pack   func([]byte) []byte
	}{
		{"data.tar", bytes.Clone},
		{"data.tar.gz", func(b []byte) []byte { return packGzip(t, b) }},
		{"data.tar.zst", func(b []byte) []byte { return packZstd(t, b) }},
		{"data.tar.xz/", func(b []byte) []byte { return packWith(t, b, "xz") }},
	} {
		t.Run(tt.member, func(t *testing.T) {
			t.Parallel()
			var got []string
			err := readDeb(t.Context(), bytes.NewReader(fakeDeb(t, tt.member, tt.pack, tree)),
				func(name string, h *tar.Header, data []byte) error {
					got = append(got, name+"="+string(data)+h.Linkname)
					return nil
				})
			if want := []string{"boot=", "boot/a=A", "etc/b=B", "c=a"}; err != nil || !slices.Equal(got, want) {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
		})
	}
}

func TestReadDebRefuses(t *testing.T) {
	t.Parallel()
	good := fakeDeb(t, "data.tar.zst", func(b []byte) []byte { return packZstd(t, b) }, []testFile{{"boot/a", bytes.Repeat([]byte("A"), 9000)}})
	data := bytes.Index(good, []byte("data.tar"))
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	err := readDeb(canceled, bytes.NewReader(good), func(string, *tar.Header, []byte) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: got %v, want %v", err, context.Canceled)
	}
	for _, tt := range []struct {
		name string
		deb  []byte
		is   error
	}{
		{"empty", nil, api.ErrInvalid},
		{"text", []byte("a package? no"), api.ErrInvalid},
		{"another archive", bytes.Replace(good, []byte("debian-binary"), []byte("something.cpp"), 1), api.ErrInvalid},
		{"bad size", append(bytes.Clone(good[:data+48]), "-1        `\n"...), api.ErrInvalid},
		{"no data", good[:data], io.ErrUnexpectedEOF},
		{"cut off", good[:len(good)-20], io.ErrUnexpectedEOF},
		{"lzma", fakeDeb(t, "data.tar.lzma", func([]byte) []byte { return []byte("\x5d\x00\x00\x80\x00\xff\xff\xff") }, nil), errors.ErrUnsupported},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := readDeb(t.Context(), bytes.NewReader(tt.deb), func(string, *tar.Header, []byte) error { return nil })
			if !errors.Is(err, tt.is) {
				t.Errorf("got %v, want one that is %v", err, tt.is)
			}
		})
	}
}

// FuzzReadDeb holds that no package makes a name that is not clean and relative.
func FuzzReadDeb(f *testing.F) {
	f.Add(fakeDeb(f, "data.tar", bytes.Clone, []testFile{{"../../x", []byte("X")}}))
	f.Fuzz(func(t *testing.T, deb []byte) {
		_ = readDeb(t.Context(), bytes.NewReader(deb), func(name string, _ *tar.Header, _ []byte) error {
			if strings.HasPrefix(name, "/") || name != "" && name != strings.TrimPrefix(filepath.Clean("/"+name), "/") {
				t.Errorf("got name %q", name)
			}
			return nil
		})
	})
}

func TestImportDeb(t *testing.T) {
	t.Parallel()
	s, src := testStore(t)
	vmlinuz, err := os.ReadFile(filepath.Join(src, "vmlinuz"))
	if err != nil {
		t.Fatal(err)
	}
	pack := func(b []byte) []byte { return packZstd(t, b) }
	write := func(name string, files []testFile) string {
		p := filepath.Join(src, name)
		if err := os.WriteFile(p, fakeDeb(t, "data.tar.zst", pack, files), 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	k, err := s.Import(t.Context(), api.KernelImport{Path: write("good.deb", debTree(t, vmlinuz))}, nil)
	if err != nil {
		t.Fatal(err)
	}
	checkWhole(t, k)
	var names []string
	for name := range k.SHA256 {
		names = append(names, name)
	}
	slices.Sort(names)
	if want := []string{configFile, modulesFile, vmlinuxFile}; !slices.Equal(names, want) || k.Release != testRelease {
		t.Errorf("got %s with %q, want %s with %q", k.Release, names, testRelease, want)
	}

	dir := t.TempDir()
	st, err := s.Resolve(t.Context(), api.KernelChoice{KernelPath: filepath.Join(src, "good.deb")}, dir, nil)
	want := Staged{KernelPath: filepath.Join(dir, vmlinuxFile), ModulesDir: filepath.Join(dir, modulesFile), Release: testRelease, Arch: "amd64"}
	if err != nil || st != want {
		t.Errorf("resolve: got %+v, %v, want %+v", st, err, want)
	}

	before := entries(t, s.Dir)
	_, err = s.Import(t.Context(), api.KernelImport{Path: filepath.Join(src, "good.deb"), ModulesDir: filepath.Join(src, "modules"), Name: "twice"}, nil)
	if !errors.Is(err, api.ErrInvalid) {
		t.Errorf("a package and a modules directory: got %v, want ErrInvalid", err)
	}
	other := testFile{"lib/modules/1.2.3/kernel/x.ko", fakeModule("1.2.3", nil)}
	for name, files := range map[string][]testFile{
		"no kernel":         debTree(t, vmlinuz)[3:],
		"not a kernel":      debTree(t, []byte("text")),
		"another's modules": {{"boot/vmlinuz-" + testRelease, vmlinuz}, other},
		"modules of two":    append(debTree(t, vmlinuz), other),
		"no module":         {{"boot/vmlinuz-" + testRelease, vmlinuz}, {"lib/modules/" + testRelease + "/modules.order", nil}},
	} {
		_, err := s.Import(t.Context(), api.KernelImport{Path: write("bad.deb", files), Name: "bad"}, nil)
		if !errors.Is(err, api.ErrInvalid) && !errors.Is(err, api.ErrNotFound) {
			t.Errorf("%s: got %v, want ErrInvalid or ErrNotFound", name, err)
		}
		if got := entries(t, s.Dir); !slices.Equal(got, before) {
			t.Errorf("%s: left behind: %q, want %q", name, got, before)
		}
	}
}
