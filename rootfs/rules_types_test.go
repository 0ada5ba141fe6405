package rootfs

import (
	"archive/tar"
	"strings"
)

var rulesOfTypes = []rule{
	{
		name:   "Modes",
		does:   "Permissions, setuid, setgid and sticky count; bits of the type do not, for the typeflag has the last word.",
		source: "layer.md, File Attributes; inode(7)",
		rows: []row{
			{
				name:   "header_mode_bits",
				layers: layers{{file("sudo", "").mode(0o4755), file("none", "").mode(0), dir("t").mode(0o3777), file("typed", "").mode(0o100640), file("wrong", "").mode(0o040600)}},
				want: `none 000 ""
					sudo 4755 ""
					t/ 3777
					typed 640 ""
					wrong 600 ""`,
			},
			{
				name:   "mode_of_a_symlink",
				layers: layers{{symlink("s", "t").mode(0), symlink("u", "t").mode(0o4644)}},
				want: `s -> t
		u -> t`,
			},
		},
	},
	{
		name:   "Old archives",
		does:   "Typeflag NUL is a file, or a directory when its name ends in a slash.",
		source: "POSIX pax, ustar Interchange Format",
		rows: []row{
			{
				name:   "old_archive_directory_by_slash",
				layers: layers{{newEntry(0, "d/", 0o755).as(tar.FormatUSTAR), newEntry(0, "f", 0o644).as(tar.FormatUSTAR)}},
				want: `d/ 755
					f 644 ""`,
			},
		},
	},
	{
		name:   "Typeflag 7",
		does:   "A regular file.",
		source: "POSIX pax, ustar Interchange Format",
		rows: []row{
			{
				name:   "contiguous_file",
				layers: layers{{file("f", "x").kind(tar.TypeCont)}},
				want:   `f 644 "x"`,
				umoci:  "error",
				why:    "it refuses the type",
			},
		},
	},
	{
		name:   "Devices and fifos",
		does:   "Made with the numbers they have; numbers that Linux cannot hold are an error.",
		source: "layer.md, File Types; include/linux/kdev_t.h",
		rows: []row{
			{
				name:   "devices_and_fifos",
				layers: layers{{device(tar.TypeBlock, "b", 259, 65536), device(tar.TypeChar, "c", 4095, 1048575), device(tar.TypeBlock, "z", 0, 0), newEntry(tar.TypeFifo, "p", 0o644).owner(1, 1)}},
				want: `b block 259:65536 660
					c char 4095:1048575 660
					p fifo 644 @1:1
					z block 0:0 660`,
			},
			{name: "device_too_large", layers: layers{{device(tar.TypeBlock, "b", 4096, 0).as(tar.FormatGNU)}}, err: "device 4096:0", umoci: "b block 0:0 660", why: "it cuts the number"},
		},
	},
	{
		name:   "Typeflag g and unknown typeflags",
		does:   "A global header is ignored; an unknown entry is skipped, with a warning.",
		source: "POSIX pax, pax Header Block",
		rows: []row{
			{
				name:   "unknown_types",
				layers: layers{{file("v", "").kind('V'), file("d", "list").kind('D'), file("f", "")}},
				want:   `f 644 ""`,
				warns:  "entry-skipped",
				umoci:  "error",
				why:    "it refuses the types",
			},
			{
				name:   "global_header",
				layers: layers{{globalHeader(), file("f", "")}},
				want:   `f 644 ""`,
				umoci:  "error",
				why:    "it refuses the type",
			},
			{
				name:   "global_header_with_a_path",
				layers: layers{{raw(`global {path="wrong"} {uid="7"}`, block(tar.TypeXGlobalHeader, "g", int64(len(paxRecords("path=wrong", "uid=7")))), data(paxRecords("path=wrong", "uid=7"))), file("f", "")}},
				want:   `f 644 ""`,
				umoci:  "error",
				why:    "it refuses the type",
			},
		},
	},
	{
		name:   "Landmarks and table of contents of eStargz",
		does:   "Dropped at the root: they belong to the format, not to the image.",
		source: "stargz-snapshotter docs/estargz.md",
		rows: []row{
			{
				name:   "estargz_metadata",
				layers: layers{{file(".prefetch.landmark", "\x0f"), file(".no.prefetch.landmark", "\x0f"), file("stargz.index.json", "{}"), file("d/stargz.index.json", "mine"), symlink("r", "/"), file("r/stargz.index.json", "{}")}},
				want: `d/ 755
					d/stargz.index.json 644 "mine"
					r -> /`,
				umoci: `.no.prefetch.landmark 644 "\x0f"
					.prefetch.landmark 644 "\x0f"
					d/ 755
					d/stargz.index.json 644 "mine"
					r -> /
					stargz.index.json 644 "{}"`,
				why: "it does not know the format",
			},
		},
	},
	{
		name:   "PAX headers",
		does:   "A record counts more than the field of the header, an empty one takes the record away, and the last of several with one key wins. They are for the next entry only.",
		source: "POSIX pax, pax Header Block",
		rows: []row{
			{
				name:   "pax_path_over_the_field",
				layers: layers{{raw(`wrong {path="right"} {size="1"} {uid="7"}`, pax("path=right", "size=1", "uid=7"), block(tar.TypeReg, "wrong", 0), data("x")), file("next", "")}},
				want: `next 644 ""
		right 644 "x" @7:0`,
			},
			{
				name:   "pax_record_twice",
				layers: layers{{raw(`wrong {path="a"} {path="b"}`, pax("path=a", "path=b"), block(tar.TypeReg, "wrong", 0))}},
				want:   `b 644 ""`,
			},
			{
				name:   "pax_header_twice",
				layers: layers{{raw(`wrong {path="a"} {uid="7"}, again {path="b"}`, pax("path=a", "uid=7"), pax("path=b"), block(tar.TypeReg, "wrong", 0))}},
				want:   `b 644 ""`,
			},
			{
				name:   "pax_record_that_is_empty",
				layers: layers{{raw(`f 644 "" @5:0 {uid="7"} {uid=""} {path=""}`, pax("uid=7", "uid=", "path="), block(tar.TypeReg, "f", 0, at(108, "0000005")))}},
				want:   `f 644 "" @5:0`,
			},
			{
				name: "pax_times",
				layers: layers{{
					raw(`a {mtime="-1.5"}`, pax("mtime=-1.5"), block(tar.TypeReg, "a", 0)),
					raw(`b {mtime="1.9999999999999999"} {atime="9"} {ctime="9"}`, pax("mtime=1.9999999999999999", "atime=9", "ctime=9"), block(tar.TypeReg, "b", 0)),
					raw(`c {mtime="-0.000000001"}`, pax("mtime=-0.000000001"), block(tar.TypeReg, "c", 0)),
				}},
				want: `a 644 "" t=-1.500000000
		b 644 "" t=1.999999999
		c 644 "" t=-0.000000001`,
			},
			{name: "pax_time_that_is_none", layers: layers{{raw(`f {mtime="1e9"}`, pax("mtime=1e9"), block(tar.TypeReg, "f", 0))}}, err: "invalid tar header"},
			{name: "pax_uid_negative", layers: layers{{raw(`f {uid="-1"}`, pax("uid=-1"), block(tar.TypeReg, "f", 0))}}, err: "uid -1", umoci: `f 644 ""`, why: "to chown, -1 means to leave the owner"},
			{name: "pax_path_with_nul", layers: layers{{raw(`f {path="a\x00b"}`, pax("path=a\x00b"), block(tar.TypeReg, "f", 0))}}, err: "invalid tar header"},
			{name: "pax_record_that_lies_about_its_length", layers: layers{{raw(`f {"99 path=a"}`, block(tar.TypeXHeader, "pax", 10), data("99 path=a\n"), block(tar.TypeReg, "f", 0))}}, err: "invalid tar header"},
			{name: "pax_header_of_1_GiB", layers: layers{{raw("a PAX header of 1 GiB", block(tar.TypeXHeader, "pax", 1<<30), data(strings.Repeat("x", 1<<20+1)), block(tar.TypeReg, "f", 0))}}, err: "limit of 1048576 bytes in a header"},
		},
	},
	{
		name:   "Sparse files",
		does:   "Regular files of their logical size, in all of the formats of GNU tar; the holes stay holes. What is beyond a limit or contradicts itself is an error.",
		source: "GNU tar, Storing Sparse Files",
		rows: []row{
			{
				name: "sparse_files",
				layers: layers{{
					raw("a, of GNU: 2 bytes at 3 of 6", block(tar.TypeGNUSparse, "a", 2, gnuSparse(6, 3, 2)), data("xy")),
					raw("b, PAX 0.0: the same", pax("GNU.sparse.size=6", "GNU.sparse.numblocks=1", "GNU.sparse.offset=3", "GNU.sparse.numbytes=2"), block(tar.TypeReg, "b", 2), data("xy")),
					raw("c, PAX 0.1: the same", pax("GNU.sparse.size=6", "GNU.sparse.numblocks=1", "GNU.sparse.map=3,2", "GNU.sparse.name=c"), block(tar.TypeReg, "wrong", 2), data("xy")),
					raw("e, PAX 1.0: the same", pax("GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=e", "GNU.sparse.realsize=6"), block(tar.TypeReg, "wrong", 514), data("1\n3\n2\n"), data("xy")),
				}},
				want: `a 644 "\x00\x00\x00xy\x00"
		b 644 "\x00\x00\x00xy\x00"
		c 644 "\x00\x00\x00xy\x00"
		e 644 "\x00\x00\x00xy\x00"`,
				umoci: "error",
				why:   "it refuses the type of the first",
			},
			{name: "sparse_map_that_overlaps", layers: layers{{raw("f: 2 bytes at 3 and 2 at 4", block(tar.TypeGNUSparse, "f", 4, gnuSparse(6, 3, 2, 4, 2)), data("wxyz"))}}, err: "invalid tar header"},
			{name: "sparse_map_beyond_the_end", layers: layers{{raw("f: 2 bytes at 5 of 6", block(tar.TypeGNUSparse, "f", 2, gnuSparse(6, 5, 2)), data("xy"))}}, err: "invalid tar header"},
			{name: "sparse_map_beyond_the_data", layers: layers{{raw("f: 4 bytes at 0, of which 2 are there", block(tar.TypeGNUSparse, "f", 2, gnuSparse(6, 0, 4)), data("xy"))}}, err: "sparse file"},
			{name: "sparse_map_of_a_million_entries", layers: layers{{raw("f: a map of 1,000,000 entries", pax("GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=f", "GNU.sparse.realsize=6"), block(tar.TypeReg, "f", 8<<20), data("1000000\n"+strings.Repeat("0\n0\n", 1_000_000)))}}, err: "sparse map too long"},
			{name: "sparse_file_of_8_EiB", layers: layers{{raw("f: 1 byte of 2^63-1", pax("GNU.sparse.size=9223372036854775807", "GNU.sparse.numblocks=1", "GNU.sparse.offset=0", "GNU.sparse.numbytes=1"), block(tar.TypeReg, "f", 1), data("x"))}}, err: "limit of 68719476736 bytes in files", umoci: "*", why: "the file would be 8 EiB"},
		},
	},
	{
		name:   "Sizes that lie",
		does:   "An error that names the entry.",
		source: "POSIX pax, ustar Interchange Format",
		rows: []row{
			{name: "size_negative", layers: layers{{raw("f, size -1", block(tar.TypeReg, "f", 0, at(124, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")))}}, err: "invalid tar header"},
			{name: "size_negative_in_pax", layers: layers{{raw(`f {size="-1"}`, pax("size=-1"), block(tar.TypeReg, "f", 0))}}, err: "invalid tar header"},
			{name: "size_beyond_the_end_of_the_layer", layers: layers{{raw("f, size 100000, 1024 bytes there", block(tar.TypeReg, "f", 100000))}}, err: "unexpected EOF"},
			{name: "size_beyond_63_bits", layers: layers{{raw("f, size 2^71", block(tar.TypeReg, "f", 0, at(124, "\x80\x00\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00")))}}, err: "invalid tar header"},
			{name: "size_of_1_TiB", layers: layers{{raw("f, size 2^40", block(tar.TypeReg, "f", 0, at(124, "\x80\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00")))}}, err: "limit of 68719476736 bytes in files"},
			{
				name:   "size_of_what_has_no_content",
				layers: layers{{raw("d/, size 512", block(tar.TypeDir, "d", 512)), raw("s -> t, size 512", block(tar.TypeSymlink, "s", 512, at(157, "t"))), raw("p fifo, size 512", block(tar.TypeFifo, "p", 512)), file("f", "")}},
				want: `d/ 644
		f 644 ""
		p fifo 644
		s -> t`,
			},
		},
	},
}
