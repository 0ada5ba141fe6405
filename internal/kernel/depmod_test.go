package kernel

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"banger/internal/api"
)

func TestModulesFiles(t *testing.T) {
	t.Parallel()
	var ms modules
	for _, f := range fakeModules(t) {
		switch f.name {
		case "modules.order":
			ms.order = f.data
		case "modules.builtin":
			ms.builtin = f.data
		case "modules.builtin.modinfo":
			ms.builtinModinfo = f.data
		default:
			release, err := ms.add(f.name, f.data)
			if err != nil || release != testRelease {
				t.Fatalf("%s: got release %q, %v, want %q", f.name, release, err, testRelease)
			}
		}
	}
	files := make(map[string][]byte)
	for _, f := range ms.files() {
		files[f.name] = f.data
	}
	for name, want := range map[string]string{
		"modules.dep": "kernel/drivers/c.ko: kernel/drivers/b.ko.zst kernel/a-1.ko\n" +
			"kernel/drivers/b.ko.zst: kernel/a-1.ko\n" +
			"kernel/a-1.ko:\n" +
			"updates/old.ko:\n",
		"modules.alias": "# Aliases extracted from modules themselves.\n" +
			"alias block-major-8-* c\nalias pci:v* c\nalias pci:v*[0-9]d-1* a_1\nalias devname:a a_1\nalias char-major-10-77 a_1\nalias new-one old\n",
		"modules.softdep": "# Soft dependencies extracted from modules themselves.\nsoftdep a_1 pre: b\n",
		"modules.symbols": "# Aliases for symbols, used by symbol_request().\n" +
			"alias symbol:b_open b\nalias symbol:a_open a_1\nalias symbol:a_close a_1\n",
		"modules.devname": "# Device nodes to trigger on-demand module loading.\na_1 a c10:77\n",
	} {
		if got := string(files[name]); got != want {
			t.Errorf("%s: got\n%s, want\n%s", name, got, want)
		}
	}
	for _, tt := range []struct {
		file, key string
		want      []string
	}{
		{"modules.dep.bin", "c", []string{"kernel/drivers/c.ko: kernel/drivers/b.ko.zst kernel/a-1.ko"}},
		{"modules.dep.bin", "a_1", []string{"kernel/a-1.ko:"}},
		{"modules.dep.bin", "a-1", nil},
		{"modules.alias.bin", "pci:v*[0-9]d_1*", []string{"a_1"}},
		{"modules.alias.bin", "new_one", []string{"old"}},
		{"modules.alias.bin", "old_one", nil},
		{"modules.symbols.bin", "symbol:b_open", []string{"b"}},
		{"modules.builtin.bin", "crc_t10dif", []string{""}},
		{"modules.builtin.alias.bin", "fs_ext4", []string{"ext4"}},
	} {
		got, err := lookUp(files[tt.file], tt.key)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s %s: got %q, %v, want %q", tt.file, tt.key, got, err, tt.want)
		}
	}
}

func TestModulesCycle(t *testing.T) {
	t.Parallel()
	var ms modules
	for name, depends := range map[string]string{"d": "e", "e": "d,e,f", "f": ""} {
		if _, err := ms.add(name+".ko", fakeModule(testRelease, []string{"depends=" + depends})); err != nil {
			t.Fatal(err)
		}
	}
	got, want := string(ms.files()[0].data), "d.ko: e.ko f.ko\ne.ko: f.ko d.ko\nf.ko:\n"
	if got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

func TestModulesRefuse(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{
		"empty.ko": "", "text.ko": "not a module", "a.ko.xz": "not xz", "b.ko.zst": "\x28\xb5\x2f\xfd\xff\xff\xff\xff",
	} {
		var ms modules
		if _, err := ms.add(name, []byte(data)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v, want an error that names it", name, err)
		} else if name != "b.ko.zst" && !errors.Is(err, api.ErrInvalid) {
			t.Errorf("%s: got %v, want one that is ErrInvalid", name, err)
		}
	}
}
