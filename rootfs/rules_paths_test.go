package rootfs

import (
	"archive/tar"
	"strings"
)

var rulesOfPaths = []rule{
	{
		name:   "A parent is a symlink",
		does:   "The entry goes where the link leads, in the tree as it is then. At most 40 links are followed, an absolute one starts at the root of the tree, and \"..\" of the root is the root.",
		source: "silent; path_resolution(7) in a chroot",
		rows: []row{
			{
				name:   "write_through_a_symlinked_parent",
				layers: layers{{dir("usr"), dir("usr/lib"), symlink("lib", "usr/lib")}, {file("lib/x", "x")}},
				want: `lib -> usr/lib
					usr/ 755
					usr/lib/ 755
					usr/lib/x 644 "x"`,
			},
			{
				name:   "absolute_symlinks_start_at_the_root_of_the_tree",
				layers: layers{{dir("a"), dir("b"), symlink("a/l", "/b"), symlink("m", "a/../../../a/l"), file("m/x", "x")}},
				want: `a/ 755
					a/l -> /b
					b/ 755
					b/x 644 "x"
					m -> a/../../../a/l`,
			},
			{
				name:   "dot_dot_in_a_symlink_means_where_it_leads",
				layers: layers{{dir("a"), dir("a/b"), symlink("l", "a/b"), symlink("m", "l/../c"), file("m/x", "x")}},
				want: `a/ 755
					a/b/ 755
					a/c/ 755
					a/c/x 644 "x"
					l -> a/b
					m -> l/../c`,
			},
			{name: "symlink_loop_as_parent", layers: layers{{symlink("a", "b"), symlink("b", "a"), file("a/x", "")}}, err: "symlinks in the path", umoci: "error"},
			{
				name:   "forty_symlinks",
				layers: layers{append(chain(40), file("l40/x", "x"))},
				want:   chainListing(40),
			},
			{name: "forty_one_symlinks", layers: layers{append(chain(41), file("l41/x", "x"))}, err: "more than 40 symlinks", umoci: chainListing(41), why: "its own limit is 255, that of Linux 40"},
			{
				name:   "implied_symlink_target_is_a_whiteout",
				layers: layers{{symlink("l", ".wh.x"), file("l/f", "")}},
				err:    "into a whiteout",
				umoci: `.wh.x/ 755
					.wh.x/f 644 ""
					l -> .wh.x`,
				why: "it leaves a reserved name in the tree",
			},
			{
				name:   "written_through_a_symlink_that_a_directory_then_replaces",
				layers: layers{{dir("usr"), symlink("lib", "usr"), file("lib/x", ""), dir("lib"), file("lib/y", "")}},
				want: `lib/ 755
		lib/y 644 ""
		usr/ 755
		usr/x 644 ""`,
			},
			{
				name:   "directory_entry_through_a_symlinked_parent",
				layers: layers{{dir("usr"), dir("usr/lib").mode(0o700), file("usr/lib/x", ""), symlink("s", "usr")}, {dir("s/lib").mode(0o711)}},
				want: `s -> usr
		usr/ 755
		usr/lib/ 711
		usr/lib/x 644 ""`,
			},
		},
	},
	{
		name:   "A parent is a dangling symlink",
		does:   "The directories that it names are made.",
		source: "silent; as containerd and moby",
		rows: []row{
			{
				name:   "dangling_symlink_as_parent",
				layers: layers{{symlink("l", "new/dir"), file("l/x", "x")}},
				want: `l -> new/dir
					new/ 755
					new/dir/ 755
					new/dir/x 644 "x"`,
			},
		},
	},
	{
		name:   "A directory entry where a symlink is",
		does:   "The link is replaced by a real directory.",
		source: "layer.md, Changeset over existing files",
		rows: []row{
			{
				name:   "directory_entry_over_a_symlink",
				layers: layers{{dir("usr"), file("usr/x", ""), symlink("lib", "usr")}, {dir("lib"), file("lib/y", "")}},
				want: `lib/ 755
					lib/y 644 ""
					usr/ 755
					usr/x 644 ""`,
			},
			{
				name:   "file_entry_over_a_symlink_replaces_it",
				layers: layers{{file("t", "t"), symlink("l", "t")}, {file("l", "new")}},
				want: `l 644 "new"
					t 644 "t"`,
			},
		},
	},
	{
		name:   "A parent is a file",
		does:   "It is replaced by a directory, with a warning.",
		source: "silent",
		rows: []row{
			{
				name:   "parent_is_a_file",
				layers: layers{{file("f", "")}, {file("f/g/x", "x")}},
				want: `f/ 755
					f/g/ 755
					f/g/x 644 "x"`,
				warns: "parent-replaced",
				umoci: "error",
				why:   "mkdir fails",
			},
			{
				name:   "parent_is_a_symlink_to_a_file",
				layers: layers{{file("f", "x"), symlink("l", "f")}, {file("l/y", "y")}},
				want: `f/ 755
		f/y 644 "y"
		l -> f`,
				warns: "parent-replaced",
				umoci: "error",
				why:   "mkdir fails",
			},
			{
				name:   "parent_is_a_device",
				layers: layers{{device(tar.TypeChar, "null", 1, 3), file("null/x", "")}},
				want: `null/ 755
		null/x 644 ""`,
				warns: "parent-replaced",
				umoci: "error",
				why:   "mkdir fails",
			},
		},
	},
	{
		name:   "A parent is missing",
		does:   "It is made, 0755 and root:root; an entry for it may still come.",
		source: "silent",
		rows: []row{
			{
				name:   "missing_parents",
				layers: layers{{file("a/b/c", "").mode(0o600).owner(9, 9)}},
				want: `a/ 755
					a/b/ 755
					a/b/c 600 "" @9:9`,
			},
			{
				name:   "directory_entry_after_its_children",
				layers: layers{{file("a/b", ""), dir("a").mode(0o700).owner(1, 1)}},
				want: `a/ 700 @1:1
					a/b 644 ""`,
			},
		},
	},
	{
		name:   "An entry for the root",
		does:   "Only its extended attributes count: images disagree about the others for no reason but how they were packed. The root is 0755 root:root.",
		source: "silent",
		rows: []row{
			{
				name:   "root_entry",
				layers: layers{{newEntry(tar.TypeDir, "./", 0o700).owner(7, 7), file("f", "")}},
				want:   `f 644 ""`,
				umoci: `./ 700 @7:7
					f 644 ""`,
				why: "it takes the attributes",
			},
			{
				name:   "root_entry_xattrs",
				layers: layers{{newEntry(tar.TypeDir, "./", 0o755).xattr("user.a", "1")}},
				want:   `./ 755 {user.a="1"}`,
			},
			{
				name:   "root_entry_of_another_type",
				layers: layers{{file("f", "f"), symlink("..", "/f"), file(".", "")}},
				want:   `f 644 "f"`,
				warns:  "entry-skipped path-clamped",
				umoci:  "error",
				why:    "it refuses to change the type of the root",
			},
		},
	},
	{
		name:   "Paths with \"..\", \"//\" or a leading \"/\"",
		does:   "They are cleaned as text. A \"..\" above the root is dropped, with a warning.",
		source: "silent; as all runtimes",
		rows: []row{
			{
				name:   "dot_dot_above_the_root",
				layers: layers{{file("../../t", "t"), file("a/../../u", "u")}},
				want: `t 644 "t"
					u 644 "u"`,
				warns: "path-clamped",
			},
			{
				name:   "absolute_and_untidy_paths",
				layers: layers{{file("/abs/t", "t"), file("./b//c/./d", "d"), file("x/../y", "y")}},
				want: `abs/ 755
					abs/t 644 "t"
					b/ 755
					b/c/ 755
					b/c/d 644 "d"
					y 644 "y"`,
			},
			{
				name:   "empty_names",
				layers: layers{{file("", "x"), symlink("", "/etc"), file("f", "")}},
				want:   `f 644 ""`,
				warns:  "entry-skipped",
				umoci:  "error",
				why:    "it refuses to change the type of the root",
			},
			{
				name:   "slashes_at_the_end",
				layers: layers{{symlink("s/", "t"), raw(`d/f/ 644 "x"`, block(tar.TypeReg, "d/f/", 1), data("x")), dir("e//")}},
				want: `d/ 755
		d/f 644 "x"
		e/ 755
		s -> t`,
			},
		},
	},
	{
		name:   "The text of a symlink",
		does:   "It is data, and stored as it is.",
		source: "layer.md, File Attributes",
		rows: []row{
			{
				name:   "symlink_text_is_data",
				layers: layers{{symlink("a", "../../../etc/x"), symlink("b", "/etc//y/"), symlink("c", ".")}},
				want: `a -> ../../../etc/x
					b -> /etc//y/
					c -> .`,
			},
		},
	},
	{
		name:   "Names",
		does:   "They are bytes in no encoding, and case counts. Over 255 bytes in a name, or 4,095 in a path or a target, is an error that names it: a guest could not use the file.",
		source: "NAME_MAX and PATH_MAX, limits.h",
		rows: []row{
			{
				name:   "names_are_bytes",
				layers: layers{{file("A", "1"), file("a", "2"), file("\xff\xfe", "3"), file("e\u0301", "4"), file("\u00e9", "5"), file("a\nb\\", "6"), file(" ", "7")}},
				want:   "\" \" 644 \"7\"\nA 644 \"1\"\na 644 \"2\"\n\"a\\nb\\\\\" 644 \"6\"\ne\u0301 644 \"4\"\n\u00e9 644 \"5\"\n\"\\xff\\xfe\" 644 \"3\"\n",
			},
			{name: "name_255", layers: layers{{file(long, "")}}, want: long + ` 644 ""`},
			{name: "name_256", layers: layers{{file("d/"+long+"n", "")}}, err: "256 bytes, more than 255", umoci: "error"},
			{name: "name_256_of_a_directory", layers: layers{{file(long+"n/f", "")}}, err: "256 bytes, more than 255", umoci: "error"},
			{name: "symlink_4095", layers: layers{{symlink("l", strings.Repeat("t/", 2047)+"t")}}, want: "l -> " + strings.Repeat("t/", 2047) + "t"},
			{name: "symlink_4096", layers: layers{{symlink("l", strings.Repeat("t/", 2048))}}, err: "4096 bytes, more than 4095", umoci: "error"},
			{name: "symlink_empty", layers: layers{{symlink("l", "")}}, err: "without a target", umoci: "error"},
			{name: "path_4096", layers: layers{{file(deep+"/"+long, "")}}, err: "longer than 4095", umoci: "error"},
			{name: "path_4096_of_a_whiteout", layers: layers{{hide(deep + "/x/.wh." + long[:253])}}, err: "longer than 4095", umoci: "*", why: "nothing is there"},
			{name: "path_4096_through_a_symlink", layers: layers{{symlink("l", deep), file("l/"+long+"/f", "")}}, err: "longer than 4095", umoci: "error"},
			{name: "path_4096_of_a_file_through_a_symlink", layers: layers{{symlink("l", deep), file("l/"+long, "")}}, err: "longer than 4095", umoci: "error"},
			{name: "name_with_nul", layers: layers{{raw(`{GNU.sparse.name="a\x00b"}`, pax("GNU.sparse.major=0", "GNU.sparse.minor=1", "GNU.sparse.numblocks=0", "GNU.sparse.size=0", "GNU.sparse.name=a\x00b"), block(tar.TypeReg, "f", 0))}}, err: "has a NUL"},
			{
				name:   "names_in_gnu_format",
				layers: layers{{file(long, "").as(tar.FormatGNU), symlink("s", deep).as(tar.FormatGNU)}},
				want:   long + " 644 \"\"\ns -> " + deep,
			},
		},
	},
}
