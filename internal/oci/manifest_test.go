package oci

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	ggcr "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"banger/internal/api"
)

func TestPlatformRuns(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		machine, image string
		want           bool
	}{
		{"linux/amd64", "linux/amd64", true},
		{"linux/x86_64", "linux/amd64/v1", true},
		{"linux/amd64", "linux/amd64/v2", false},
		{"linux/amd64/v3", "linux/amd64/v2", true},
		{"linux/amd64", "linux/arm64", false},
		{"linux/amd64", "windows/amd64", false},
		{"linux/arm64", "linux/arm64/v8", true},
		{"linux/arm64/v8", "linux/aarch64", true},
		{"linux/arm64", "linux/arm64/v9", false},
		{"linux/arm", "linux/arm/v7", true},
		{"linux/arm", "linux/arm/v6", true},
		{"linux/arm/v6", "linux/arm", false},
		{"linux/arm64", "linux/arm/v7", false},
		{"linux/riscv64", "linux/riscv64", true},
		{"linux/ppc64le/power9", "linux/ppc64le/power9", true},
		{"linux/ppc64le", "linux/ppc64le/power9", false},
	} {
		machine, err := parsePlatform(tc.machine)
		if err != nil {
			t.Fatal(err)
		}
		image, err := parsePlatform(tc.image)
		if err != nil {
			t.Fatal(err)
		}
		if got := machine.runs(image); got != tc.want {
			t.Errorf("%s runs %s = %v, want %v", tc.machine, tc.image, got, tc.want)
		}
	}
	for _, bad := range []string{"linux", "linux/", "/amd64", "a/b/c/d", "linux/arm/"} {
		if _, err := parsePlatform(bad); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("parsePlatform(%q): %v, want ErrInvalid", bad, err)
		}
	}
}

// on returns d as an index lists it.
func on(d v1.Descriptor, os, arch, variant string) v1.Descriptor {
	d.Platform = &v1.Platform{OS: os, Architecture: arch, Variant: variant}
	return d
}

