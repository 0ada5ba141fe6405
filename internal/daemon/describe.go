package daemon

import (
	"context"
	"net/http"

	"banger/internal/api"
	"banger/internal/openapi"
)

// description is the verb that describes all verbs, itself included. It is the
// only one that GET answers too: tools that read such documents ask that way.
const description = "openapi.json"

// describe adds the description of all that s serves.
func (s *server) describe(version string) {
	read := func() (openapi.Document, error) {
		comments, err := openapi.ReadComments(api.GoSource)
		return openapi.Describe(version, s.verbs, comments), err
	}
	call(s, description, "Describe this API in the form of OpenAPI 3.1", func(context.Context, none) (any, error) { return read() })
	s.mux.HandleFunc("GET /v1/"+description, func(w http.ResponseWriter, _ *http.Request) {
		doc, err := read()
		if err != nil {
			writeError(w, err)
			return
		}
		writeJSON(w, http.StatusOK, doc)
	})
}
