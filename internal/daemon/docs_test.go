package daemon

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"banger/internal/api"
	"banger/internal/openapi"
)

//go:generate go test -run ^TestReference$ -update

var update = flag.Bool("update", false, "write docs/api.md anew")

const referencePath = "../../docs/api.md"

// TestReference holds docs/api.md to the verbs as they are routed.
func TestReference(t *testing.T) {
	comments, err := openapi.ReadComments(api.GoSource)
	if err != nil {
		t.Fatal(err)
	}
	s := verbs("dev")
	r := reference{doc: openapi.Describe("dev", s.verbs, comments), requests: map[string]bool{}}
	for _, op := range s.verbs {
		r.verb(t, op)
	}
	r.types()
	got := r.String()
	if *update {
		if err := os.WriteFile(referencePath, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(referencePath)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("docs/api.md is not what the daemon serves: run make docs")
	}
}

// reference is the API as a document.
type reference struct {
	strings.Builder
	doc      openapi.Document
	noun     string          // of the verb before
	requests map[string]bool // types that are described with their verb
}

const referenceHead = `# The HTTP API

<!-- Made by "make docs" from the table that the daemon routes by. -->

The daemon serves one ` + "`POST /v1/<verb>`" + ` for each verb below, over HTTP on a unix socket that only its
owner can open:

    SOCKET=$(banger daemon status --json | jq -r .socket)
    curl --unix-socket $SOCKET http://localhost/v1/image.list -d '{}'

- A request is one JSON object. A field or a verb that is not known is an error. Sizes are bytes,
  times RFC 3339. Paths are absolute: the daemon has another working directory.
- An error has a status of 400 or more and the body ` + "`{\"code\", \"message\", \"hint\"}`" + `. The codes are not-found,
  exists, in-use, invalid, unsupported, canceled and failed.
- A verb that is marked *progress* answers 200 and lines of JSON, each an [Event](#event). The last one,
  and no other, has ` + "`result`" + ` or ` + "`error`" + `.
- Who closes the connection cancels the call. Nothing is left of it.

` + "`GET /v1/openapi.json`" + ` has all of this in the form of OpenAPI 3.1.
`

// samples are what examples say where nothing can be left out, by the name of the
// field, or by noun and field.
var samples = map[string]string{
	"ref": "docker.io/library/alpine", "name": "web", "image": "web", "vm": "dev", "rootfs_path": "/srv/web.ext4",
	"source": "debian", "path": "/boot/vmlinuz-6.1.0", "kernel name": "debian", "vm name": "dev",
}

func (r *reference) verb(t *testing.T, op openapi.Operation) {
	t.Helper()
	if r.Len() == 0 {
		r.WriteString(referenceHead)
	}
	if noun, _, _ := strings.Cut(op.Verb, "."); noun != r.noun && op.Verb != description {
		r.noun = noun
		fmt.Fprintf(r, "\n## %s\n", noun)
	}
	m := r.doc.Paths[openapi.Path(op.Verb)].Post
	fmt.Fprintf(r, "\n### %s\n\n%s.\n\n", op.Verb, op.Summary)
	request := m.RequestBody.Content["application/json"].Schema
	if ref := typeName(request); ref != "" {
		request = r.doc.Components.Schemas[ref]
		r.requests[ref] = true
	}
	body := r.example(request)
	// What is shown must work.
	d := json.NewDecoder(strings.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(reflect.New(op.Request).Interface()); err != nil {
		t.Errorf("example of %s: %s: %v", op.Verb, body, err)
	}
	upgrade := ""
	if op.Kind == openapi.Upgrade {
		upgrade = " -H 'Connection: Upgrade' -H 'Upgrade: " + api.Protocol + "'"
	}
	fmt.Fprintf(r, "    curl --unix-socket $SOCKET http://localhost%s%s -d '%s'\n", openapi.Path(op.Verb), upgrade, body)
	r.fields(request)
	switch op.Kind {
	case openapi.Call:
		fmt.Fprintf(r, "\nResult: %s.\n", r.typeOf(m.Responses["200"].Content["application/json"].Schema))
	case openapi.Stream:
		event := m.Responses["200"].Content["application/x-ndjson"].Schema
		fmt.Fprintf(r, "\nResult, with *progress*: %s.\n", r.typeOf(event.AllOf[1].Properties[0].Schema))
	case openapi.Upgrade:
		r.WriteString("\nResult: status 101, and the connection is a byte stream to the guest's agent from then on.\n")
	case openapi.Text:
		r.WriteString("\nResult: plain text, as it comes.\n")
	}
}

// example is a request with what cannot be left out.
func (r *reference) example(request *openapi.Schema) string {
	var all []string
	for _, p := range request.Properties {
		if !slices.Contains(request.Required, p.Name) {
			continue
		}
		switch p.Schema.Type {
		case "string":
			all = append(all, fmt.Sprintf("%q: %q", p.Name, cmp.Or(samples[r.noun+" "+p.Name], samples[p.Name], "…")))
		case "boolean":
			all = append(all, fmt.Sprintf("%q: true", p.Name))
		case "array":
			all = append(all, fmt.Sprintf("%q: []", p.Name))
		case "integer":
			all = append(all, fmt.Sprintf("%q: 1", p.Name))
		}
	}
	return "{" + strings.Join(all, ", ") + "}"
}

// fields prints the fields of an object as a table.
func (r *reference) fields(o *openapi.Schema) {
	if len(o.Properties) == 0 {
		return
	}
	r.WriteString("\n| field | type | |\n| --- | --- | --- |\n")
	for _, p := range o.Properties {
		name := "`" + p.Name + "`"
		if slices.Contains(o.Required, p.Name) {
			name = "**" + name + "**"
		}
		text := p.Schema.Description
		if len(p.Schema.Enum) > 0 {
			text = strings.TrimPrefix(text+"; one of "+strings.Join(p.Schema.Enum, ", "), "; ")
		}
		fmt.Fprintf(r, "| %s | %s | %s |\n", name, r.typeOf(p.Schema), strings.ReplaceAll(text, "|", "\\|"))
	}
}

// types prints the objects that are not requests.
func (r *reference) types() {
	r.WriteString("\n## Types\n\nA field whose name is bold is always there; in a request, it must be.\n")
	for _, name := range slices.Sorted(maps.Keys(r.doc.Components.Schemas)) {
		if r.requests[name] {
			continue
		}
		o := r.doc.Components.Schemas[name]
		fmt.Fprintf(r, "\n### %s\n\n%s\n", name, o.Description)
		r.fields(o)
	}
}

func typeName(s *openapi.Schema) string {
	return s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]
}

// typeOf names a type, as a link where there is more to say.
func (r *reference) typeOf(s *openapi.Schema) string {
	name := typeName(s)
	switch {
	case name != "":
		return fmt.Sprintf("[%s](#%s)", name, strings.ToLower(name))
	case s.Type == "array":
		return "array of " + r.typeOf(s.Items)
	case s.Type == "object" && len(s.Properties) == 0:
		if values, ok := s.Additional.(*openapi.Schema); ok {
			return "object of " + r.typeOf(values)
		}
		return "`{}`"
	case s.Format == "date-time":
		return "time"
	}
	return cmp.Or(s.Type, "any")
}
