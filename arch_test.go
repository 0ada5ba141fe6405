package banger_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "banger"

// level is the height of each package. A package imports only packages of a
// lower level; api, plain data and errors, lies below all that know of banger.
// ARCHITECTURE.md draws the same map.
var level = map[string]int{
	"ext4": 0, "rootfs": 0, "internal/api": 0, "internal/dirs": 0, "internal/inflate": 0, "internal/du": 0,

	"internal/agent": 1, "internal/bundle": 1, "internal/catalog": 1, "internal/client": 1, "internal/compare": 1, "internal/export": 1, "internal/clone": 1, "internal/oci": 1, "internal/openapi": 1, "internal/progress": 1, "internal/store": 1, "internal/vmm": 1,

	"internal/config": 2, "internal/guest": 2,

	"internal/image": 3, "internal/kernel": 3, "internal/vm": 3, "internal/vmm/qemu": 3,

	"internal/daemon": 4,

	"cmd/banger": 5, "cmd/banger-vsock-agent": 5, "bench": 5,
}

// standalone packages know the standard library and nothing else, so that
// anyone can take them out of here.
var standalone = []string{"ext4", "rootfs", "internal/inflate"}

// agentMay lists the modules that may be in the guest agent: it is in every
// guest's memory and part of what makes a disk's bytes.
var agentMay = []string{
	"github.com/hashicorp/yamux", "github.com/vishvananda/netlink",
	"golang.org/x/crypto", "golang.org/x/sys",
}

// pkg is what a package's files, tests aside, say of it.
type pkg struct {
	docs    []string // files with a package comment
	program bool
	imports map[string]string // path to the file that has it
}

// sources reads the files themselves: a pass of a test that runs "go list" is
// cached, and stays cached when the imports change.
func sources(t *testing.T) map[string]*pkg {
	t.Helper()
	pkgs := map[string]*pkg{}
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || len(name) > 1 && strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		p := pkgs[path.Dir(name)]
		if p == nil {
			p = &pkg{imports: map[string]string{}}
			pkgs[path.Dir(name)] = p
		}
		p.add(name, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return pkgs
}

func (p *pkg) add(name string, f *ast.File) {
	if f.Doc != nil {
		p.docs = append(p.docs, name)
	}
	p.program = f.Name.Name == "main"
	for _, spec := range f.Imports {
		if imp, err := strconv.Unquote(spec.Path.Value); err == nil {
			p.imports[imp] = name
		}
	}
}

// own turns an import path of this module into its directory.
func own(imp string) (string, bool) {
	return strings.CutPrefix(imp, module+"/")
}

// foreign says whether an import path is outside the standard library.
func foreign(imp string) bool {
	host, _, _ := strings.Cut(imp, "/")
	return strings.Contains(host, ".")
}

func TestImportsPointDown(t *testing.T) {
	pkgs := sources(t)
	for dir, p := range pkgs {
		if _, ok := level[dir]; !ok {
			t.Errorf("%s has no level: add it here and to ARCHITECTURE.md", dir)
		}
		for imp, file := range p.imports {
			to, ok := own(imp)
			if ok && level[to] >= level[dir] {
				t.Errorf("%s: level %d imports %s, level %d", file, level[dir], to, level[to])
			}
			if (ok || foreign(imp)) && slices.Contains(standalone, dir) {
				t.Errorf("%s imports %s, want the standard library only", file, imp)
			}
		}
	}
	for dir := range level {
		if pkgs[dir] == nil {
			t.Errorf("level names %s, which is gone", dir)
		}
	}
}

func TestOnePackageComment(t *testing.T) {
	for dir, p := range sources(t) {
		want := path.Join(dir, path.Base(dir)+".go")
		if p.program {
			want = path.Join(dir, "main.go")
		}
		if !slices.Equal(p.docs, []string{want}) {
			t.Errorf("%s: package comments are in %q, want one, in %s", dir, p.docs, want)
		}
	}
}

func TestAgentStaysSmall(t *testing.T) {
	pkgs := sources(t)
	seen := map[string]bool{}
	var visit func(dir string)
	visit = func(dir string) {
		if seen[dir] || pkgs[dir] == nil {
			return
		}
		seen[dir] = true
		for imp, file := range pkgs[dir].imports {
			if to, ok := own(imp); ok {
				visit(to)
			}
			allowed := slices.ContainsFunc(agentMay, func(m string) bool {
				return imp == m || strings.HasPrefix(imp, m+"/")
			})
			if imp == "net/http" || foreign(imp) && !allowed {
				t.Errorf("%s imports %s, and the guest agent depends on it", file, imp)
			}
		}
	}
	visit("cmd/banger-vsock-agent")
}