func TestChoose(t *testing.T) {
	t.Parallel()
	c := content{}
	forArch := func(arch, variant string) v1.Descriptor {
		return c.image(nil, nil, func(_ *v1.Manifest, f *v1.ConfigFile) {
			if f != nil {
				f.Architecture, f.Variant = arch, variant
			}
		})
	}
	amd, arm, armv6, armv7 := forArch("amd64", ""), forArch("arm64", "v8"), forArch("arm", "v6"), forArch("arm", "v7")
	silent := c.image(nil, nil, func(_ *v1.Manifest, f *v1.ConfigFile) {
		if f != nil {
			f.OS, f.Architecture = "", ""
		}
	})
	docker := c.image(nil, nil, func(m *v1.Manifest, f *v1.ConfigFile) {
		if f != nil {
			f.Architecture = "amd64"
			f.Created = v1.Time{}
			return
		}
		m.MediaType = types.DockerManifestSchema2
		m.Config.MediaType = types.DockerConfigJSON
	})
	attestation := on(c.putJSON(types.OCIManifestSchema1, map[string]any{"schemaVersion": 2}), "unknown", "unknown", "")
	sbom := on(attestation, "linux", "amd64", "")
	sbom.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	nest := func(mt types.MediaType, ds ...v1.Descriptor) v1.Descriptor { return c.putJSON(mt, index(ds...)) }
	deep := amd
	for range maxIndexDepth + 1 {
		deep = nest(types.OCIImageIndex, deep)
	}
	foreign := on(nest(types.OCIImageIndex), "windows", "amd64", "")
	delete(c, foreign.Digest) // must not be asked for

	for _, tc := range []struct {
		name     string
		platform string
		index    v1.IndexManifest
		want     v1.Hash
		ran      string // Image.Platform; platform when empty
		err      error
		text     string // in the error
	}{
		{name: "one", platform: "linux/amd64", index: index(amd), want: amd.Digest},
		{name: "docker", platform: "linux/amd64", index: index(docker), want: docker.Digest},
		{name: "list", platform: "linux/arm64", index: index(on(amd, "linux", "amd64", ""), on(arm, "linux", "arm64", "v8")), want: arm.Digest},
		{name: "no_platform_in_list", platform: "linux/arm64", index: index(amd, arm), want: arm.Digest},
		{name: "list_before_config", platform: "linux/arm64", index: index(arm, on(amd, "linux", "arm64", "")), want: amd.Digest},
		{name: "silent_config", platform: "linux/arm64", index: index(silent), want: silent.Digest},
		{name: "best_variant", platform: "linux/arm", index: index(on(armv6, "linux", "arm", "v6"), on(armv7, "linux", "arm", "v7")), want: armv7.Digest, ran: "linux/arm/v7"},
		{name: "lower_variant", platform: "linux/arm/v6", index: index(on(armv7, "linux", "arm", "v7"), on(armv6, "linux", "arm", "v6")), want: armv6.Digest},
		{name: "nested", platform: "linux/arm64", index: index(nest(types.DockerManifestList, on(amd, "linux", "amd64", ""), nest(types.OCIImageIndex, arm))), want: arm.Digest},
		{name: "nested_other", platform: "linux/amd64", index: index(foreign, on(amd, "linux", "amd64", "")), want: amd.Digest},
		{name: "too_deep", platform: "linux/amd64", index: index(deep), err: api.ErrInvalid, text: "indexes in each other"},
		{name: "attestation", platform: "linux/amd64", index: index(attestation, sbom, on(amd, "linux", "amd64", "")), want: amd.Digest},
		{name: "only_attestation", platform: "linux/amd64", index: index(attestation), err: api.ErrNotFound, text: "no image"},
		{name: "empty", platform: "linux/amd64", index: index(), err: api.ErrNotFound, text: "no image"},
		{
			name: "missing_platform", platform: "linux/s390x", index: index(on(arm, "linux", "arm64", "v8"), on(amd, "linux", "amd64", ""), attestation),
			err: api.ErrNotFound, text: "platform linux/s390x: not found; there is linux/amd64, linux/arm64",
		},
		{name: "wrong_single", platform: "linux/s390x", index: index(arm), err: api.ErrNotFound, text: "there is linux/arm64"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			ref := mustNormalize(t, "oci:"+c.layout(t, tc.index))
			img, err := Resolve(t.Context(), ref, Options{Platform: tc.platform})
			if tc.err != nil {
				if !errors.Is(err, tc.err) || !strings.Contains(err.Error(), tc.text) {
					t.Fatalf("got %v, want %v with %q", err, tc.err, tc.text)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			ran := tc.ran
			if ran == "" {
				ran = tc.platform
			}
			if img.Digest != tc.want.String() || img.Platform != ran {
				t.Errorf("got %s for %s, want %s for %s", img.Digest, img.Platform, tc.want, ran)
			}
		})
	}
}

func TestResolveRefuses(t *testing.T) {
	t.Parallel()
	layer := tarOf(1, 100)
	for _, tc := range []struct {
		name string
		doc  func(content) v1.Descriptor
		err  error
		text string
	}{
		{"schema1", func(c content) v1.Descriptor {
			return c.put(types.OCIManifestSchema1, []byte(`{"schemaVersion":1,"name":"x","fsLayers":[{"blobSum":"`+someDigest+`"}],"history":[]}`))
		}, errors.ErrUnsupported, "schema 1"},
		{"artifact", func(c content) v1.Descriptor {
			return c.put(types.OCIManifestSchema1, []byte(`{"mediaType":"application/vnd.oci.artifact.manifest.v1+json","artifactType":"application/x-thing","blobs":[]}`))
		}, api.ErrInvalid, "artifact (application/x-thing)"},
		{"chart", func(c content) v1.Descriptor {
			return c.put(types.OCIManifestSchema1, []byte(`{"schemaVersion":2,"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json"},"layers":[]}`))
		}, api.ErrInvalid, "artifact (application/vnd.cncf.helm.config.v1+json)"},
		{"both", func(c content) v1.Descriptor {
			return c.put(types.OCIManifestSchema1, []byte(`{"schemaVersion":2,"manifests":[],"config":{},"layers":[]}`))
		}, api.ErrInvalid, "index as well"},
		{"index_as_manifest", func(c content) v1.Descriptor {
			return c.putJSON(types.OCIManifestSchema1, index())
		}, api.ErrInvalid, "is an index"},
		{"not_json", func(c content) v1.Descriptor { return c.put(types.OCIManifestSchema1, []byte("{")) }, nil, "read manifest"},
		{"diff_ids_missing", func(c content) v1.Descriptor {
			return c.image([][]byte{layer}, [][]byte{layer}, func(_ *v1.Manifest, f *v1.ConfigFile) {
				if f != nil {
					f.RootFS.DiffIDs = nil
					f.History = []v1.History{{EmptyLayer: true}}
				}
			})
		}, api.ErrInvalid, "1 layers, the config 0 diff_ids"},
		{"sha512", func(c content) v1.Descriptor {
			return c.image([][]byte{layer}, [][]byte{layer}, func(m *v1.Manifest, _ *v1.ConfigFile) {
				if m != nil {
					m.Layers[0].Digest = v1.Hash{Algorithm: "sha512", Hex: strings.Repeat("0", 128)}
				}
			})
		}, errors.ErrUnsupported, "sha512"},
		{"encrypted", func(c content) v1.Descriptor {
			return c.image([][]byte{layer}, [][]byte{layer}, func(m *v1.Manifest, _ *v1.ConfigFile) {
				if m != nil {
					m.Layers[0].MediaType += "+encrypted"
				}
			})
		}, errors.ErrUnsupported, "encrypted"},
		{"negative_size", func(c content) v1.Descriptor {
			return c.image([][]byte{layer}, [][]byte{layer}, func(m *v1.Manifest, _ *v1.ConfigFile) {
				if m != nil {
					m.Layers[0].Size = -1
				}
			})
		}, api.ErrInvalid, "size -1"},
		{"huge_config", func(c content) v1.Descriptor {
			return c.image(nil, nil, func(m *v1.Manifest, _ *v1.ConfigFile) {
				if m != nil {
					m.Config.Size = 1 << 40
				}
			})
		}, api.ErrInvalid, "the limit is"},
		{"manifest_missing", func(c content) v1.Descriptor {
			d := c.simple()
			delete(c, d.Digest)
			return d
		}, api.ErrNotFound, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := content{}
			d := tc.doc(c)
			_, err := Resolve(t.Context(), mustNormalize(t, "oci:"+c.layout(t, index(d))), Options{})
			if err == nil || tc.err != nil && !errors.Is(err, tc.err) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v, want %v with %q", err, tc.err, tc.text)
			}
		})
	}
}

