// Package openapi describes the daemon's API in the form of the OpenAPI
// Specification 3.1.1 (https://spec.openapis.org/oas/v3.1.1.html). [Describe]
// makes a [Document] of the table that the daemon routes by: schemas come from
// the Go types by reflection, the words from the comments of their source. What
// is served and what is described cannot differ.
package openapi

import (
	"fmt"
	"reflect"
	"slices"

	"banger/internal/api"
)

// Kind is how a verb answers.
type Kind int

// The kinds of verbs.
const (
	Call    Kind = iota // one JSON value
	Stream              // lines of JSON: api.Events, of which the last has the result or the error
	Upgrade             // the connection becomes a byte stream
	Text                // plain text, as it comes
)

// Operation is one verb of the API.
type Operation struct {
	Verb    string // "image.pull", the last element of its path
	Summary string
	Kind    Kind
	Request reflect.Type
	Result  reflect.Type // of a Call or Stream
}

// Document is a description; as JSON it is an OpenAPI document.
type Document struct {
	OpenAPI    string     `json:"openapi"`
	Info       Info       `json:"info"`
	Servers    []Server   `json:"servers"`
	Paths      Paths      `json:"paths"`
	Components Components `json:"components"`
}

// Info is the OpenAPI object of that name; so are the types below.
type Info struct {
	Title       string  `json:"title"`
	Version     string  `json:"version"`
	Description string  `json:"description"`
	License     License `json:"license"`
}

// License names the license of the API.
type License struct {
	Name       string `json:"name"`
	Identifier string `json:"identifier"` // SPDX
}

// Server says where the API is.
type Server struct {
	URL         string `json:"url"`
	Description string `json:"description"`
}

// Paths is the paths by name; all of them have the method POST only.
type Paths map[string]PathItem

// PathItem is what one path can do.
type PathItem struct {
	Post Method `json:"post"`
}

// Method is a method of a path.
type Method struct {
	OperationID string              `json:"operationId"`
	Summary     string              `json:"summary"`
	Tags        []string            `json:"tags"` // the noun
	Parameters  []Parameter         `json:"parameters,omitempty"`
	RequestBody Body                `json:"requestBody"`
	Responses   map[string]Response `json:"responses"`
}

// Parameter is a header that a request must have.
type Parameter struct {
	Name     string  `json:"name"`
	In       string  `json:"in"`
	Required bool    `json:"required"`
	Schema   *Schema `json:"schema"`
}

// Body is the body of a request.
type Body struct {
	Required bool             `json:"required"`
	Content  map[string]Media `json:"content"`
}

// Response is one way to answer.
type Response struct {
	Description string           `json:"description"`
	Content     map[string]Media `json:"content,omitempty"`
}

// Media is the shape of a body.
type Media struct {
	Schema *Schema `json:"schema"`
}

// Components holds the schemas that others refer to.
type Components struct {
	Schemas map[string]*Schema `json:"schemas"`
}

const about = `The daemon's API: one POST for each verb, over HTTP on a unix socket that only its owner
may open. A request is a JSON object; "{}" when there is nothing to say. Fields that are not
known are errors. Sizes are bytes, times are RFC 3339.`

// Describe describes the verbs; comments are of the packages that the types are
// from.
func Describe(version string, verbs []Operation, comments Comments) Document {
	s := schemas{comments: comments, named: map[string]*named{}}
	doc := Document{
		OpenAPI: "3.1.1",
		Info: Info{
			Title: "banger", Version: version, Description: about,
			License: License{Name: "Apache License 2.0", Identifier: "Apache-2.0"},
		},
		Servers: []Server{{URL: "http://localhost", Description: "the unix socket that `banger daemon status` names"}},
		Paths:   Paths{},
	}
	for _, op := range verbs {
		doc.Paths[Path(op.Verb)] = PathItem{s.method(op)}
	}
	doc.Components.Schemas = s.components()
	return doc
}

// Path is where a verb is.
func Path(verb string) string { return "/v1/" + verb }

func (s *schemas) method(op Operation) Method {
	m := Method{
		OperationID: op.Verb, Summary: op.Summary, Tags: []string{noun(op.Verb)},
		RequestBody: Body{Required: true, Content: media("application/json", s.of(op.Request, true))},
		Responses: map[string]Response{
			"default": {
				Description: "It failed. The status is 400 for an invalid request, 404 for what is not there, 409 for what exists already or is in use, 501 for what is not supported, 500 for the rest.",
				Content:     media("application/json", s.of(reflect.TypeFor[api.Error](), false)),
			},
		},
	}
	switch op.Kind {
	case Call:
		m.Responses["200"] = Response{Description: "The result.", Content: media("application/json", s.of(op.Result, false))}
	case Stream:
		result := &Schema{Type: "object", Properties: Properties{{"result", s.of(op.Result, false)}}}
		m.Responses["200"] = Response{
			Description: "Lines of JSON, an event each. The last one, and no other, has the result or the error.",
			Content:     media("application/x-ndjson", &Schema{AllOf: []*Schema{s.of(reflect.TypeFor[api.Event](), false), result}}),
		}
	case Upgrade:
		m.Parameters = []Parameter{{Name: "Upgrade", In: "header", Required: true, Schema: &Schema{Type: "string", Enum: []string{api.Protocol}}}}
		m.Responses["101"] = Response{Description: "The connection is a byte stream to the guest's agent from here on."}
	case Text:
		m.Responses["200"] = Response{Description: "The text, as it comes.", Content: media("text/plain", &Schema{Type: "string"})}
	default:
		panic(fmt.Sprintf("verb %s: kind %d", op.Verb, op.Kind))
	}
	return m
}

func media(mediaType string, s *Schema) map[string]Media {
	return map[string]Media{mediaType: {s}}
}

// noun is the first part of "noun.verb".
func noun(verb string) string {
	if i := slices.Index([]byte(verb), '.'); i > 0 {
		return verb[:i]
	}
	return verb
}
