package main

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"banger/internal/api"
)

// hostile is a name that clears the screen, turns the line around and looks like a
// hint of ours.
const hostile = "a\nhint: sudo sh\r\x1b[2J\u202e\u0085\xff\tb"

func TestEscape(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ in, want, lines string }{
		{"plain, ünïcode 日本 \\n", "plain, ünïcode 日本 \\n", "plain, ünïcode 日本 \\n"},
		{hostile, `a\nhint: sudo sh\r\x1b[2J\u202e\u0085\xff\tb`, "a\n" + `  hint: sudo sh\r\x1b[2J\u202e\u0085\xff\tb`},
		{"\ufffd\x7f\u2028\u200d", "\ufffd" + `\x7f\u2028\u200d`, "\ufffd" + `\x7f\u2028\u200d`},
		{"one\r\ntwo", `one\r\ntwo`, "one\n  two"},
	} {
		if got := escape(tc.in); got != tc.want {
			t.Errorf("%q: got %q, want %q", tc.in, got, tc.want)
		}
		if got := escape(tc.want); got != tc.want {
			t.Errorf("%q: got %q when escaped again", tc.want, got)
		}
		if got := escapeLines(tc.in); got != tc.lines {
			t.Errorf("%q: got %q in lines, want %q", tc.in, got, tc.lines)
		}
	}
}

// checkHarmless looks for what a terminal would obey, and for lines that are the
// name's and not ours.
func checkHarmless(t *testing.T, what, out string) {
	t.Helper()
	for _, r := range out {
		if r != '\n' && !unicode.IsGraphic(r) {
			t.Errorf("%s: got %q in %q", what, r, out)
			break
		}
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "hint: sudo") {
			t.Errorf("%s: got a line of the name: %q", what, out)
		}
	}
	if !strings.Contains(out, `sudo sh\r\x1b[2J`) {
		t.Errorf("%s: the name is not shown: %q", what, out)
	}
}

// TestHostileNames converts layers with hostile names that are warned of, and
// that end in errors of the tree and of the disk.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	for what, headers := range map[string][]tar.Header{
		"warning": {{Typeflag: tar.TypeReg, Name: "../" + hostile, PAXRecords: map[string]string{"SCHILY.xattr.security.selinux": "x", "SCHILY.xattr." + hostile: "x"}}},
		"tree":    {{Typeflag: tar.TypeLink, Name: hostile, Linkname: "gone/" + hostile}},
		"path":    {{Typeflag: tar.TypeReg, Name: strings.Repeat(hostile, 20)}},
		"disk":    {{Typeflag: tar.TypeReg, Name: hostile, PAXRecords: map[string]string{"SCHILY.xattr.user.a": strings.Repeat("v", 60_000)}}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			for _, h := range headers {
				h.Mode = 0o644
				if err := w.WriteHeader(&h); err != nil {
					t.Fatal(err)
				}
			}
			w.Close()
			if err := os.WriteFile(filepath.Join(dir, "root.tar"), b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			for _, mode := range []string{"plain", "none"} {
				var stdout, stderr bytes.Buffer
				status := run(t.Context(), []string{
					"convert", "--progress", mode, "--no-guest-files", "--force", "tar:" + filepath.Join(dir, "root.tar"), "-o", filepath.Join(dir, "disk"),
				}, nil, &stdout, &stderr)
				if (status == 0) != (what == "warning") {
					t.Errorf("%s: got status %d: %s", mode, status, stderr.String())
				}
				checkHarmless(t, what+" "+mode, stderr.String())
			}
		})
	}
}

// TestHostileImage shows what the config of an image can say.
func TestHostileImage(t *testing.T) {
	t.Parallel()
	for what, img := range map[string]api.Image{
		"label":   {Source: api.Source{Labels: map[string]string{hostile: hostile}}},
		"author":  {Source: api.Source{Author: hostile}},
		"history": {Source: api.Source{History: []api.History{{CreatedBy: strings.ReplaceAll(hostile, "\n", "")}}}},
		"process": {Process: api.Process{Cmd: []string{hostile}, User: hostile, WorkingDir: hostile}},
		"warning": {Warnings: []api.Warning{{Path: hostile, Message: "done"}}},
	} {
		var stdout bytes.Buffer
		c := &cli{stdout: &stdout}
		c.showImage(img)
		out := stdout.String()
		if what == "history" {
			out = strings.ReplaceAll(out, `sudo sh \x1b`, `sudo sh\r\x1b`) // white space is one space here
		}
		if what == "process" || what == "label" {
			out = strings.ReplaceAll(out, `\\`, `\`)
		}
		checkHarmless(t, what, out)
	}
	var b bytes.Buffer
	if err := table(&b, []string{"NAME"}, [][]string{{hostile}}); err != nil {
		t.Fatal(err)
	}
	checkHarmless(t, "table", b.String())
}
