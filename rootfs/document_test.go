package rootfs

import (
	"archive/tar"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

//go:generate go test -run ^TestDocument$ -update

var update = flag.Bool("update", false, "write docs/conformance.md anew")

// TestDocument holds docs/conformance.md to the table and to what becomes of it.
func TestDocument(t *testing.T) {
	t.Parallel()
	const path = "../docs/conformance.md"
	want := document(t)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the conformance table gives: run `make docs`", path)
	}
}

const intro = `# Layers: the conformance table

<!-- Made by ` + "`make docs`" + ` from rootfs/rules_*_test.go: edit those. -->

What becomes of OCI layers in banger, case by case. Each row is a test: the layers are applied by package ` + "`rootfs`" + `,
and the result is the column *banger*. %s of root runs the same layers, and the test fails when its
result is not what the last column says. Of %d cases umoci gives the same in %d and something else in %d; %d
are not compared, for the reason that they give.

- *Layers* are numbered, base first, and list their entries in the order of the archive. ` + "`l = f`" + ` is a hard link to f,
  ` + "`l -> f`" + ` a symlink. A result lists the tree: what of it is root:root, 1970-01-01 and without extended attributes says
  no more than name, mode and content. Directories that no entry describes have no time of their own to show.
- A source is a section of the [image specification's layer.md](https://github.com/opencontainers/image-spec/blob/main/layer.md)
  or another document. Where the specification is *silent*, what most runtimes do is the rule, and where they
  differ, what loses nothing.
`

// document returns the table as Markdown.
func document(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	all, differ, depend := 0, 0, 0
	for r := range rows {
		all++
		switch {
		case r.umoci == "*":
			depend++
		case r.umoci != "" && (r.err == "" || r.umoci != "error"):
			differ++
		}
	}
	fmt.Fprintf(&b, intro, "`umoci unpack` "+umociVersion, all, all-differ-depend, differ, depend)
	for _, rule := range conformance {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n*Source: %s.*\n\n| case | layers | banger | umoci |\n| --- | --- | --- | --- |\n", rule.name, rule.does, rule.source)
		for _, r := range rule.rows {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", strings.ReplaceAll(r.name, "_", " "), r.describeLayers(), r.describeResult(t), r.describeUmoci())
		}
	}
	return b.String()
}

func (r row) describeLayers() string {
	var all []string
	for i, layer := range r.layers {
		text := fmt.Sprintf("%d:", i+1)
		for _, e := range layer {
			text += " " + code(e.String())
		}
		if len(layer) == 0 {
			text += " empty"
		}
		all = append(all, text)
	}
	if all == nil {
		return "none"
	}
	return strings.Join(all, "<br>")
}

func (r row) describeResult(t *testing.T) string {
	tree, err := apply(t, r.layers...)
	if err != nil {
		return "error: " + code(err.Error())
	}
	text := describeListing(list(tree))
	for kind := range strings.FieldsSeq(warningKinds(tree)) {
		text += "<br>warning: " + kind
	}
	return text
}

func (r row) describeUmoci() string {
	switch {
	case r.umoci == "" && r.err == "":
		return "the same"
	case r.umoci == "*":
		return "not compared: " + r.why
	case r.umoci == "" || r.umoci == "error" && r.err != "":
		return "error"
	case r.umoci == "error":
		return "error: " + r.why
	}
	return describeListing(lines(r.umoci)) + "<br>" + r.why
}

func describeListing(listing string) string {
	var all []string
	for line := range strings.Lines(listing) {
		all = append(all, code(strings.TrimSuffix(line, "\n")))
	}
	if all == nil {
		return "an empty tree"
	}
	return strings.Join(all, "<br>")
}

// String is what a listing would say of the entry alone.
func (e entry) String() string {
	if e.note != "" {
		return e.note
	}
	base := path.Base(e.Name)
	if strings.HasPrefix(base, whiteoutPrefix) && e.Typeflag == tar.TypeReg && e.body == "" {
		return show(e.Name)
	}
	it := item{
		path: e.Name, mode: mode(e.Mode), uid: uint32(e.Uid), gid: uint32(e.Gid), major: uint32(e.Devmajor), minor: uint32(e.Devminor),
		mtime: e.ModTime, target: e.Linkname, body: e.body, nlink: 1,
	}
	text := ""
	switch e.Typeflag {
	case tar.TypeLink:
		it.mode |= fs.ModeSymlink
		text = strings.Replace(it.String(), " -> ", " = ", 1)
		text = strings.TrimSuffix(text, " 000")
	case tar.TypeDir:
		it.mode |= fs.ModeDir
	case tar.TypeSymlink:
		it.mode |= fs.ModeSymlink
	case tar.TypeFifo:
		it.mode |= fs.ModeNamedPipe
	case tar.TypeBlock:
		it.mode |= fs.ModeDevice
	case tar.TypeChar:
		it.mode |= fs.ModeDevice | fs.ModeCharDevice
	case tar.TypeReg:
	default:
		text = fmt.Sprintf("%s, type %q", show(e.Name), e.Typeflag)
	}
	if text == "" {
		text = it.String()
	}
	for _, id := range []struct {
		name  string
		value int
	}{{"uid", e.Uid}, {"gid", e.Gid}} {
		if id.value < 0 || int64(id.value) > maxID {
			text += fmt.Sprintf(" %s=%d", id.name, id.value)
		}
	}
	for _, r := range e.records() {
		text += " {" + r + "}"
	}
	return text
}

// records are the PAX records of e, those of xattrs by the attributes' names.
func (e entry) records() []string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(e.PAXRecords)) {
		all = append(all, fmt.Sprintf("%s=%q", strings.TrimPrefix(key, paxXattr), e.PAXRecords[key]))
	}
	return all
}

// code returns text as Markdown's code within a table, with what is too long left out.
func code(text string) string {
	return "`" + strings.NewReplacer("|", `\|`, "`", "'").Replace(abbreviate(text)) + "`"
}

func abbreviate(text string) string {
	text = repeats.ReplaceAllStringFunc(text, func(run string) string {
		return fmt.Sprintf("%s{%d}", run[:1], len(run))
	})
	if len(text) > 200 {
		text = fmt.Sprintf("%s … (%d bytes)", text[:50], len(text))
	}
	return text
}

// repeats matches runs of one letter; Go's expressions know no back-references.
var repeats = regexp.MustCompile(`n{20,}|v{20,}`)
