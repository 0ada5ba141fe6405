package ext4

import "math/bits"

// nameHash is the half_md4 hash of a name in an indexed directory, in the
// variant that takes bytes as signed (s_flags says so): a cut-down MD4 over
// 32-byte pieces; Documentation/filesystems/ext4/directory.rst, lib/ext2fs/dirhash.c.
func nameHash(seed [4]uint32, name string) (major, minor uint32) {
	h := [4]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}
	if seed != [4]uint32{} {
		h = seed
	}
	for {
		mixHalfMD4(&h, hashWords(name))
		if len(name) <= 32 {
			break
		}
		name = name[32:]
	}
	major = h[1] &^ 1 // the low bit says "continued in the next leaf"
	if major == 0xfffffffe {
		major = 0xfffffffc // the kernel keeps the highest for the end of a directory
	}
	return major, h[2]
}

// hashWords spreads up to 32 bytes over eight words, padded by the length of
// all that is left of the name.
func hashWords(s string) (w [8]uint32) {
	pad := uint32(len(s)) | uint32(len(s))<<8
	pad |= pad << 16
	for i := range w {
		w[i] = pad
		for _, c := range []byte(s[min(4*i, len(s)):min(4*i+4, len(s))]) {
			w[i] = w[i]<<8 + uint32(int8(c))
		}
	}
	return w
}

func mixHalfMD4(h *[4]uint32, w [8]uint32) {
	a, b, c, d := h[0], h[1], h[2], h[3]
	f := func(x, y, z uint32) uint32 { return z ^ x&(y^z) }
	g := func(x, y, z uint32) uint32 { return x&y + (x^y)&z }
	for i := 0; i < 8; i += 4 {
		a = bits.RotateLeft32(a+f(b, c, d)+w[i], 3)
		d = bits.RotateLeft32(d+f(a, b, c)+w[i+1], 7)
		c = bits.RotateLeft32(c+f(d, a, b)+w[i+2], 11)
		b = bits.RotateLeft32(b+f(c, d, a)+w[i+3], 19)
	}
	const k2 = 0x5a827999
	for i := 1; i >= 0; i-- {
		a = bits.RotateLeft32(a+g(b, c, d)+w[i]+k2, 3)
		d = bits.RotateLeft32(d+g(a, b, c)+w[i+2]+k2, 5)
		c = bits.RotateLeft32(c+g(d, a, b)+w[i+4]+k2, 9)
		b = bits.RotateLeft32(b+g(c, d, a)+w[i+6]+k2, 13)
	}
	const k3 = 0x6ed9eba1
	for i := 3; i >= 1; i -= 2 {
		a = bits.RotateLeft32(a+(b^c^d)+w[i]+k3, 3)
		d = bits.RotateLeft32(d+(a^b^c)+w[i+4]+k3, 9)
		c = bits.RotateLeft32(c+(d^a^b)+w[i-1]+k3, 11)
		b = bits.RotateLeft32(b+(c^d^a)+w[i+3]+k3, 15)
	}
	h[0], h[1], h[2], h[3] = h[0]+a, h[1]+b, h[2]+c, h[3]+d
}
