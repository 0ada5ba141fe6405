package rootfs

import (
	"archive/tar"
	"strings"
	"time"
)

var rulesOfAttributes = []rule{
	{
		name:   "Owners",
		does:   "All of 32 bits, from PAX records and base-256 fields; beyond that is an error, for who would own the file otherwise?",
		source: "layer.md, File Attributes",
		rows: []row{
			{
				name:   "owners",
				layers: layers{{file("a", "").owner(1<<32-2, 1<<32-2), file("b", "").owner(1<<31, 70000).as(tar.FormatGNU), dir("c").owner(100000, 0)}},
				want: `a 644 "" @4294967294:4294967294
					b 644 "" @2147483648:70000
					c/ 755 @100000:0`,
			},
			{name: "uid_too_large", layers: layers{{file("f", "").owner(1<<32, 0)}}, err: `entry "f": uid 4294967296`, umoci: `f 644 ""`, why: "it cuts the number"},
			{name: "gid_negative", layers: layers{{file("f", "").owner(0, -2).as(tar.FormatGNU)}}, err: `gid -2`, umoci: `f 644 "" @0:4294967294`, why: "it cuts the number"},
			{
				name:   "owners_by_name",
				layers: layers{{raw(`f 644 "" @7:8, uname "root", gname "daemon"`, block(tar.TypeReg, "f", 0, at(108, "0000007\x000000010"), at(265, "root"), at(297, "daemon")))}},
				want:   `f 644 "" @7:8`,
			},
			{
				name:   "owners_in_base_256",
				layers: layers{{raw(`f 644 "" @4000000000:65536, in base 256`, block(tar.TypeReg, "f", 0, at(108, "\x80\x00\x00\x00\xee\x6b\x28\x00\x80\x00\x00\x00\x00\x01\x00\x00")))}},
				want:   `f 644 "" @4000000000:65536`,
			},
			{
				name:   "owner_of_all_ones",
				layers: layers{{file("f", "").owner(1<<32-1, 1<<32-1)}},
				want:   `f 644 "" @4294967295:4294967295`,
				umoci:  `f 644 ""`,
				why:    "to chown, -1 means to leave the owner",
			},
		},
	},
	{
		name:   "Times",
		does:   "Nanoseconds, before 1970 and after 2038. What ext4 cannot hold is clamped, with a warning.",
		source: "layer.md, File Attributes; Documentation/filesystems/ext4/inodes.rst",
		rows: []row{
			{
				name:   "times",
				layers: layers{{file("a", "").time(time.Unix(1, 123456789)), file("b", "").time(time.Unix(-2, 500000000)), symlink("s", "x").time(time.Unix(7, 8)), file("y2038", "").time(time.Unix(1<<33, 999999999))}},
				want: `a 644 "" t=1.123456789
					b 644 "" t=-1.500000000
					s -> x t=7.000000008
					y2038 644 "" t=8589934592.999999999`,
			},
			{
				name:   "times_beyond_ext4",
				layers: layers{{file("a", "").time(time.Unix(-1<<31-1, 5)), file("b", "").time(time.Unix(3<<32-1<<31, 5)), file("c", "").time(time.Unix(1<<60, 0)), file("ok", "").time(time.Unix(3<<32-1<<31-1, 5))}},
				want: `a 644 "" t=-2147483648.000000000
					b 644 "" t=10737418239.000000000
					c 644 "" t=10737418239.000000000
					ok 644 "" t=10737418239.000000005`,
				warns: "mtime-clamped",
				umoci: "*",
				why:   "it depends on the host's file system",
			},
		},
	},
	{
		name:   "Extended attributes",
		does:   "From SCHILY.xattr and LIBARCHIVE.xattr, values of any bytes or none. Labels of SELinux, marks of overlayfs and what Linux has no namespace for are dropped, with a warning.",
		source: "layer.md, File Attributes; xattr(7)",
		rows: []row{
			{
				name:   "xattrs",
				layers: layers{{file("f", "").xattr("user.a", "a\x00b").xattr("user.empty", "").xattr("security.capability", "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), dir("d").xattr("user.d", "1"), file("e", "").pax("SCHILY.fflags", "x")}},
				want: `d/ 755 {user.d="1"}
					e 644 ""
					f 644 "" {security.capability="\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"} {user.a="a\x00b"} {user.empty=""}`,
				umoci: `d/ 755 {user.d="1"}
					e 644 ""
					f 644 "" {security.capability="\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"} {user.a="a\x00b"}`,
				why: "archive/tar gives it no empty values",
			},
			{
				name:   "xattrs_of_gnu_tar",
				layers: layers{{file("f", "").xattr("user.a%3Db", "1").xattr("user.100%25", "2").xattr("user.50%", "3")}},
				want:   `f 644 "" {user.100%="2"} {user.50%="3"} {user.a=b="1"}`,
				umoci:  `f 644 "" {user.100%25="2"} {user.50%="3"} {user.a%3Db="1"}`,
				why:    "it takes names as they are written; GNU tar writes = as %3D and % as %25",
			},
			{
				name: "xattrs_of_libarchive",
				layers: layers{{
					file("f", "").pax("LIBARCHIVE.xattr.user.a%3Db", "AP8").pax("LIBARCHIVE.xattr.user.pad", "YQ==").pax("LIBARCHIVE.xattr.user.100%", "YQ").
						pax("LIBARCHIVE.xattr.user.both", "eA").xattr("user.both", "y"),
				}},
				want:  `f 644 "" {user.100%="a"} {user.a=b="\x00\xff"} {user.both="y"} {user.pad="a"}`,
				umoci: `f 644 "" {user.both="y"}`,
				why:   "archive/tar does not know them",
			},
			{
				name: "xattrs_that_have_no_place_on_the_disk",
				layers: layers{{
					file("f", "").xattr("security.selinux", "label\x00").xattr("trusted.overlay.opaque", "y").xattr("user.overlay.origin", "y").
						xattr("com.apple.provenance", "x").xattr("user.", "x").pax("LIBARCHIVE.xattr.user.bad", "!").pax("LIBARCHIVE.xattr.user.nul%00", "YQ"),
					symlink("s", "t").xattr("user.a", "1").xattr("security.x", "1"),
				}},
				want: `f 644 ""
					s -> t {security.x="1"}`,
				warns: "xattr-dropped",
				umoci: "*",
				why:   "it depends on the host's file system",
			},
			{
				name:   "xattrs_trusted",
				layers: layers{{file("f", "").xattr("trusted.a", "1")}},
				want:   `f 644 "" {trusted.a="1"}`,
				warns:  "xattr-trusted",
			},
			{name: "xattr_name_256", layers: layers{{file("f", "").xattr("user."+strings.Repeat("n", 251), "")}}, err: "name is 256 bytes", umoci: `f 644 ""`, why: "the value is empty"},
			{name: "xattr_value_65537", layers: layers{{file("f", "").xattr("user.a", strings.Repeat("v", 65537))}}, err: "value is 65537 bytes", umoci: "error"},
		},
	},
	{
		name:   "ACLs",
		does:   "From extended attributes and from the text of SCHILY.acl. One that says what the mode says is stored as the mode alone, an invalid one is dropped, with a warning.",
		source: "silent; acl(5)",
		rows: []row{
			{
				name:   "acl_in_wire_format",
				layers: layers{{file("f", "").mode(0o664).xattr(xattrAccessACL, wire), dir("d").xattr(xattrDefaultACL, wire)}},
				want:   "d/ 755 {system.posix_acl_default=" + quoted(wire) + "}\n" + "f 664 \"\" {system.posix_acl_access=" + quoted(wire) + "}\n",
			},
			{
				name:   "acl_as_text",
				layers: layers{{file("f", "").mode(0o664).pax("SCHILY.acl.access", wireText), dir("d").pax("SCHILY.acl.default", wireText)}},
				want:   "d/ 755 {system.posix_acl_default=" + quoted(wire) + "}\n" + "f 664 \"\" {system.posix_acl_access=" + quoted(wire) + "}\n",
				umoci: `d/ 755
					f 664 ""`,
				why: "it does not read them",
			},
			{
				name:   "acl_in_both_forms",
				layers: layers{{file("f", "").mode(0o664).xattr(xattrAccessACL, wire).pax("SCHILY.acl.access", "user::rwx,user:joe:r--,group::---,mask::---,other::---")}},
				want:   "f 664 \"\" {system.posix_acl_access=" + quoted(wire) + "}\n",
			},
			{
				name:   "acl_that_says_what_the_mode_says",
				layers: layers{{file("f", "").pax("SCHILY.acl.access", "user::rw-,group::r--,other::r--")}},
				want:   `f 644 ""`,
			},
			{
				name: "acl_that_is_invalid",
				layers: layers{{
					file("f", "").pax("SCHILY.acl.access", "user::rw-,user:joe:rw-,group::r--,mask::r--,other::r--"),
					file("g", "").xattr(xattrAccessACL, "short"), file("h", "").xattr(xattrDefaultACL, wire), symlink("s", "t").xattr(xattrAccessACL, wire),
				}},
				want: `f 644 ""
					g 644 ""
					h 644 ""
					s -> t`,
				warns: "xattr-dropped",
				umoci: "*",
				why:   "it depends on the host's file system",
			},
		},
	},
}

// wire is an ACL with every kind of entry, and wireText the same as star writes it.
var (
	wire = acl{
		{aclUserObj, 6, aclNoID}, {aclUser, 7, 5}, {aclUser, 6, 1000}, {aclGroupObj, 4, aclNoID}, {aclGroup, 1, 100}, {aclMask, 6, aclNoID}, {aclOther, 4, aclNoID},
	}.encode()
	wireText = "user::rw-,user:joe:rw-:1000,user:5:rwx,group::r--,group:users:--x:100,mask::rw-,other::r--"
)
