package kernel

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// need skips a test whose tool is missing, unless BANGER_REQUIRE names it.
func need(t testing.TB, tool, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	for _, r := range strings.Split(os.Getenv("BANGER_REQUIRE"), ",") {
		if r == tool || r == "all" {
			t.Fatalf("%s is missing and BANGER_REQUIRE has %q", program, r)
		}
	}
	t.Skipf("%s is missing", program)
}

type elfSection struct {
	name string
	typ  elf.SectionType
	link uint32
	data []byte
}

// fakeELF is an ELF file with a note segment and sections.
func fakeELF(machine elf.Machine, typ elf.Type, note []byte, sections ...elfSection) []byte {
	names := "\x00"
	all := append([]elfSection{{}}, sections...)
	all = append(all, elfSection{name: ".shstrtab", typ: elf.SHT_STRTAB})
	heads := make([]elf.Section64, len(all))
	var body bytes.Buffer
	const start = 64 + 56
	body.Write(note)
	for i, s := range all {
		if i == 0 {
			continue
		}
		name := uint32(len(names))
		names += s.name + "\x00"
		if s.name == ".shstrtab" {
			s.data = []byte(names)
		}
		heads[i] = elf.Section64{Name: name, Type: uint32(s.typ), Off: uint64(start + body.Len()), Size: uint64(len(s.data)), Link: s.link, Addralign: 1}
		if s.typ == elf.SHT_SYMTAB {
			heads[i].Entsize = 24
		}
		body.Write(s.data)
	}
	var out bytes.Buffer
	h := elf.Header64{
		Type: uint16(typ), Machine: uint16(machine), Version: 1, Ehsize: 64,
		Phoff: 64, Phentsize: 56, Phnum: 1,
		Shoff: uint64(start + body.Len()), Shentsize: 64, Shnum: uint16(len(all)), Shstrndx: uint16(len(all) - 1),
	}
	copy(h.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	p := elf.Prog64{Type: uint32(elf.PT_NOTE), Off: start, Filesz: uint64(len(note)), Align: 4}
	for _, v := range []any{h, p, body.Bytes(), heads} {
		if err := binary.Write(&out, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	return out.Bytes()
}

func fakeNote(name string, typ uint32, desc []byte) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, uint32(len(name)+1))
	b = le.AppendUint32(b, uint32(len(desc)))
	b = le.AppendUint32(b, typ)
	b = append(b, name+"\x00"...)
	b = append(b, make([]byte, -len(b)&3)...)
	b = append(b, desc...)
	return append(b, make([]byte, -len(b)&3)...)
}

// pvhNotes has the note that matters behind others.
func pvhNotes() []byte {
	return bytes.Join([][]byte{
		fakeNote("GNU", 3, []byte("a build id")), fakeNote("Xen", 6, []byte("linux")), fakeNote("Xen", 18, make([]byte, 8)),
	}, nil)
}

const testRelease = "6.6.6-test+1"

// fakeVmlinux is bigger than one LZ4 block.
func fakeVmlinux(release string, notes []byte) []byte {
	text := make([]byte, 9<<20)
	rng := rand.NewChaCha8([32]byte{})
	for i := 0; i < len(text); i += 64 {
		_, _ = rng.Read(text[i : i+8])
	}
	copy(text[1<<20:], "Linux version %s (%s)\x00")
	copy(text[8<<20:], "Linux version "+release+" (builder@host) (gcc) #1 SMP\x00")
	return fakeELF(elf.EM_X86_64, elf.ET_EXEC, notes, elfSection{name: ".text", typ: elf.SHT_PROGBITS, data: text})
}

// fakeBzImage wraps a payload as arch/x86/boot does.
func fakeBzImage(payload []byte) []byte {
	const sects, offset = 7, 0x123
	b := make([]byte, (sects+1)*512+offset)
	le := binary.LittleEndian
	b[bzSetupSects] = sects
	le.PutUint16(b[bzBootFlag:], 0xaa55)
	copy(b[bzHeader:], "HdrS")
	le.PutUint16(b[bzVersion:], 0x020f)
	le.PutUint32(b[bzPayloadOffset:], offset)
	le.PutUint32(b[bzPayloadLength:], uint32(len(payload)))
	return append(append(b, payload...), "the decompressor follows"...)
}

// withSize does what size_append does.
func withSize(packed, unpacked []byte) []byte {
	return binary.LittleEndian.AppendUint32(packed, uint32(len(unpacked)))
}

func packGzip(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, _ := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func packZstd(t testing.TB, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

func packLZ4(t testing.TB, b []byte) []byte {
	t.Helper()
	out := []byte("\x02\x21\x4c\x18")
	for len(b) > 0 {
		n := min(len(b), lz4Block)
		packed := make([]byte, lz4.CompressBlockBound(n))
		k, err := lz4.CompressBlock(b[:n], packed, nil)
		if err != nil {
			t.Fatal(err)
		}
		out = append(binary.LittleEndian.AppendUint32(out, uint32(k)), packed[:k]...)
		b = b[n:]
	}
	return out
}

// packWith compresses by a program.
func packWith(t testing.TB, b []byte, program string, args ...string) []byte {
	t.Helper()
	need(t, program, program)
	cmd := exec.Command(program, args...)
	cmd.Stdin = bytes.NewReader(b)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// fakeModule is a .ko with the given lines in .modinfo, which exports symbols.
func fakeModule(release string, info []string, exports ...string) []byte {
	info = append(info, "vermagic="+release+" SMP preempt mod_unload ")
	sections := []elfSection{{name: ".modinfo", typ: elf.SHT_PROGBITS, data: []byte(strings.Join(info, "\x00") + "\x00")}}
	if len(exports) > 0 {
		symtab, strtab, kstrtab := make([]byte, 24), "\x00", ""
		for _, s := range exports {
			sym := make([]byte, 24)
			binary.LittleEndian.PutUint32(sym, uint32(len(strtab)))
			binary.LittleEndian.PutUint16(sym[6:], 2) // defined in a section
			symtab = append(symtab, sym...)
			strtab += "__ksymtab_" + s + "\x00"
			kstrtab += s + "\x00"
		}
		sections = append(sections,
			elfSection{name: "__ksymtab_gpl", typ: elf.SHT_PROGBITS, data: make([]byte, 8)},
			elfSection{name: "__ksymtab_strings", typ: elf.SHT_PROGBITS, data: []byte(kstrtab)},
			elfSection{name: ".symtab", typ: elf.SHT_SYMTAB, link: 5, data: symtab},
			elfSection{name: ".strtab", typ: elf.SHT_STRTAB, data: []byte(strtab)})
	}
	return fakeELF(elf.EM_X86_64, elf.ET_REL, nil, sections...)
}

// testFile is a file of a tree: path below the top, content.
type testFile struct {
	name string
	data []byte
}

// fakeModules is /lib/modules/<release> as a package ships it: without indexes.
// Module c needs b, b needs a-1; d and e need each other.
func fakeModules(t testing.TB) []testFile {
	t.Helper()
	return []testFile{
		{"kernel/a-1.ko", fakeModule(testRelease, []string{"alias=pci:v*[0-9]d-1*", "softdep=pre: b", "alias=devname:a", "alias=char-major-10-77"}, "a_open", "a_close")},
		{"kernel/drivers/b.ko.zst", packZstd(t, fakeModule(testRelease, []string{"depends=a-1"}, "b_open"))},
		{"kernel/drivers/c.ko", fakeModule(testRelease, []string{"depends=b,a-1,not_shipped", "alias=block-major-8-*", "alias=pci:v*"})},
		{"kernel/drivers/old.ko", fakeModule(testRelease, []string{"alias=old-one"})},
		{"updates/old.ko", fakeModule(testRelease, []string{"alias=new-one"})},
		{"modules.order", []byte("kernel/drivers/c.ko\nkernel/drivers/b.ko\nkernel/a-1.ko\n")},
		{"modules.builtin", []byte("kernel/fs/ext4/ext4.ko\nkernel/lib/crc-t10dif.ko\n")},
		{"modules.builtin.modinfo", []byte("ext4.alias=fs-ext4\x00ext4.license=GPL\x00")},
	}
}

// writeTree writes files below dir, all of one time.
func writeTree(t testing.TB, dir string, files []testFile) {
	t.Helper()
	for _, f := range files {
		name := filepath.Join(dir, f.name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, f.data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	when := time.Unix(1700000000, 0)
	err := filepath.Walk(dir, func(p string, _ os.FileInfo, _ error) error { return os.Chtimes(p, when, when) })
	if err != nil {
		t.Fatal(err)
	}
}

// fakeDeb is a linux-image package; pack compresses its data.tar.
func fakeDeb(t testing.TB, member string, pack func([]byte) []byte, files []testFile) []byte {
	t.Helper()
	var data bytes.Buffer
	w := tar.NewWriter(&data)
	when := time.Unix(1700000000, 0)
	for _, f := range files {
		h := &tar.Header{Name: "./" + f.name, Mode: 0o644, Size: int64(len(f.data)), ModTime: when}
		if strings.HasSuffix(f.name, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		} else if to, ok := strings.CutPrefix(string(f.data), "->"); ok {
			h.Typeflag, h.Linkname, h.Size, f.data = tar.TypeSymlink, to, 0, nil
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	out := []byte(arMagic)
	for _, m := range []testFile{{"debian-binary", []byte("2.0\n")}, {"control.tar.xz", []byte("odd")}, {member, pack(data.Bytes())}} {
		out = fmt.Appendf(out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, 1700000000, 0, 0, "100644", len(m.data))
		out = append(out, m.data...)
		out = append(out, make([]byte, len(m.data)&1)...)
	}
	return out
}

// debTree is the file tree of a whole kernel package.
func debTree(t testing.TB, vmlinuz []byte) []testFile {
	t.Helper()
	top := "lib/modules/" + testRelease + "/"
	files := []testFile{
		{"boot/", nil},
		{"boot/config-" + testRelease, []byte("CONFIG_PVH=y\n")},
		{"boot/vmlinuz-" + testRelease, vmlinuz},
		{"lib/", nil},
		{"lib/modules/", nil},
		{top, nil},
		{top + "build", []byte("->/usr/src/linux")},
	}
	for _, f := range fakeModules(t) {
		files = append(files, testFile{top + f.name, f.data})
	}
	return append(files, testFile{"usr/share/doc/copyright", []byte("GPL")})
}
