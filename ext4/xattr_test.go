package ext4

import (
	"fmt"
	"strings"
	"testing"
)

// Inodes with equal attributes share blocks, up to 1024 of them each.
func TestSharedAttributes(t *testing.T) {
	t.Parallel()
	label := map[string]string{"security.selinux": noise(100)}
	other := map[string]string{"security.selinux": noise(101)}
	w, f := image(t, Options{Size: 16 * mib})
	var files []want
	for i := range 2*attrMaxRefs + 1 {
		files = append(files, want{path: fmt.Sprint(i), Header: Header{Mode: 0o644, Xattrs: label}})
	}
	files = append(files, want{path: "other", Header: Header{Mode: 0o644, Xattrs: other}})
	put(t, w, files)
	fsys := finish(t, w, f)
	compare(t, fsys, files)
	shared := map[uint32]int{}
	for _, file := range files {
		n := must[*node](t)(fsys.lookup(file.path, false))
		shared[le.Uint32(n.raw[inoAttrLo:])]++
	}
	if len(shared) != 4 {
		t.Errorf("attributes are in %d blocks, want 4", len(shared))
	}
	for block, n := range shared {
		if n > 1024 {
			t.Errorf("block %d has %d inodes, want 1024 at most", block, n)
		}
		b := must[[]byte](t)(fsys.readBlock(int64(block)))
		if hash := le.Uint32(b[attrHash:]); hash == 0 || hash != le.Uint32(b[attrBlockHead+12:]) {
			t.Errorf("block %d has hash %#x, want that of its only entry", block, hash)
		}
		if got := int(le.Uint32(b[attrRefcount:])); got != n {
			t.Errorf("block %d counts %d inodes, want %d", block, got, n)
		}
	}
}

// The kernel searches blocks of attributes for a sorted list.
func TestAttributeOrder(t *testing.T) {
	t.Parallel()
	w, f := image(t, Options{Size: 16 * mib})
	value := noise(100) // too long for the inode
	put(t, w, []want{{path: "x", Header: Header{Mode: 0o644, Xattrs: map[string]string{
		"user.z": value, "user.aa": value, "user.a": value, "security.b": value, "trusted.ccc": value, "system.posix_acl_access": accessACL,
	}}}})
	n := must[*node](t)(finish(t, w, f).lookup("x", false))
	b := make([]byte, blockSize)
	must[int](t)(f.ReadAt(b, int64(le.Uint32(n.raw[inoAttrLo:]))*blockSize))
	var got []string
	if err := eachAttr(b, attrBlockHead, func(x xattr) error {
		got = append(got, fmt.Sprint(x.index, x.name))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(got, " "), "1a 1z 1aa 4ccc 6b"; got != want {
		t.Errorf("order = %q, want %q", got, want)
	}
}

// Hashes as the kernel computes them: fs/ext4/xattr.c, by hand.
func TestAttributeHash(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, value string
		want        uint32
	}{
		{"", "", 0},
		{"a", "", 'a'},
		{"ab", "", 'a'<<5 ^ 'b'},
		{"\xff", "", 0xff},
		{"", "\x01\x02\x03\x04", 0x04030201},
		{"", "\x01\x00\x00\x80\x02\x00\x00\x00", 0x80000001<<16&0xffffffff ^ 0x80000001>>16 ^ 2},
		{"aaaaaaaa", "", func() (h uint32) {
			for range 8 {
				h = h<<5 | h>>27
				h ^= 'a'
			}
			return h
		}()},
	} {
		if got := entryHash(row.name, []byte(row.value)); got != row.want {
			t.Errorf("hash of %q, %q = %#x, want %#x", row.name, row.value, got, row.want)
		}
	}
}

func TestACL(t *testing.T) {
	t.Parallel()
	wire := acl([3]uint32{1, 6, aclNoID}, [3]uint32{2, 7, 1000}, [3]uint32{32, 4, aclNoID})
	disk := "\x01\x00\x00\x00" + "\x01\x00\x06\x00" + "\x02\x00\x07\x00\xe8\x03\x00\x00" + "\x20\x00\x04\x00"
	if got, err := diskACL(wire); err != nil || got != disk {
		t.Errorf("disk = %q, %v, want %q", got, err, disk)
	}
	if got, err := wireACL(disk); err != nil || got != wire {
		t.Errorf("wire = %q, %v, want %q", got, err, wire)
	}
	for _, bad := range []string{"", "\x02\x00\x00\x00", disk[:6], disk[:10], strings.Replace(disk, "\x20", "\x21", 1)} {
		if got, err := wireACL(bad); err == nil {
			t.Errorf("wire of %q = %q, want an error", bad, got)
		}
	}
}
