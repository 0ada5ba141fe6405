package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"banger/internal/api"
)

func TestExtract(t *testing.T) {
	t.Parallel()
	vmlinux := fakeVmlinux(testRelease, pvhNotes())
	image := append(make([]byte, 56), "ARM\x64 and so on: Linux version 6.6.7-arm (builder@host)"...)
	for _, tt := range []struct {
		name string
		raw  func(t *testing.T) []byte
		want bootable
	}{
		{"vmlinux", func(*testing.T) []byte { return vmlinux }, bootable{vmlinuxFile, vmlinux, testRelease, "amd64", false}},
		{"vmlinux.gz", func(t *testing.T) []byte { return packGzip(t, vmlinux) }, bootable{vmlinuxFile, vmlinux, testRelease, "amd64", false}},
		{"gzip", func(t *testing.T) []byte { return fakeBzImage(packGzip(t, vmlinux)) }, bootable{vmlinuxFile, vmlinux, testRelease, "amd64", false}},
		{"zstd", func(t *testing.T) []byte { return fakeBzImage(withSize(packZstd(t, vmlinux), vmlinux)) }, bootable{vmlinuxFile, vmlinux, testRelease, "amd64", false}},
		{"lz4", func(t *testing.T) []byte { return fakeBzImage(withSize(packLZ4(t, vmlinux), vmlinux)) }, bootable{vmlinuxFile, vmlinux, testRelease, "amd64", false}},
		{"xz with the x86 filter", func(t *testing.T) []byte {
			return fakeBzImage(withSize(packWith(t, vmlinux, "xz", "-0", "--check=crc32", "--x86", "--lzma2=preset=0"), vmlinux))
		}, bootable{vmlinuxFile, vmlinux, testRelease, "amd64", false}},
		{"bzip2", func(t *testing.T) []byte { return fakeBzImage(withSize(packWith(t, vmlinux, "bzip2", "-1"), vmlinux)) }, bootable{vmlinuxFile, vmlinux, testRelease, "amd64", false}},
		{"arm64 Image", func(*testing.T) []byte { return image }, bootable{imageFile, image, "6.6.7-arm", "arm64", false}},
		{"arm64 Image.gz", func(t *testing.T) []byte { return packGzip(t, image) }, bootable{imageFile, image, "6.6.7-arm", "arm64", false}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := extract(tt.raw(t))
			if err != nil {
				t.Fatal(err)
			}
			if got.file != tt.want.file || got.release != tt.want.release || got.arch != tt.want.arch {
				t.Errorf("got %s %s %s, want %s %s %s", got.file, got.release, got.arch, tt.want.file, tt.want.release, tt.want.arch)
			}
			if !bytes.Equal(got.data, tt.want.data) {
				t.Errorf("got %d other bytes, want the %d that were packed", len(got.data), len(tt.want.data))
			}
		})
	}
}

func TestExtractRefuses(t *testing.T) {
	t.Parallel()
	vmlinux := fakeVmlinux(testRelease, pvhNotes())
	good := fakeBzImage(withSize(packLZ4(t, vmlinux), vmlinux))
	le := binary.LittleEndian
	edit := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good)) }
	lz4Start := bytes.Index(good, []byte("\x02\x21\x4c\x18"))
	zboot := append([]byte("MZ\x00\x00zimg"), make([]byte, 100)...)
	for _, tt := range []struct {
		name string
		raw  []byte
		is   error
		says string
	}{
		{"empty", nil, api.ErrInvalid, "not a kernel"},
		{"text", []byte("#!/bin/sh\n"), api.ErrInvalid, "not a kernel"},
		{"EFI zboot", zboot, api.ErrInvalid, "zboot"},
		{"no PVH note", fakeVmlinux(testRelease, fakeNote("GNU", 18, nil)), api.ErrInvalid, "PVH"},
		{"torn note", fakeVmlinux(testRelease, []byte("\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00\x00\x00....")), api.ErrInvalid, "PVH"},
		{"arm64 vmlinux", fakeELF(elf.EM_AARCH64, elf.ET_EXEC, nil), api.ErrInvalid, "EM_AARCH64"},
		{"release that climbs", fakeVmlinux("6/../../x", pvhNotes()), api.ErrInvalid, "version"},
		{"torn ELF", vmlinux[:40], api.ErrInvalid, "vmlinux"},
		{"old protocol", edit(func(b []byte) []byte { le.PutUint16(b[bzVersion:], 0x0207); return b }), api.ErrInvalid, "2.07"},
		{"cut off", good[:len(good)/2], api.ErrInvalid, "cut off"},
		{"payload wraps", edit(func(b []byte) []byte { le.PutUint32(b[bzPayloadLength:], 0xffffffff); return b }), api.ErrInvalid, "cut off"},
		{"empty payload", edit(func(b []byte) []byte { le.PutUint32(b[bzPayloadLength:], 0); return b }), api.ErrInvalid, "cut off"},
		{"huge LZ4 block", edit(func(b []byte) []byte { le.PutUint32(b[lz4Start+4:], 0xfffffff0); return b }), api.ErrInvalid, "block"},
		{"LZ4 block of rubbish", edit(func(b []byte) []byte { copy(b[lz4Start+8:], bytes.Repeat([]byte{0xff}, 5000)); return b }), nil, "lz4"},
		{"larger than it says", fakeBzImage(withSize(packLZ4(t, vmlinux), vmlinux[1:])), errTooLarge, "lz4"},
		{"smaller than it says", fakeBzImage(withSize(packZstd(t, vmlinux[1:]), vmlinux)), io.ErrUnexpectedEOF, "zstd"},
		{"lzma", fakeBzImage([]byte("\x5d\x00\x00\x00\x01 lzma")), errors.ErrUnsupported, "lzma"},
		{"lzo", fakeBzImage([]byte("\x89LZO\x00\r\n\x1a\n")), errors.ErrUnsupported, "lzo"},
		{"no compression we know", fakeBzImage([]byte("what is this")), api.ErrInvalid, "77 68 61 74"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, err := extract(tt.raw)
			if err == nil {
				t.Fatalf("got a kernel of release %s, want an error", b.release)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("got %v, want one that is %v", err, tt.is)
			}
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %q, want it to say %q", err, tt.says)
			}
		})
	}
}

// FuzzExtract holds that no input makes extract do anything but return a kernel
// that it takes again, or an error.
func FuzzExtract(f *testing.F) {
	small := fakeELF(elf.EM_X86_64, elf.ET_EXEC, pvhNotes(),
		elfSection{name: ".rodata", typ: elf.SHT_PROGBITS, data: []byte("Linux version 6.6.6 (x) #1")})
	f.Add(small)
	f.Add(fakeBzImage(packGzip(f, small)))
	f.Add(fakeBzImage(withSize(packLZ4(f, small), small)))
	f.Add(fakeBzImage(withSize(packZstd(f, small), small)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := extract(raw)
		if err != nil {
			return
		}
		again, err := extract(b.data)
		if err != nil || again.release != b.release || again.arch != b.arch || !bytes.Equal(again.data, b.data) {
			t.Errorf("got %+v, %v from what gave release %s", again, err, b.release)
		}
	})
}
