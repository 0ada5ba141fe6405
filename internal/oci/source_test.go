package oci

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"banger/internal/api"
)

func TestSource(t *testing.T) {
	t.Parallel()
	const config = `{
		"created": "2024-05-06T07:08:09Z", "author": "A. Uthor",
		"config": {"Labels": {"l": "v"}, "ExposedPorts": {"443/tcp": {}, "80/tcp": {}}, "Volumes": {"/b": {}, "/a": {}}},
		"rootfs": {"type": "layers", "diff_ids": ["sha256:0000000000000000000000000000000000000000000000000000000000000001"]},
		"history": [
			{"created": "2024-05-06T07:08:08Z", "created_by": "ADD rootfs /", "comment": "base"},
			{"created_by": "CMD sh", "author": "B", "empty_layer": true}
		]}`
	const manifest = `{
		"config": {"digest": "sha256:0000000000000000000000000000000000000000000000000000000000000002", "size": 2},
		"layers": [{"digest": "sha256:0000000000000000000000000000000000000000000000000000000000000003", "size": 3}]}`
	ch := choice{manifest: new(v1.Manifest), config: new(v1.ConfigFile)}
	if err := json.Unmarshal([]byte(config), ch.config); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(manifest), ch.manifest); err != nil {
		t.Fatal(err)
	}
	// The field names are those of image-spec config.md; ours are the API's.
	const want = `{
		"config_digest": "sha256:0000000000000000000000000000000000000000000000000000000000000002",
		"created": "2024-05-06T07:08:09Z", "author": "A. Uthor", "labels": {"l": "v"},
		"exposed_ports": ["443/tcp", "80/tcp"], "volumes": ["/a", "/b"],
		"layers": [{"digest": "sha256:0000000000000000000000000000000000000000000000000000000000000003",
			"diff_id": "sha256:0000000000000000000000000000000000000000000000000000000000000001", "size_bytes": 3}],
		"history": [{"created": "2024-05-06T07:08:08Z", "created_by": "ADD rootfs /", "comment": "base"},
			{"created_by": "CMD sh", "author": "B", "empty_layer": true}]}`
	b, err := json.Marshal(ch.source())
	if err != nil {
		t.Fatal(err)
	}
	var got, wanted any
	for text, v := range map[string]*any{string(b): &got, want: &wanted} {
		if err := json.Unmarshal([]byte(text), v); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(wanted, got); d != "" {
		t.Errorf("source differs (-want +got):\n%s", d)
	}
	var zero api.Source
	if b, err := json.Marshal(zero); err != nil || string(b) != "{}" {
		t.Errorf("no source is %s, %v; want {}", b, err)
	}
}
