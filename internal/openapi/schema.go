package openapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Schema is a JSON Schema, draft 2020-12, as far as Go types need it.
type Schema struct {
	Ref         string     `json:"$ref,omitempty"`
	Description string     `json:"description,omitempty"`
	Type        string     `json:"type,omitempty"`
	Format      string     `json:"format,omitempty"`
	Enum        []string   `json:"enum,omitempty"`
	Items       *Schema    `json:"items,omitempty"`
	Properties  Properties `json:"properties,omitempty"`
	Required    []string   `json:"required,omitempty"`
	Additional  any        `json:"additionalProperties,omitempty"` // *Schema of a map's values, or false
	AllOf       []*Schema  `json:"allOf,omitempty"`
}

// Property is a field of an object.
type Property struct {
	Name   string
	Schema *Schema
}

// Properties are in the order of the Go type.
type Properties []Property

// MarshalJSON makes an object that keeps the order.
func (p Properties) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, property := range p {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(property.Name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(property.Schema)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// schemas collects the schemas of named types.
type schemas struct {
	comments Comments
	named    map[string]*named
}

type named struct {
	t       reflect.Type
	schema  *Schema
	request bool // a part of some request: other fields than these are refused
}

const refPrefix = "#/components/schemas/"

// of returns the schema of t, which is a reference when t is a named struct.
func (s *schemas) of(t reflect.Type, request bool) *Schema {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return &Schema{Type: "string", Format: "date-time"}
	case t == reflect.TypeFor[json.RawMessage]():
		return &Schema{}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem(), request)
	case reflect.Struct:
		if t.Name() == "" {
			return s.object(t, request)
		}
		return s.refer(t, request)
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return &Schema{Type: "string", Format: "byte"} // encoding/json: base64
		}
		return &Schema{Type: "array", Items: s.of(t.Elem(), request)}
	case reflect.Map:
		return &Schema{Type: "object", Additional: s.of(t.Elem(), request)}
	case reflect.String:
		return &Schema{Type: "string", Enum: s.comments.values[t.Name()]}
	case reflect.Bool:
		return &Schema{Type: "boolean"}
	case reflect.Float32, reflect.Float64:
		return &Schema{Type: "number"}
	case reflect.Int, reflect.Int64, reflect.Uint64, reflect.Uint:
		return &Schema{Type: "integer", Format: "int64"}
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return &Schema{Type: "integer"}
	case reflect.Interface:
		return &Schema{}
	}
	panic(fmt.Sprintf("no schema for the type %v", t))
}

// refer returns a reference to a named type, and describes that when it comes up
// for the first time.
func (s *schemas) refer(t reflect.Type, request bool) *Schema {
	ref := &Schema{Ref: refPrefix + t.Name()}
	n, known := s.named[t.Name()]
	if known && n.t != t {
		panic(fmt.Sprintf("two types of one name: %v and %v", n.t, t))
	}
	if known && (n.request || !request) {
		return ref
	}
	n = &named{t: t, request: request}
	s.named[t.Name()] = n // before its fields: a type may contain itself
	n.schema = s.object(t, request)
	return ref
}

func (s *schemas) components() map[string]*Schema {
	all := map[string]*Schema{}
	for name, n := range s.named {
		all[name] = n.schema
	}
	return all
}

func (s *schemas) object(t reflect.Type, request bool) *Schema {
	o := &Schema{Type: "object", Description: s.comments.types[t.Name()]}
	if request {
		o.Additional = false
	}
	s.fields(o, t, request)
	return o
}

// fields adds what encoding/json makes of t: embedded structs are a part of it.
func (s *schemas) fields(o *Schema, t reflect.Type, request bool) {
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
			continue
		case f.Anonymous && name == "":
			s.fields(o, f.Type, request)
			continue
		case name == "":
			name = f.Name
		}
		p := s.of(f.Type, request)
		p.Description = s.comments.fields[t.Name()+"."+f.Name]
		o.Properties = append(o.Properties, Property{name, p})
		if !strings.Contains(options, "omit") { // omitempty, omitzero
			o.Required = append(o.Required, name)
		}
	}
}
