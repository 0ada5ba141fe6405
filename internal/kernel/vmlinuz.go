package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"regexp"

	"banger/internal/api"
)

// bootable is a kernel as a VMM loads it.
type bootable struct {
	file    string // name in the store: vmlinux or Image
	data    []byte
	release string // as uname -r prints it
	arch    string // as Go names it
	modules bool   // modules.ext4 has been written beside it
}

// maxKernel bounds a kernel, packed and unpacked. Debian's are 14 MB and 53 MB.
const maxKernel = 1 << 30

// Where the fields of a bzImage are; Documentation/arch/x86/boot.rst.
const (
	bzSetupSects    = 0x1f1 // u8, of 512 bytes; 0 means 4
	bzBootFlag      = 0x1fe // u16, 0xaa55
	bzHeader        = 0x202 // "HdrS"
	bzVersion       = 0x206 // u16; the payload fields came with 2.08
	bzPayloadOffset = 0x248 // u32, from the end of the setup sectors
	bzPayloadLength = 0x24c // u32
	bzHeaderEnd     = 0x250
)

// extract turns any kernel image into one that a VMM loads: a vmlinux is taken
// as it is, a bzImage is unpacked, and so is a flat arm64 Image inside gzip.
func extract(raw []byte) (*bootable, error) {
	switch {
	case bytes.HasPrefix(raw, []byte(elf.ELFMAG)):
		return fromELF(raw)
	case isBzImage(raw):
		payload, err := bzPayload(raw)
		if err != nil {
			return nil, err
		}
		data, err := unpackPayload(payload)
		if err != nil {
			return nil, fmt.Errorf("unpack bzImage: %w", err)
		}
		return fromELF(data)
	case isARM64Image(raw):
		return fromARM64Image(raw)
	case len(raw) > 8 && string(raw[:2]) == "MZ" && string(raw[4:8]) == "zimg":
		return nil, api.Hint(fmt.Errorf("an EFI zboot image cannot be unpacked: %w", api.ErrInvalid),
			"take vmlinux or arch/arm64/boot/Image of the same build")
	case bytes.HasPrefix(raw, []byte("\x1f\x8b")):
		data, err := decompress(raw, maxKernel)
		if err != nil {
			return nil, fmt.Errorf("unpack kernel: %w", err)
		}
		if isARM64Image(data) {
			return fromARM64Image(data)
		}
		return fromELF(data)
	}
	return nil, api.Hint(fmt.Errorf("not a kernel: %w", api.ErrInvalid),
		"a kernel is a bzImage (vmlinuz), an ELF vmlinux or an arm64 Image")
}

func isBzImage(b []byte) bool {
	return len(b) >= bzHeaderEnd &&
		binary.LittleEndian.Uint16(b[bzBootFlag:]) == 0xaa55 &&
		string(b[bzHeader:bzHeader+4]) == "HdrS"
}

// bzPayload returns the compressed kernel inside a bzImage.
func bzPayload(b []byte) ([]byte, error) {
	le := binary.LittleEndian
	if v := le.Uint16(b[bzVersion:]); v < 0x0208 {
		return nil, fmt.Errorf("bzImage of boot protocol %d.%02d is too old, want 2.08 (Linux 2.6.24): %w", v>>8, v&0xff, api.ErrInvalid)
	}
	sects := int64(b[bzSetupSects])
	if sects == 0 {
		sects = 4
	}
	start := (sects+1)*512 + int64(le.Uint32(b[bzPayloadOffset:]))
	end := start + int64(le.Uint32(b[bzPayloadLength:]))
	if start >= end || end > int64(len(b)) {
		return nil, fmt.Errorf("bzImage is cut off: its payload ends at byte %d of %d: %w", end, len(b), api.ErrInvalid)
	}
	return b[start:end], nil
}

// isARM64Image looks for the magic of Documentation/arch/arm64/booting.rst.
func isARM64Image(b []byte) bool {
	return len(b) >= 64 && string(b[56:60]) == "ARM\x64"
}

func fromARM64Image(b []byte) (*bootable, error) {
	release, err := findRelease(b)
	if err != nil {
		return nil, err
	}
	return &bootable{file: imageFile, data: b, release: release, arch: "arm64"}, nil
}

func fromELF(b []byte) (*bootable, error) {
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("read vmlinux: %w: %w", err, api.ErrInvalid)
	}
	if f.Machine != elf.EM_X86_64 {
		return nil, api.Hint(fmt.Errorf("vmlinux is for %s, want %s: %w", f.Machine, elf.EM_X86_64, api.ErrInvalid),
			"for arm64 take arch/arm64/boot/Image")
	}
	if !hasPVH(f) {
		return nil, api.Hint(fmt.Errorf("vmlinux has no PVH entry, so no VMM can start it: %w", api.ErrInvalid),
			"build it with CONFIG_PVH=y")
	}
	release, err := findRelease(b)
	if err != nil {
		return nil, err
	}
	return &bootable{file: vmlinuxFile, data: b, release: release, arch: "amd64"}, nil
}

// hasPVH looks for the note that tells the 32-bit entry point
// (XEN_ELFNOTE_PHYS32_ENTRY, xen/include/public/elfnote.h). QEMU refuses an ELF
// kernel without it.
func hasPVH(f *elf.File) bool {
	const phys32Entry = 18
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE || p.Filesz > 1<<20 {
			continue
		}
		b := make([]byte, p.Filesz)
		if _, err := p.ReadAt(b, 0); err != nil {
			continue
		}
		for len(b) >= 12 {
			name, desc := f.ByteOrder.Uint32(b), f.ByteOrder.Uint32(b[4:])
			if f.ByteOrder.Uint32(b[8:]) == phys32Entry && bytes.HasPrefix(b[12:], []byte("Xen\x00")) {
				return true
			}
			// Name and description are each padded to four bytes.
			next := 12 + (uint64(name)+3)&^3 + (uint64(desc)+3)&^3
			if next > uint64(len(b)) {
				break
			}
			b = b[next:]
		}
	}
	return false
}

// banner matches linux_banner (init/version-timestamp.c). The release goes into
// paths, so it is held to the characters that releases have.
var banner = regexp.MustCompile(`^Linux version ([0-9][0-9A-Za-z._+~-]{0,63}) \(`)

// findRelease returns the release that a kernel image says of itself.
func findRelease(b []byte) (string, error) {
	const start = "Linux version "
	for {
		i := bytes.Index(b, []byte(start))
		if i < 0 {
			return "", fmt.Errorf("kernel does not tell its version: %w", api.ErrInvalid)
		}
		b = b[i:]
		if m := banner.FindSubmatch(b[:min(len(b), 128)]); m != nil {
			return string(m[1]), nil
		}
		b = b[len(start):]
	}
}
