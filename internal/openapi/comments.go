package openapi

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"strconv"
	"strings"
)

// Comments is what the source of some types says about them.
type Comments struct {
	types  map[string]string   // by the type's name
	fields map[string]string   // by "Type.Field"
	values map[string][]string // by the type's name: its constants
}

// ReadComments reads the Go files in the root of each source.
func ReadComments(sources ...fs.FS) (Comments, error) {
	c := Comments{map[string]string{}, map[string]string{}, map[string][]string{}}
	for _, source := range sources {
		names, err := fs.Glob(source, "*.go")
		if err != nil {
			return c, err
		}
		for _, name := range names {
			b, err := fs.ReadFile(source, name)
			if err != nil {
				return c, err
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, b, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return c, err
			}
			for _, decl := range file.Decls {
				if d, ok := decl.(*ast.GenDecl); ok {
					c.add(d)
				}
			}
		}
	}
	return c, nil
}

func (c Comments) add(d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			name := spec.Name.Name
			c.types[name] = line(d.Doc, spec.Doc)
			if s, ok := spec.Type.(*ast.StructType); ok {
				for _, f := range s.Fields.List {
					for _, id := range f.Names {
						c.fields[name+"."+id.Name] = line(f.Doc, f.Comment)
					}
				}
			}
		case *ast.ValueSpec:
			// A constant of a type of ours, as VMRunning VMState = "running".
			t, ok := spec.Type.(*ast.Ident)
			if !ok || d.Tok != token.CONST {
				continue
			}
			for _, v := range spec.Values {
				lit, ok := v.(*ast.BasicLit)
				if !ok || lit.Kind != token.STRING {
					continue
				}
				if s, err := strconv.Unquote(lit.Value); err == nil {
					c.values[t.Name] = append(c.values[t.Name], s)
				}
			}
		}
	}
}

// line is the first comment that there is, without line breaks.
func line(groups ...*ast.CommentGroup) string {
	for _, g := range groups {
		if text := g.Text(); text != "" {
			return strings.Join(strings.Fields(text), " ")
		}
	}
	return ""
}
