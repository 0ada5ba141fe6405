package oci

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"
	"github.com/google/go-containerregistry/pkg/authn"
)

// keychain finds credentials where docker, podman and skopeo keep them.
// [authn.DefaultKeychain] stops at the first file that exists; somebody with a
// bare ~/.docker/config.json who logged in by podman has them in the next.
type keychain struct{}

// Resolve implements [authn.Keychain].
func (k keychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	return k.ResolveContext(context.Background(), target)
}

// ResolveContext implements [authn.ContextKeychain].
func (keychain) ResolveContext(ctx context.Context, target authn.Resource) (authn.Authenticator, error) {
	auth, err := authn.Resolve(ctx, authn.DefaultKeychain, target)
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	if auth != authn.Anonymous {
		return auth, nil
	}
	for _, path := range podmanFiles() {
		auth, err := fromFile(path, target)
		if err != nil {
			return nil, fmt.Errorf("read credentials: %s: %w", path, err)
		}
		if auth != nil {
			return auth, nil
		}
	}
	return authn.Anonymous, nil
}

// fromFile looks for target in a file as containers-auth.json(5) describes it: the
// most specific key wins, from registry/namespace/repository to registry.
func fromFile(path string, target authn.Resource) (authn.Authenticator, error) {
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var file struct {
		Auths   map[string]authn.AuthConfig `json:"auths"`
		Helpers map[string]string           `json:"credHelpers"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, err
	}
	if name := file.Helpers[strings.Replace(target.RegistryStr(), "index.docker.io", "docker.io", 1)]; name != "" {
		return fromHelper(name, target.RegistryStr())
	}
	for key := target.String(); key != "."; key = filepath.Dir(key) {
		// Podman says docker.io where Docker's own files say index.docker.io.
		for _, name := range []string{key, strings.Replace(key, "index.docker.io", "docker.io", 1)} {
			if auth := file.Auths[name]; auth != (authn.AuthConfig{}) {
				return authn.FromConfig(auth), nil
			}
		}
	}
	return nil, nil
}

// fromHelper asks the program docker-credential-<name>, which a person has named,
// for a registry (docker-credential-helpers README, "Development").
func fromHelper(name, registry string) (authn.Authenticator, error) {
	found, err := client.Get(client.NewShellProgramFunc("docker-credential-"+name), registry)
	switch {
	case credentials.IsErrCredentialsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("docker-credential-%s: %w", name, err)
	case found.Username == "<token>": // the secret is an identity token
		return authn.FromConfig(authn.AuthConfig{IdentityToken: found.Secret}), nil
	}
	return authn.FromConfig(authn.AuthConfig{Username: found.Username, Password: found.Secret}), nil
}

// credentialFiles lists the files that keychain looks into, whether they exist or
// not.
func credentialFiles() []string {
	var files []string
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		files = append(files, filepath.Join(dir, "config.json"))
	} else if home, err := os.UserHomeDir(); err == nil {
		files = append(files, filepath.Join(home, ".docker", "config.json"))
	}
	return append(files, podmanFiles()...)
}

func podmanFiles() []string {
	var files []string
	if file := os.Getenv("REGISTRY_AUTH_FILE"); file != "" {
		files = append(files, file)
	}
	for _, env := range []string{"XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"} {
		if dir := os.Getenv(env); dir != "" {
			files = append(files, filepath.Join(dir, "containers", "auth.json"))
		}
	}
	if home, err := os.UserHomeDir(); err == nil && os.Getenv("XDG_CONFIG_HOME") == "" {
		files = append(files, filepath.Join(home, ".config", "containers", "auth.json"))
	}
	return files
}
