package rootfs

import (
	"strings"
	"testing"
)

func TestParseACL(t *testing.T) {
	t.Parallel()
	full := acl{{aclUserObj, 7, aclNoID}, {aclUser, 6, 0}, {aclGroupObj, 5, aclNoID}, {aclMask, 7, aclNoID}, {aclOther, 0, aclNoID}}
	for _, test := range []struct {
		text string
		want acl
		err  string
	}{
		{text: "user::rwx,user:root:rw-:0,group::r-x,mask::rwx,other::---", want: full},
		{text: "user::rwx\nuser:0:rw-\t#effective:r--\n# a comment\ngroup::r-x\nmask::rwx\nother::---\n", want: full},
		{text: "other:---,mask:rwx,g::rx,u:0:wr,u::xwr", want: full},
		{text: "default:user::rwx,default:user:0:rw-,default:group::r-x,default:mask::rwx,default:other::---", want: full},
		{text: "user::rw-,group::r--,other::r--", want: acl{{aclUserObj, 6, aclNoID}, {aclGroupObj, 4, aclNoID}, {aclOther, 4, aclNoID}}},
		{text: "user::rwx,user:4294967294:r--,group::---,mask::---,other::---", want: acl{{aclUserObj, 7, aclNoID}, {aclUser, 4, aclNoID - 1}, {aclGroupObj, 0, aclNoID}, {aclMask, 0, aclNoID}, {aclOther, 0, aclNoID}}},
		{text: "", err: "is missing"},
		{text: "user::rwx,group::r-x", err: "owner, group or other is missing"},
		{text: "user::rwx,user:0:rwx,group::r-x,other::---", err: "mask is missing"},
		{text: "user::rwx,user::rwx,group::r-x,other::---", err: "stands twice"},
		{text: "user::rwx,user:1:rwx,user:x:r--:1,group::r-x,mask::rwx,other::---", err: "stands twice"},
		{text: "user::rwx,user:joe:rwx,group::r-x,mask::rwx,other::---", err: "no number"},
		{text: "user::rwx,user:joe:rwx:4294967295,group::r-x,mask::rwx,other::---", err: "bad permissions or ID"},
		{text: "user::rwx,user:joe:rwx:4294967296,group::r-x,mask::rwx,other::---", err: "no number"},
		{text: "user::rwx,mask:5:rwx,group::r-x,other::---", err: "bad permissions or ID"},
		{text: "user::rws,group::r-x,other::---", err: "unknown permission"},
		{text: "owner@:rwx::allow", err: "unknown tag"},
		{text: "user", err: "not of the form"},
		{text: "user:a:rwx:1:2", err: "not of the form"},
	} {
		got, err := parseACL(test.text)
		switch {
		case test.err != "":
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%q: got %v, %v, want an error with %q", test.text, got, err, test.err)
			}
		case err != nil || got.encode() != test.want.encode():
			t.Errorf("%q: got %v, %v, want %v", test.text, got, err, test.want)
		}
	}
}

func TestDecodeACL(t *testing.T) {
	t.Parallel()
	// As getfattr printed it on Linux for "u::rw-,u:1000:rwx,g::r--,m::rwx,o::r--".
	const value = "\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x07\x00\xe8\x03\x00\x00" +
		"\x04\x00\x04\x00\xff\xff\xff\xff" + "\x10\x00\x07\x00\xff\xff\xff\xff" + "\x20\x00\x04\x00\xff\xff\xff\xff"
	a, err := decodeACL(value)
	if err != nil {
		t.Fatal(err)
	}
	if got := a.encode(); got != value {
		t.Errorf("got %q, want %q", got, value)
	}
	unsorted := value[:4] + value[36:44] + value[4:36]
	if a, err = decodeACL(unsorted); err != nil || a.encode() != value {
		t.Errorf("got %v, %v, want the entries in order", a, err)
	}
	anyID := strings.Replace(value, "\x10\x00\x07\x00\xff\xff\xff\xff", "\x10\x00\x07\x00\x00\x00\x00\x00", 1)
	if a, err = decodeACL(anyID); err != nil || a.encode() != value {
		t.Errorf("got %v, %v, want the ID of the mask to be ignored", a, err)
	}
	for name, bad := range map[string]string{
		"nothing":        "",
		"version":        "\x01" + value[1:],
		"length":         value[:len(value)-1],
		"empty":          value[:4],
		"tag":            value[:4] + "\x40" + value[5:],
		"permissions":    value[:6] + "\x08" + value[7:],
		"no user":        value[:16] + "\xff\xff\xff\xff" + value[20:],
		"huge tag":       value[:4] + "\xff\xff" + value[6:],
		"missing entry":  value[:36],
		"repeated entry": value + value[36:],
	} {
		if a, err := decodeACL(bad); err == nil {
			t.Errorf("%s: got %v, want an error", name, a)
		}
	}
}
