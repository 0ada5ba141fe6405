package main

import (
	"testing"

	"banger/internal/api"
)

func TestParseLimit(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text string
		want api.Limits
		ok   bool
	}{
		{"bytes=128g", api.Limits{Bytes: 128 << 30}, true},
		{"ratio=2000,entries=10000000", api.Limits{Ratio: 2000, Entries: 10_000_000}, true},
		{"metadata=2G", api.Limits{MetadataBytes: 2 << 30}, true},
		{"entries=0", api.Limits{}, false},
		{"entries=-1", api.Limits{}, false},
		{"entries=many", api.Limits{}, false},
		{"bytes=", api.Limits{}, false},
		{"bytes", api.Limits{}, false},
		{"layers=5", api.Limits{}, false},
		{"", api.Limits{}, false},
	} {
		var got api.Limits
		if err := parseLimit(&got, tc.text); (err == nil) != tc.ok || tc.ok && got != tc.want {
			t.Errorf("%q: got %+v, %v, want %+v, ok %v", tc.text, got, err, tc.want, tc.ok)
		}
	}
}
