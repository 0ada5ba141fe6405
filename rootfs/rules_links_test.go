package rootfs

import (
	"archive/tar"
	"time"
)

var rulesOfLinks = []rule{
	{
		name:   "A hard link",
		does:   "It binds to the inode that its target names at that moment, not to the name: when the target is replaced later, the link keeps the old file.",
		source: "layer.md, Hardlinks",
		rows: []row{
			{
				name:   "hard_link",
				layers: layers{{file("f", "x"), link("l", "f"), link("m", "/f"), link("n", "../n/../f")}},
				want: `f 644 "x" links=4
					l = f
					m = f
					n = f`,
				warns: "path-clamped",
			},
			{
				name:   "hard_link_keeps_the_inode_when_its_target_is_replaced",
				layers: layers{{file("f", "old"), link("l", "f")}, {file("f", "new")}},
				want: `f 644 "new"
					l 644 "old"`,
			},
			{
				name:   "hard_link_keeps_the_inode_when_its_target_is_replaced_in_its_layer",
				layers: layers{{file("f", "old"), link("l", "f"), file("f", "new")}},
				want: `f 644 "new"
					l 644 "old"`,
			},
			{
				name:   "hard_link_to_a_lower_layer",
				layers: layers{{file("f", "x")}, {link("d/l", "f")}},
				want: `d/ 755
					d/l 644 "x" links=2
					f = d/l`,
			},
			{
				name:   "hard_link_to_itself_in_a_lower_layer",
				layers: layers{{file("a", "x")}, {link("a", "a")}},
				want:   `a 644 "x"`,
				umoci:  "error",
				why:    "it removes the file first",
			},
			{
				name:   "hard_link_over_an_existing_name",
				layers: layers{base, {file("f", "x"), link("d", "f")}},
				want: `d 644 "x" links=2
					f = d`,
			},
			{
				name:   "hard_link_through_symlinked_directories",
				layers: layers{{file("etc/passwd", "p"), symlink("a/b", "../../etc"), link("a/l", "/a/b/passwd")}},
				want: `a/ 755
					a/b -> ../../etc
					a/l 644 "p" links=2
					etc/ 755
					etc/passwd = a/l`,
			},
			{
				name:   "hard_link_to_a_device",
				layers: layers{{device(tar.TypeChar, "null", 1, 3), link("zero", "null")}},
				want: `null char 1:3 660 links=2
					zero = null`,
			},
			{
				name:   "hard_link_is_gone_when_all_names_are_whited_out",
				layers: layers{{file("d/f", "x"), link("d/g", "d/f"), link("h", "d/f")}, {hide(".wh.d")}},
				want:   `h 644 "x"`,
			},
			{
				name:   "hard_link_to_a_lower_file_that_its_layer_replaces",
				layers: layers{{file("f", "old")}, {link("l", "f"), file("f", "new")}},
				want: `f 644 "new"
		l 644 "old"`,
			},
			{
				name:   "hard_link_is_cut_by_replacing_one_name",
				layers: layers{{file("a", "x"), link("b", "a"), link("c", "a")}, {file("b", "y")}},
				want: `a 644 "x" links=2
		b 644 "y"
		c = a`,
			},
			{
				name:   "hard_link_entry_at_a_symlink",
				layers: layers{{file("f", "x"), symlink("s", "f"), file("g", "y"), link("s", "g")}},
				want: `f 644 "x"
		g 644 "y" links=2
		s = g`,
			},
			{
				name:   "hard_link_with_a_size",
				layers: layers{{file("f", "x"), raw("l = f, size 512, without content", block(tar.TypeLink, "l", 512, at(157, "f"), at(100, "0000000"))), file("g", "")}},
				want: `f 644 "x" links=2
		g 644 ""
		l = f`,
			},
			{
				name:   "hard_link_to_itself_in_its_layer",
				layers: layers{{file("f", "x"), link("f", "./f"), link("g", "f"), link("g", "g")}},
				want: `f 644 "x" links=2
		g = f`,
				umoci: "error",
				why:   "it removes the file first",
			},
			{
				name:   "hard_link_to_a_file_with_a_slash",
				layers: layers{{file("f", "x"), link("l", "f/")}},
				want: `f 644 "x" links=2
		l = f`,
			},
			{
				name:   "hard_link_in_a_third_layer",
				layers: layers{{file("f", "x")}, {link("l", "f")}, {hide(".wh.f"), link("m", "l")}},
				want: `l 644 "x" links=2
		m = l`,
			},
		},
	},
	{
		name:   "A hard link before its target in the layer",
		does:   "It is resolved at the end of the layer; when there is no target then, that is an error.",
		source: "silent",
		rows: []row{
			{
				name:   "hard_link_before_its_target",
				layers: layers{{link("l", "m"), link("m", "d/f"), file("d/f", "x"), link("n", "m")}},
				want: `d/ 755
					d/f 644 "x" links=4
					l = d/f
					m = d/f
					n = d/f`,
				umoci: "error",
				why:   "it links at once",
			},
			{
				name:   "hard_link_before_its_target_and_replaced",
				layers: layers{{link("l", "f"), link("d/m", "f"), file("l", "mine"), file("d", "mine"), file("f", "x")}},
				want: `d 644 "mine"
					f 644 "x"
					l 644 "mine"`,
				umoci: "error",
				why:   "it links at once",
			},
			{name: "hard_link_to_nothing", layers: layers{{file("f", ""), link("l", "gone")}}, err: `entry "/l": hard link to "/gone": the target is not in the image`, umoci: "error"},
			{name: "hard_links_in_a_circle", layers: layers{{link("a", "b"), link("b", "c"), link("c", "a")}}, err: "leads back", umoci: "error"},
			{name: "hard_link_to_itself", layers: layers{{link("a", "a")}}, err: "leads back", umoci: "error"},
		},
	},
	{
		name:   "A hard link to a directory",
		does:   "An error.",
		source: "layer.md, Hardlinks; link(2)",
		rows: []row{
			{name: "hard_link_to_a_directory", layers: layers{{dir("d"), link("l", "d")}}, err: "is a directory", umoci: "error"},
			{name: "hard_link_to_a_directory_of_a_lower_layer", layers: layers{base, {link("l", "d/sub")}}, err: "is a directory"},
			{name: "hard_link_to_the_root", layers: layers{{link("l", "/")}}, err: "is a directory"},
			{name: "hard_link_to_a_directory_that_its_layer_hides", layers: layers{base, {hide(".wh.d"), link("l", "d")}}, err: "is a directory"},
		},
	},
	{
		name:   "A hard link to a path that its layer hides",
		does:   "It binds to the lower file: a layer renames one by a whiteout and a link.",
		source: "silent",
		rows: []row{
			{
				name:   "hard_link_to_a_path_that_this_layer_whites_out",
				layers: layers{{file("old", "x")}, {hide(".wh.old"), link("new", "old")}},
				want:   `new 644 "x"`,
				umoci:  "error",
				why:    "the target is gone",
			},
			{
				name:   "hard_link_to_a_path_that_this_layer_whites_out_later",
				layers: layers{{file("old", "x")}, {link("new", "old"), hide(".wh.old")}},
				want:   `new 644 "x"`,
			},
			{
				name:   "hard_link_into_a_directory_that_this_layer_replaces",
				layers: layers{base, {hide(".wh.d"), file("d/sub/new", ""), link("kept", "d/sub/deep"), link("low", "d/low")}},
				want: `d/ 755
					d/sub/ 755
					d/sub/new 644 ""
					kept 644 "deep"
					low 644 "low"`,
				umoci: "error",
				why:   "the target is gone",
			},
			{
				name:   "hard_link_into_an_opaque_directory",
				layers: layers{base, {file("d/sub/new", ""), hide("d/.wh..wh..opq"), link("kept", "d/sub/deep")}},
				want: `d/ 755
					d/sub/ 755
					d/sub/new 644 ""
					kept 644 "deep"`,
				umoci: "error",
				why:   "the target is gone",
			},
			{
				name:   "hard_link_prefers_what_its_layer_has_put_there",
				layers: layers{{file("f", "old")}, {hide(".wh.f"), file("f", "new"), link("l", "f")}},
				want: `f 644 "new" links=2
					l = f`,
			},
			{
				name:   "hard_link_through_a_symlink_that_its_layer_hides",
				layers: layers{{dir("usr"), file("usr/f", "x"), symlink("lib", "usr")}, {hide(".wh.lib"), link("g", "lib/f")}},
				want: `g 644 "x" links=2
		usr/ 755
		usr/f = g`,
				umoci: "error",
				why:   "the target is gone",
			},
			{
				name:   "hard_link_to_a_path_that_a_lower_layer_hides",
				layers: layers{{file("old", "x")}, {hide(".wh.old")}, {link("new", "old")}},
				err:    "not in the image",
			},
		},
	},
	{
		name:   "A hard link to a symlink",
		does:   "Another name for the symlink.",
		source: "silent; link(2)",
		rows: []row{
			{
				name:   "hard_link_to_a_symlink",
				layers: layers{{file("f", "x"), symlink("s", "f"), link("l", "s")}},
				want: `f 644 "x"
					l -> f links=2
					s = l`,
			},
		},
	},
	{
		name:   "The header of a hard link has attributes",
		does:   "As in moby they apply to the inode, but never a mode to a symlink. A header in which nothing is set says nothing.",
		source: "silent; as moby, archive/archive.go",
		rows: []row{
			{
				name: "hard_link_header_applies_to_the_inode",
				layers: layers{
					{file("f", "x").xattr("user.a", "1").xattr("user.b", "1")},
					{link("l", "f").mode(0o4750).owner(3, 4).time(time.Unix(9, 0)).xattr("user.b", "2")},
				},
				want: `f 4750 "x" @3:4 t=9.000000000 links=2 {user.a="1"} {user.b="2"}
					l = f`,
				umoci: `f 644 "x" links=2 {user.a="1"} {user.b="1"}
					l = f`,
				why: "it ignores the header of a link",
			},
			{
				name:   "hard_link_header_never_changes_the_mode_of_a_symlink",
				layers: layers{{symlink("s", "t"), link("l", "s").mode(0o600).owner(3, 4).time(time.Unix(9, 0))}},
				want: `l -> t @3:4 links=2
					s = l`,
				umoci: `l -> t links=2
					s = l`,
				why: "it ignores the header of a link",
			},
			{
				name:   "hard_link_header_with_nothing_but_a_time",
				layers: layers{{file("f", "x"), link("l", "f").time(time.Unix(5, 0))}},
				want: `f 000 "x" t=5.000000000 links=2
					l = f`,
				umoci: `f 644 "x" links=2
					l = f`,
				why: "it ignores the header of a link",
			},
		},
	},
}
