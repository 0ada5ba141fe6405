package kernel

import (
	"bytes"
	"cmp"
	"debug/elf"
	"fmt"
	"path"
	"slices"
	"strings"

	"banger/internal/api"
)

// modules learns what is in a tree of modules and writes what depmod(8) would.
// Debian ships none of it: its packages run depmod when they are installed.
type modules struct {
	byName map[string]*module

	order          []byte // modules.order: which comes first when several would do
	builtin        []byte // modules.builtin
	builtinModinfo []byte // modules.builtin.modinfo
}

// module is what the rest of the world needs to know of one.
type module struct {
	name    string // with '_' for '-', as libkmod looks it up
	path    string // below /lib/modules/<release>
	info    []string
	exports []string // symbols

	rank  uint32 // position among all
	needs []*module
	done  bool // its needs are complete
}

// maxModule bounds an unpacked module.
const maxModule = 512 << 20

// moduleFile splits the path of a module into its path without compression and
// its name; ok is false when it is no module.
func moduleFile(p string) (plain, name string, ok bool) {
	plain = p
	for _, ext := range []string{".gz", ".xz", ".zst"} {
		plain = strings.TrimSuffix(plain, ext)
	}
	name, ok = strings.CutSuffix(path.Base(plain), ".ko")
	return plain, underscores(name), ok
}

func underscores(s string) string { return strings.ReplaceAll(s, "-", "_") }

// add reads the module at path p. It returns the release that the module was
// built for, "" when it does not say.
func (ms *modules) add(p string, data []byte) (release string, err error) {
	plain, name, _ := moduleFile(p)
	if plain != p {
		if data, err = decompress(data, maxModule); err != nil {
			return "", fmt.Errorf("read module %s: %w", p, err)
		}
	}
	m := &module{name: name, path: p}
	if err := m.read(data); err != nil {
		return "", fmt.Errorf("read module %s: %w: %w", p, err, api.ErrInvalid)
	}
	// depmod.d(5): what is in updates/ goes before what came with the kernel.
	if old := ms.byName[name]; old == nil || strings.HasPrefix(p, "updates/") {
		if ms.byName == nil {
			ms.byName = make(map[string]*module)
		}
		ms.byName[name] = m
	}
	release, _, _ = strings.Cut(m.first("vermagic"), " ")
	return release, nil
}

func (m *module) read(data []byte) error {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return err
	}
	if s := f.Section(".modinfo"); s != nil {
		b, err := s.Data()
		if err != nil {
			return err
		}
		m.info = strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
	}
	if f.Section("__ksymtab") == nil && f.Section("__ksymtab_gpl") == nil {
		return nil // exports nothing: most do not, and symbol tables are long
	}
	symbols, err := f.Symbols()
	if err != nil {
		return err
	}
	for _, s := range symbols {
		if name, ok := strings.CutPrefix(s.Name, "__ksymtab_"); ok {
			m.exports = append(m.exports, name)
		}
	}
	return nil
}

// all returns the values of a key of .modinfo.
func (m *module) all(key string) (values []string) {
	for _, line := range m.info {
		if k, v, ok := strings.Cut(line, "="); ok && k == key {
			values = append(values, v)
		}
	}
	return values
}

func (m *module) first(key string) string {
	for _, v := range m.all(key) {
		return v
	}
	return ""
}

// sorted returns the modules in the order of modules.order, the others behind
// by path, and ranks them so.
func (ms *modules) sorted() []*module {
	position := make(map[string]int)
	for line := range strings.Lines(string(ms.order)) {
		position[strings.TrimSpace(line)] = len(position)
	}
	list := make([]*module, 0, len(ms.byName))
	for _, m := range ms.byName {
		list = append(list, m)
	}
	at := func(m *module) int {
		plain, _, _ := moduleFile(m.path)
		if i, ok := position[plain]; ok {
			return i
		}
		return len(position)
	}
	slices.SortFunc(list, func(a, b *module) int {
		return cmp.Or(cmp.Compare(at(a), at(b)), strings.Compare(a.path, b.path))
	})
	for i, m := range list {
		m.rank = uint32(i)
	}
	return list
}