func TestResolveDamagedDocuments(t *testing.T) {
	t.Parallel()
	c := content{}
	d := c.simple()
	for h := range c {
		dir := c.layout(t, index(d))
		path := filepath.Join(dir, "blobs", "sha256", h.Hex)
		if err := os.WriteFile(path, append(c[h], ' '), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Resolve(t.Context(), mustNormalize(t, "oci:"+dir), Options{})
		var mismatch *MismatchError
		if !errors.As(err, &mismatch) || mismatch.What != "digest" || !strings.Contains(err.Error(), h.Hex) {
			t.Errorf("damaged %s: got %v, want MismatchError of its digest", h, err)
		}
	}
}

func TestLayoutTags(t *testing.T) {
	t.Parallel()
	c := content{}
	tagged := func(tag string, layer []byte) v1.Descriptor {
		d := c.simple(layer)
		d.Annotations = map[string]string{refName: tag}
		return d
	}
	one, two := tagged("one", []byte("1")), tagged("two", []byte("2"))
	dir := c.layout(t, index(one, two))
	for _, tc := range []struct {
		ref  string
		want v1.Hash
		err  error
		hint string
	}{
		{ref: "oci:" + dir + ":one", want: one.Digest},
		{ref: "oci:" + dir + ":two", want: two.Digest},
		{ref: "oci:" + dir + ":three", err: api.ErrNotFound, hint: "there is one, two"},
		{ref: "oci:" + dir, err: api.ErrInvalid, hint: "oci:" + dir + ":one"},
		{ref: "oci:" + t.TempDir(), err: api.ErrNotFound, hint: "index.json"},
	} {
		img, err := Resolve(t.Context(), mustNormalize(t, tc.ref), Options{})
		if !errors.Is(err, tc.err) || !strings.Contains(api.HintOf(err), tc.hint) {
			t.Errorf("%s: got %v, hint %q, want %v, hint %q", tc.ref, err, api.HintOf(err), tc.err, tc.hint)
		} else if err == nil && img.Digest != tc.want.String() {
			t.Errorf("%s: got %s, want %s", tc.ref, img.Digest, tc.want)
		}
	}
}

// A layout and an image made by somebody else's code.
func TestResolveForeignLayout(t *testing.T) {
	t.Parallel()
	want, err := random.Index(1000, 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := want.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := ggcr.Write(dir, want); err != nil {
		t.Fatal(err)
	}
	img, err := Resolve(t.Context(), mustNormalize(t, "oci:"+dir), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, first := img.Digest, manifest.Manifests[0].Digest.String(); got != first {
		t.Errorf("got %s, want the first of the index, %s", got, first)
	}
	if len(img.Layers) != 3 {
		t.Fatalf("got %d layers, want 3", len(img.Layers))
	}
	for _, l := range img.Layers {
		if _, err := readLayer(t, l, nil); err != nil {
			t.Error(err)
		}
	}
}

func TestImageConfig(t *testing.T) {
	t.Parallel()
	c := content{}
	want := api.Process{
		Entrypoint: []string{"/init"}, Cmd: []string{"a", "b"}, Env: []string{"A=1"},
		User: "1:2", WorkingDir: "/w", StopSignal: "SIGINT",
	}
	stored := [][]byte{gz(tarOf(1, 10)), gz(tarOf(2, 20))}
	d := c.image(stored, [][]byte{tarOf(1, 10), tarOf(2, 20)}, func(_ *v1.Manifest, f *v1.ConfigFile) {
		if f != nil {
			f.Config = v1.Config{Entrypoint: want.Entrypoint, Cmd: want.Cmd, Env: want.Env, User: want.User, WorkingDir: want.WorkingDir, StopSignal: want.StopSignal}
		}
	})
	ref := mustNormalize(t, "oci:"+c.layout(t, index(d)))
	img, err := Resolve(t.Context(), ref, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(img.Config, want); diff != "" {
		t.Errorf("config differs (-got +want):\n%s", diff)
	}
	if size := int64(len(stored[0]) + len(stored[1])); img.Size != size || img.Ref != ref.String() || !img.Created.IsZero() {
		t.Errorf("got size %d of %s made %v, want %d of %s", img.Size, img.Ref, img.Created, size, ref)
	}
	for i, l := range img.Layers {
		if l.Digest != sumOf(stored[i]).String() || l.DiffID != sumOf(tarOf(uint64(i+1), 10*(i+1))).String() || l.Size != int64(len(stored[i])) {
			t.Errorf("layer %d is %+v", i, l)
		}
	}
}
