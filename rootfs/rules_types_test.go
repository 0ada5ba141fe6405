package rootfs

import (
	"archive/tar"
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
}
