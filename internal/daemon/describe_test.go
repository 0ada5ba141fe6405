package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"banger/internal/api"
	"banger/internal/image"
)

// apiDescription is the description as a client reads it.
type apiDescription struct {
	t       *testing.T
	doc     map[string]any
	checked map[string]bool // verbs whose result was held against it
}

func readDescription(t *testing.T, s *server) *apiDescription {
	t.Helper()
	c, _ := serve(t, s)
	d := &apiDescription{t: t, checked: map[string]bool{}}
	if err := c.Call(t.Context(), "openapi.json", nil, &d.doc); err != nil {
		t.Fatal(err)
	}
	return d
}

// at walks down the document.
func (d *apiDescription) at(keys ...string) any {
	d.t.Helper()
	var v any = d.doc
	for _, key := range keys {
		m, ok := v.(map[string]any)
		if !ok || m[key] == nil {
			d.t.Fatalf("the description has no %q", keys)
		}
		v = m[key]
	}
	return v
}

// exchange holds a request and its result against the description.
func (d *apiDescription) exchange(verb string, req any, result []byte) {
	d.t.Helper()
	d.checked[verb] = true
	if req == nil {
		req = none{}
	}
	b, err := json.Marshal(req)
	if err != nil {
		d.t.Fatal(err)
	}
	d.hold(verb+" request", b, d.at("paths", "/v1/"+verb, "post", "requestBody", "content", "application/json", "schema"))
	content := d.at("paths", "/v1/"+verb, "post", "responses", "200", "content").(map[string]any)
	schema := content["application/json"]
	if schema == nil {
		event := content["application/x-ndjson"].(map[string]any)["schema"].(map[string]any)["allOf"].([]any)
		schema = map[string]any{"schema": event[1].(map[string]any)["properties"].(map[string]any)["result"]}
	}
	d.hold(verb+" result", result, schema.(map[string]any)["schema"])
}

func (d *apiDescription) hold(what string, value []byte, schema any) {
	d.t.Helper()
	var v any
	if err := json.Unmarshal(value, &v); err != nil {
		d.t.Fatal(err)
	}
	for _, problem := range d.problems(schema.(map[string]any), v, what) {
		d.t.Error(problem)
	}
}

// problems holds a value against a JSON schema, of which it knows what openapi
// writes. Properties that are not in the schema are problems: the description is
// of all there is.
func (d *apiDescription) problems(schema map[string]any, v any, at string) (found []string) {
	if ref, ok := schema["$ref"].(string); ok {
		schema = d.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...).(map[string]any)
	}
	wrong := func(format string, args ...any) {
		found = append(found, at+": "+fmt.Sprintf(format, args...))
	}
	switch want := schema["type"]; v := v.(type) {
	case nil:
		wrong("null")
	case string:
		if want != "string" && want != nil {
			wrong("got a string, want %v", want)
		}
		if enum, ok := schema["enum"].([]any); ok && !slices.Contains(enum, any(v)) {
			wrong("got %q, want one of %v", v, enum)
		}
		if _, err := time.Parse(time.RFC3339Nano, v); schema["format"] == "date-time" && err != nil {
			wrong("%v", err)
		}
	case bool:
		if want != "boolean" {
			wrong("got a boolean, want %v", want)
		}
	case float64:
		if want != "integer" || v != float64(int64(v)) {
			wrong("got the number %v, want %v", v, want)
		}
	case []any:
		items, _ := schema["items"].(map[string]any)
		if want != "array" || items == nil {
			wrong("got an array, want %v", want)
			return found
		}
		for i, item := range v {
			found = append(found, d.problems(items, item, fmt.Sprintf("%s[%d]", at, i))...)
		}
	case map[string]any:
		if want == nil { // anything
			return nil
		}
		properties, _ := schema["properties"].(map[string]any)
		values, _ := schema["additionalProperties"].(map[string]any)
		for name, value := range v {
			p, ok := properties[name].(map[string]any)
			switch {
			case ok:
				found = append(found, d.problems(p, value, at+"."+name)...)
			case values != nil:
				found = append(found, d.problems(values, value, at+"."+name)...)
			default:
				wrong("has %q, which is not described", name)
			}
		}
		required, _ := schema["required"].([]any)
		for _, name := range required {
			if _, ok := v[name.(string)]; !ok {
				wrong("has no %q", name)
			}
		}
	}
	return found
}

