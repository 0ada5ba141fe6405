package oci

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/api"
)

// helper puts docker-credential-fake into PATH. It knows one host.
func helper(t *testing.T, host, user, password string) {
	t.Helper()
	dir := t.TempDir()
	script := fmt.Sprintf(`#!/bin/sh
read -r host
[ "$1" = get ] || exit 3
[ "$host" = %q ] || { echo "credentials not found in native keychain"; exit 1; }
echo '{"ServerURL":"x","Username":%q,"Secret":%q}'
`, host, user, password)
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-fake"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func writeText(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCredentialHelpers(t *testing.T) {
	c := content{}
	d := c.simple(tarOf(1, 1000))
	const docker, podman = "/.docker/config.json", "/.config/containers/auth.json"
	for _, tc := range []struct {
		name, file string
		text       func(host string) string
	}{
		{"docker_for_a_registry", docker, func(host string) string { return fmt.Sprintf(`{"credHelpers":{%q:"fake"}}`, host) }},
		{"docker_for_all", docker, func(string) string { return `{"credsStore":"fake"}` }},
		{"podman_for_a_registry", podman, func(host string) string { return fmt.Sprintf(`{"credHelpers":{%q:"fake"}}`, host) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t)
			ref := s.push(t, c, d, "v1")
			s.fault = basic
			home := authHome(t)
			helper(t, s.host, "user", secret)
			if tc.file == podman {
				writeText(t, home+docker, "{}") // a file that knows nothing is not the end
			}
			writeText(t, home+tc.file, tc.text(s.host))
			if _, err := pull(t, ref, testOptions(t)); err != nil {
				t.Error(err)
			}
			// One that knows nothing is like none.
			helper(t, "elsewhere", "user", secret)
			_, err := pull(t, ref, testOptions(t))
			if err == nil || !strings.Contains(err.Error(), "refused access, no credentials") || !strings.Contains(api.HintOf(err), "docker login "+s.host) {
				t.Errorf("without: got %v, hint %q", err, api.HintOf(err))
			}
		})
	}
}

// A helper that is not there is an error, and not a login without credentials.
func TestCredentialHelperMissing(t *testing.T) {
	s := newServer(t)
	c := content{}
	ref := s.push(t, c, c.simple(tarOf(1, 1000)), "v1")
	home := authHome(t)
	for _, file := range []string{"/.config/containers/auth.json", "/.docker/config.json"} {
		writeText(t, home+file, fmt.Sprintf(`{"credHelpers":{%q:"nowhere"}}`, s.host))
		_, err := pull(t, ref, testOptions(t))
		if err == nil || !strings.Contains(err.Error(), "docker-credential-nowhere") {
			t.Errorf("%s: got %v, want the helper's name", file, err)
		}
	}
}

// An identity token is exchanged by OAuth 2 and not sent as a password.
func TestIdentityToken(t *testing.T) {
	c := content{}
	d := c.simple(tarOf(1, 1000))
	for _, way := range []string{"file", "helper"} {
		t.Run(way, func(t *testing.T) {
			s := newServer(t)
			ref := s.push(t, c, d, "v1")
			login := bearer(s)
			s.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
				if r.URL.Path != "/token" {
					return login(w, r, n)
				}
				if r.Method != http.MethodPost || r.FormValue("grant_type") != "refresh_token" || r.FormValue("refresh_token") != secret {
					t.Errorf("token service: %s, grant %q", r.Method, r.FormValue("grant_type"))
					w.WriteHeader(http.StatusUnauthorized)
					return true
				}
				fmt.Fprintf(w, `{"access_token":"t-%s"}`, r.FormValue("scope"))
				return true
			}
			home := authHome(t)
			if way == "file" {
				writeText(t, home+"/.docker/config.json", fmt.Sprintf(`{"auths":{%q:{"auth":"PHRva2VuPjo=","identitytoken":%q}}}`, s.host, secret))
			} else {
				helper(t, s.host, "<token>", secret)
				writeText(t, home+"/.config/containers/auth.json", fmt.Sprintf(`{"credHelpers":{%q:"fake"}}`, s.host))
			}
			if _, err := pull(t, ref, testOptions(t)); err != nil {
				t.Error(err)
			}
		})
	}
}
