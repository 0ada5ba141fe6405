package api

import "testing"

func TestText(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"":                "",
		"/größe":          "/größe",
		"a\nb":            "a\nb",
		"\xff/x\xc3":      `\xff/x\xc3`,
		"\uFFFD":          "\uFFFD",
		"ok\xe6\x9d东":     `ok\xe6\x9d东`,
		"\xed\xa0\x80end": `\xed\xa0\x80end`,
	} {
		if got := Text(s); got != want {
			t.Errorf("Text(%q) = %q, want %q", s, got, want)
		}
	}
}