// verbs is the API of a daemon that cannot do any of it.
func verbs(version string) *server {
	return (&daemon{Config: Config{Version: version}, images: &image.Store{}}).routes()
}

func TestDescription(t *testing.T) {
	s := verbs("dev")
	d := readDescription(t, s)
	paths := d.at("paths").(map[string]any)
	for _, op := range s.verbs {
		if paths["/v1/"+op.Verb] == nil {
			t.Errorf("%s is served and not described", op.Verb)
		}
		if op.Summary == "" {
			t.Errorf("%s has no summary", op.Verb)
		}
	}
	if len(paths) != len(s.verbs) || len(paths) < 20 {
		t.Errorf("%d paths, %d verbs", len(paths), len(s.verbs))
	}
	var refs func(v any)
	refs = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				d.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
			}
			for _, child := range v {
				refs(child)
			}
		case []any:
			for _, child := range v {
				refs(child)
			}
		}
	}
	refs(d.doc)
	states := d.at("components", "schemas", "VM", "properties").(map[string]any)["state"].(map[string]any)["enum"]
	if all, ok := states.([]any); !ok || len(all) != 6 || all[0] != "created" {
		t.Errorf("states of a VM: %v, want all six", states)
	}
}

func TestDescriptionByGET(t *testing.T) {
	_, socket := serve(t, verbs("1.2"))
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer c.CloseIdleConnections()
	res, err := c.Get("http://localhost/v1/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		OpenAPI string `json:"openapi"`
		Info    struct{ Version string }
	}
	if err := json.Unmarshal(b, &doc); err != nil || !strings.HasPrefix(doc.OpenAPI, "3.1") || doc.Info.Version != "1.2" {
		t.Errorf("%s: %+v, %v", res.Status, doc, err)
	}
	if res, err := c.Get("http://localhost/v1/image.list"); err != nil || res.StatusCode != http.StatusNotFound {
		t.Errorf("GET of another verb: %v, %v; want 404", res, err)
	} else {
		res.Body.Close()
	}
}

// What a client sends and gets is what is described: for each verb that can be
// called without a guest.
func TestDescriptionIsTrue(t *testing.T) {
	d := newTestDaemon(t)
	d.described = readDescription(t, d.routes())
	d.pull("web")
	d.create("dev", "web")
	var v api.ImageVerified
	d.stream("image.verify", api.ImageVerify{Name: "web"}, &v)
	var changes []api.Change
	d.stream("image.diff", api.ImageDiff{Name: "dev"}, &changes)
	var img api.Image
	d.call("image.tag", api.ImageTag{Image: "web", Name: "alias"}, &img)
	d.call("image.show", api.Named{Name: "alias"}, &img)
	d.stream("image.register", api.ImageRegister{Name: "copy", RootfsPath: img.RootfsPath, Copy: true}, &img)
	d.stream("image.promote", api.ImagePromote{VM: "dev"}, &img)
	for _, verb := range []string{"image.list", "kernel.list", "vm.list", "system.df", "daemon.status"} {
		d.call(verb, nil, nil)
	}
	d.call("kernel.show", api.Named{Name: "k"}, nil)
	d.call("vm.show", api.Named{Name: "dev"}, nil)
	d.call("vm.stop", api.VMStop{Name: "dev"}, nil)
	d.call("image.rm", api.ImageRemove{Name: "alias"}, nil)
	d.call("image.prune", api.Prune{All: true, DryRun: true}, nil)
	d.call("vm.rm", api.VMRemove{Name: "dev"}, nil)
	var pruned []api.Pruned
	d.stream("system.prune", api.Prune{All: true}, &pruned)
	d.write(d.images.Dir+"/notes", nil)
	d.problems(false)
	if len(d.described.checked) < 20 {
		t.Errorf("held %d verbs against the description, want 20", len(d.described.checked))
	}
}
