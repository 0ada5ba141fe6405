package qemu

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"banger/internal/vmm"
)

// need skips a test whose tool is missing, unless BANGER_REQUIRE names it.
func need(t *testing.T, tool, binary string) {
	t.Helper()
	if _, err := exec.LookPath(binary); err == nil {
		return
	}
	required := strings.Split(os.Getenv("BANGER_REQUIRE"), ",")
	if slices.Contains(required, tool) || slices.Contains(required, "all") {
		t.Fatalf("%s is required and missing", binary)
	}
	t.Skipf("%s is missing", binary)
}

// The real QEMU takes all our arguments and boots a kernel of 25 bytes, which
// prints one byte and resets the machine.
func TestRealQEMU(t *testing.T) {
	t.Parallel()
	need(t, "qemu", "qemu-system-x86_64")
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	m := vmm.Machine{
		Name: "tiny", Arch: "amd64", CPUs: 2, MemoryMiB: 64, Accel: "tcg", Network: true,
		Kernel:    write("kernel", tinyKernel(t)),
		Initramfs: write("initramfs", make([]byte, 512)),
		Disks: []vmm.Disk{
			{Path: write("root,with,commas", make([]byte, 1<<20)), Serial: "banger-root"},
			{Path: write("modules", make([]byte, 1<<20)), Serial: "banger-modules", ReadOnly: true},
		},
		Dir: dir, RunDir: runDir(t),
	}
	began := time.Now()
	in, err := (&Driver{}).Start(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if at := in.Info().FirstOutput; at.Before(began) {
		t.Errorf("first byte at %v, started at %v", at, began)
	}
	if b, err := os.ReadFile(filepath.Join(dir, vmm.ConsoleLog)); err != nil || string(b) != "!" {
		t.Errorf("console log: got %q, %v; want one byte", b, err)
	}
}

// tinyKernel is an ELF file with the note by which QEMU finds the entry point of
// a PVH kernel (xen/include/public/elfnote.h: XEN_ELFNOTE_PHYS32_ENTRY is 18).
func tinyKernel(t *testing.T) []byte {
	t.Helper()
	const base, header, program, note = 0x100000, 64, 56, 20
	const codeAt = header + 2*program + note
	code := []byte{
		0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0xb0, '!', // mov al, '!'
		0xee,                         // out dx, al
		0x0f, 0x01, 0x1d, 0, 0, 0, 0, // lidt [zeroes]
		0xcc,                   // int3: no handler, so a triple fault
		0x90, 0x90, 0x90, 0x90, // padding
		0, 0, 0, 0, 0, 0, // zeroes
	}
	binary.LittleEndian.PutUint32(code[10:], base+codeAt+uint32(len(code))-6)
	size := uint64(codeAt + len(code))
	var b bytes.Buffer
	for _, part := range []any{
		elf.Header64{
			Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1},
			Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Entry: base + codeAt,
			Phoff: header, Ehsize: header, Phentsize: program, Phnum: 2,
		},
		elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: 5, Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Align: 4096},
		elf.Prog64{Type: uint32(elf.PT_NOTE), Off: header + 2*program, Vaddr: base + header + 2*program, Paddr: base + header + 2*program, Filesz: note, Memsz: note, Align: 4},
		[]uint32{4, 4, 18},
		[4]byte{'X', 'e', 'n'},
		uint32(base + codeAt),
		code,
	} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}