// require returns all that m needs, itself left out, users before what they
// use: modprobe loads from the end.
func (ms *modules) require(m *module) []*module {
	if m.done {
		return m.needs
	}
	m.done = true // now, so that a cycle ends
	var loadFirst []*module
	for _, depends := range m.all("depends") {
		for name := range strings.SplitSeq(depends, ",") {
			d := ms.byName[underscores(name)]
			if d == nil || d == m {
				continue // built in, or not shipped
			}
			chain := append([]*module{d}, ms.require(d)...)
			slices.Reverse(chain)
			for _, c := range chain {
				if c != m && !slices.Contains(loadFirst, c) {
					loadFirst = append(loadFirst, c)
				}
			}
		}
	}
	slices.Reverse(loadFirst)
	m.needs = loadFirst
	return m.needs
}

// indexFile is a generated file at the top of /lib/modules/<release>.
type indexFile struct {
	name string
	data []byte
}

// files returns what depmod(8) writes, text and index.
func (ms *modules) files() []indexFile {
	var dep, alias, softdep, symbol, devname bytes.Buffer
	alias.WriteString("# Aliases extracted from modules themselves.\n")
	softdep.WriteString("# Soft dependencies extracted from modules themselves.\n")
	symbol.WriteString("# Aliases for symbols, used by symbol_request().\n")
	devname.WriteString("# Device nodes to trigger on-demand module loading.\n")
	var deps, aliases, symbols []indexEntry
	for _, m := range ms.sorted() {
		line := m.path + ":"
		for _, d := range ms.require(m) {
			line += " " + d.path
		}
		dep.WriteString(line + "\n")
		deps = append(deps, indexEntry{m.name, m.rank, line})
		for _, a := range m.all("alias") {
			fmt.Fprintf(&alias, "alias %s %s\n", a, m.name)
			aliases = append(aliases, indexEntry{aliasKey(a), m.rank, m.name})
		}
		for _, s := range m.all("softdep") {
			fmt.Fprintf(&softdep, "softdep %s %s\n", m.name, s)
		}
		for _, s := range m.exports {
			fmt.Fprintf(&symbol, "alias symbol:%s %s\n", s, m.name)
			symbols = append(symbols, indexEntry{"symbol:" + s, m.rank, m.name})
		}
		devname.WriteString(m.devname())
	}
	builtin, builtinAliases := ms.builtins()
	return []indexFile{
		{"modules.dep", dep.Bytes()},
		{"modules.dep.bin", writeIndex(deps)},
		{"modules.alias", alias.Bytes()},
		{"modules.alias.bin", writeIndex(aliases)},
		{"modules.softdep", softdep.Bytes()},
		{"modules.symbols", symbol.Bytes()},
		{"modules.symbols.bin", writeIndex(symbols)},
		{"modules.builtin.bin", writeIndex(builtin)},
		{"modules.builtin.alias.bin", writeIndex(builtinAliases)},
		{"modules.devname", devname.Bytes()},
	}
}

// devname returns the line by which udev and systemd make a device node before
// the module is loaded, or "".
func (m *module) devname() string {
	var node, kind string
	var major, minor uint
	for _, a := range m.all("alias") {
		if name, ok := strings.CutPrefix(a, "devname:"); ok {
			node = name
		} else if _, err := fmt.Sscanf(a, "char-major-%d-%d", &major, &minor); err == nil {
			kind = "c"
		} else if _, err := fmt.Sscanf(a, "block-major-%d-%d", &major, &minor); err == nil {
			kind = "b"
		}
		if node != "" && kind != "" {
			return fmt.Sprintf("%s %s %s%d:%d\n", m.name, node, kind, major, minor)
		}
	}
	return ""
}

// builtins returns the index entries of what is in the kernel itself, so that
// loading it is a success that does nothing.
func (ms *modules) builtins() (names, aliases []indexEntry) {
	for line := range strings.Lines(string(ms.builtin)) {
		if _, name, ok := moduleFile(strings.TrimSpace(line)); ok {
			names = append(names, indexEntry{key: name})
		}
	}
	for line := range strings.SplitSeq(string(ms.builtinModinfo), "\x00") {
		key, value, _ := strings.Cut(line, "=")
		if name, ok := strings.CutSuffix(key, ".alias"); ok {
			aliases = append(aliases, indexEntry{key: aliasKey(value), value: underscores(name)})
		}
	}
	return names, aliases
}

// aliasKey is an alias as libkmod looks it up: with '_' for '-' but inside
// brackets, where '-' makes a range.
func aliasKey(alias string) string {
	b, inside := []byte(alias), false
	for i, c := range b {
		switch {
		case c == '[':
			inside = true
		case c == ']':
			inside = false
		case c == '-' && !inside:
			b[i] = '_'
		}
	}
	return string(b)
}
