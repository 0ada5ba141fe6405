package api

import (
	"context"
	"errors"
)

// What callers branch on. Wrap them: fmt.Errorf("vm %s: %w", name, ErrNotFound).
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("exists already")
	ErrInUse    = errors.New("in use")
	ErrInvalid  = errors.New("invalid")
)

// Error is an error as it crosses the API.
type Error struct {
	Code    string `json:"code"` // "not-found", "exists", "in-use", "invalid", "unsupported", "canceled", "failed"
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"` // what to do next; the CLI prints it on a line of its own
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Is makes errors.Is(e, ErrNotFound) and its sisters work on the far side of the API.
func (e *Error) Is(target error) bool {
	c := code(target)
	return c != codeFailed && c == e.Code
}

// codeFailed is the code of every error that callers do not branch on.
const codeFailed = "failed"

// hinted is an error with advice for the user.
type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }

// Hint attaches to err what the user can do about it. The innermost hint wins
// when there are several, for it knows most.
func Hint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &hinted{err, hint}
}

// HintOf returns the hint that err carries, or "".
func HintOf(err error) string {
	hint := ""
	for {
		var h *hinted
		if !errors.As(err, &h) {
			break
		}
		hint, err = h.hint, h.error
	}
	var e *Error
	if hint == "" && errors.As(err, &e) {
		hint = e.Hint
	}
	return hint
}

// AsError turns any error into what crosses the API.
func AsError(err error) *Error {
	if e, ok := err.(*Error); ok { //nolint:errorlint // one that is wrapped has more to say
		return e
	}
	return &Error{Code: code(err), Message: err.Error(), Hint: HintOf(err)}
}

func code(err error) string {
	for _, c := range []struct {
		err  error
		code string
	}{
		{ErrNotFound, "not-found"},
		{ErrExists, "exists"},
		{ErrInUse, "in-use"},
		{ErrInvalid, "invalid"},
		{errors.ErrUnsupported, "unsupported"},
		{context.Canceled, "canceled"},
	} {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return codeFailed
}
