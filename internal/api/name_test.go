package api

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestCheckName(t *testing.T) {
	for _, tt := range []struct {
		name string
		ok   bool
	}{
		{"debian-bookworm", true},
		{"6.1.0-40-cloud-amd64", true},
		{"A_b.c", true},
		{strings.Repeat("a", 63), true},
		{strings.Repeat("a", 64), false},
		{"", false},
		{".", false},
		{"..", false},
		{".staging", false},
		{"../x", false},
		{"a/b", false},
		{"a\\b", false},
		{"a\x00b", false},
		{"a\n", false},
		{"a b", false},
		{"--force", false},
		{"ä", false},
	} {
		err := CheckName("image", tt.name)
		if tt.ok && err != nil || !tt.ok && !errors.Is(err, ErrInvalid) {
			t.Errorf("CheckName(%q) = %v, want ok %v", tt.name, err, tt.ok)
		}
	}
}

func TestNameFrom(t *testing.T) {
	for text, want := range map[string]string{
		"debian:bookworm":        "debian-bookworm",
		"6.8.0-rc1+":             "6.8.0-rc1",
		"../../etc/passwd":       "etc-passwd",
		"UPPER  case":            "upper-case",
		"---":                    "",
		"ä":                      "",
		strings.Repeat("a.", 64): strings.Repeat("a.", 31) + "a",
	} {
		got := NameFrom(text)
		if got != want {
			t.Errorf("NameFrom(%q) = %q, want %q", text, got, want)
		}
		if got != "" && CheckName("image", got) != nil {
			t.Errorf("NameFrom(%q) = %q, which is no valid name", text, got)
		}
	}
}

func TestFreeName(t *testing.T) {
	long := strings.Repeat("x", 63)
	taken := []string{"web", "web-2", "web-3", long}
	in := func(name string) bool { return slices.Contains(taken, name) }
	if got := FreeName("web", in); got != "web-4" {
		t.Errorf("got %q, want web-4", got)
	}
	if got := FreeName(long, in); got != long[:61]+"-2" || CheckName("image", got) != nil {
		t.Errorf("got %q, want one of 63 bytes", got)
	}
}
