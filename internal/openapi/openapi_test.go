package openapi

import (
	"encoding/json"
	"reflect"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const source = `package things

// Thing is a thing.
type Thing struct {
	Name  string // its name;
	State State // how it is
	// Parts are
	// other things.
	Parts []Thing
}

type State string

// The states.
const (
	On  State = "on"
	Off State = "off"
)
`

type State string

type Base struct {
	Verbose bool `json:"verbose,omitempty"`
}

type Thing struct {
	Base
	Name   string           `json:"name"`
	State  State            `json:"state"`
	Parts  []Thing          `json:"parts,omitempty"`
	Sizes  map[string]int64 `json:"sizes,omitempty"`
	Made   time.Time        `json:"made,omitzero"`
	Status *int             `json:"status,omitempty"`
	Any    any              `json:"any,omitempty"`
	secret string
}

func describe(t *testing.T, verbs ...Operation) map[string]any {
	t.Helper()
	comments, err := ReadComments(fstest.MapFS{"things.go": {Data: []byte(source)}, "README": {Data: []byte("no Go")}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(Describe("1.2", verbs, comments))
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// at walks down an object.
func at(t *testing.T, v any, keys ...string) any {
	t.Helper()
	for _, key := range keys {
		m, ok := v.(map[string]any)
		if !ok || m[key] == nil {
			t.Fatalf("no %q in %v", key, v)
		}
		v = m[key]
	}
	return v
}

func parse(t *testing.T, text string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSchemaOfAStruct(t *testing.T) {
	_ = Thing{secret: ""}
	verb := Operation{Verb: "thing.show", Summary: "Show", Request: reflect.TypeFor[struct{}](), Result: reflect.TypeFor[Thing]()}
	got := at(t, describe(t, verb), "components", "schemas", "Thing")
	want := parse(t, `{
		"type": "object", "description": "Thing is a thing.", "required": ["name", "state"],
		"properties": {
			"verbose": {"type": "boolean"},
			"name": {"type": "string", "description": "its name;"},
			"state": {"type": "string", "enum": ["on", "off"], "description": "how it is"},
			"parts": {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}, "description": "Parts are other things."},
			"sizes": {"type": "object", "additionalProperties": {"type": "integer", "format": "int64"}},
			"made": {"type": "string", "format": "date-time"},
			"status": {"type": "integer", "format": "int64"},
			"any": {}
		}}`)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("schema differs (-want +got):\n%s", d)
	}
}

func TestWhatIsARequestIsStrict(t *testing.T) {
	result := Operation{Verb: "thing.show", Request: reflect.TypeFor[struct{}](), Result: reflect.TypeFor[Thing]()}
	request := Operation{Verb: "thing.add", Request: reflect.TypeFor[Thing](), Result: reflect.TypeFor[struct{}]()}
	for name, verbs := range map[string][]Operation{"result first": {result, request}, "request first": {request, result}} {
		thing := at(t, describe(t, verbs...), "components", "schemas", "Thing").(map[string]any)
		if extra, ok := thing["additionalProperties"]; !ok || extra != false {
			t.Errorf("%s: additionalProperties of a request is %v, want false", name, extra)
		}
	}
	thing := at(t, describe(t, result), "components", "schemas", "Thing").(map[string]any)
	if extra, ok := thing["additionalProperties"]; ok {
		t.Errorf("additionalProperties of a result is %v, want none: new fields may come", extra)
	}
}

func TestKinds(t *testing.T) {
	thing := reflect.TypeFor[Thing]()
	doc := describe(t,
		Operation{Verb: "a.call", Kind: Call, Request: thing, Result: thing},
		Operation{Verb: "a.stream", Kind: Stream, Request: thing, Result: thing},
		Operation{Verb: "a.upgrade", Kind: Upgrade, Request: thing},
		Operation{Verb: "a.text", Kind: Text, Request: thing})
	for _, tt := range []struct {
		verb string
		keys []string
		want string
	}{
		{"a.call", []string{"operationId"}, `"a.call"`},
		{"a.call", []string{"tags"}, `["a"]`},
		{"a.call", []string{"requestBody", "content", "application/json", "schema"}, `{"$ref": "#/components/schemas/Thing"}`},
		{"a.call", []string{"responses", "200", "content", "application/json", "schema"}, `{"$ref": "#/components/schemas/Thing"}`},
		{"a.call", []string{"responses", "default", "content", "application/json", "schema"}, `{"$ref": "#/components/schemas/Error"}`},
		{"a.stream", []string{"responses", "200", "content", "application/x-ndjson", "schema", "allOf"}, `[{"$ref": "#/components/schemas/Event"},
			{"type": "object", "properties": {"result": {"$ref": "#/components/schemas/Thing"}}}]`},
		{"a.upgrade", []string{"parameters"}, `[{"name": "Upgrade", "in": "header", "required": true, "schema": {"type": "string", "enum": ["banger-stream"]}}]`},
		{"a.upgrade", []string{"responses", "101", "description"}, `"The connection is a byte stream to the guest's agent from here on."`},
		{"a.text", []string{"responses", "200", "content", "text/plain", "schema"}, `{"type": "string"}`},
	} {
		got := at(t, doc, append([]string{"paths", "/v1/" + tt.verb, "post"}, tt.keys...)...)
		if d := cmp.Diff(parse(t, tt.want), got); d != "" {
			t.Errorf("%s %v differs (-want +got):\n%s", tt.verb, tt.keys, d)
		}
	}
}

func TestPropertiesKeepTheirOrder(t *testing.T) {
	b, err := json.Marshal(Properties{{"z", &Schema{Type: "string"}}, {"a", &Schema{}}})
	if want := `{"z":{"type":"string"},"a":{}}`; err != nil || string(b) != want {
		t.Errorf("got %s, %v; want %s", b, err, want)
	}
}
