package rootfs

import (
	"archive/tar"
)

var rulesOfWhiteouts = []rule{
	{
		name:   ".wh.x",
		does:   "What lower layers have at x goes. Where in its layer the whiteout stands does not matter, for it never hides an entry of its own layer. When there is no x, nothing happens.",
		source: "layer.md, Whiteouts",
		rows: []row{
			{
				name:   "whiteout",
				layers: layers{base, {hide("d/.wh.low")}},
				want: `d/ 755
					d/other 644 "other"
					d/sub/ 755
					d/sub/deep 644 "deep"`,
			},
			{
				name:   "whiteout_of_directory",
				layers: layers{base, {hide(".wh.d")}},
			},
			{
				name:   "whiteout_of_nothing",
				layers: layers{{file("f", "")}, {hide(".wh.gone"), hide("gone/.wh.x"), hide("f/.wh.x")}},
				want:   `f 644 ""`,
			},
			{
				name:   "whiteout_before_own_entry",
				layers: layers{{file("f", "old")}, {hide(".wh.f"), file("f", "new")}},
				want:   `f 644 "new"`,
			},
			{
				name:   "whiteout_after_own_entry",
				layers: layers{{file("f", "old")}, {file("f", "new"), hide(".wh.f")}},
				want:   `f 644 "new"`,
			},
			{
				name:   "whiteout_after_own_directory",
				layers: layers{base, {dir("d").mode(0o700), file("d/new", "new"), hide(".wh.d")}},
				want: `d/ 700
					d/new 644 "new"`,
			},
			{
				name:   "whiteout_before_own_directory",
				layers: layers{base, {hide(".wh.d"), dir("d").mode(0o700), file("d/new", "new")}},
				want: `d/ 700
					d/new 644 "new"`,
			},
			{
				name:   "whiteout_after_implied_directory",
				layers: layers{{dir("d").mode(0o700).owner(5, 5), file("d/low", "")}, {file("d/new", "new"), hide(".wh.d")}},
				want: `d/ 755
					d/new 644 "new"`,
				umoci: `d/ 700 @5:5
					d/new 644 "new"`,
				why: "it keeps the attributes of the lower directory, but not when the whiteout comes first",
			},
			{
				name:   "whiteout_before_implied_directory",
				layers: layers{{dir("d").mode(0o700).owner(5, 5), file("d/low", "")}, {hide(".wh.d"), file("d/new", "new")}},
				want: `d/ 755
					d/new 644 "new"`,
			},
			{
				name:   "whiteout_after_deep_own_entry",
				layers: layers{base, {file("d/sub/new", "new"), hide(".wh.d")}},
				want: `d/ 755
					d/sub/ 755
					d/sub/new 644 "new"`,
			},
			{
				name:   "whiteout_hides_two_layers_down",
				layers: layers{{file("f", "")}, {file("g", "")}, {hide(".wh.f")}, {file("h", "")}},
				want: `g 644 ""
					h 644 ""`,
			},
			{
				name:   "whiteout_in_the_first_layer",
				layers: layers{{hide(".wh.f"), hide(".wh..wh..opq"), file("f", "")}},
				want:   `f 644 ""`,
			},
			{
				name:   "whiteout_of_any_type",
				layers: layers{{file("f", ""), dir("d")}, {dir(".wh.d"), link(".wh.f", ".wh..wh.aufs")}},
			},
			{
				name:   "whiteout_of_own_symlink_target",
				layers: layers{{file("f", "f")}, {symlink("l", "f"), hide(".wh.l")}},
				want: `f 644 "f"
					l -> f`,
			},
			{
				name:   "entry_inside_a_whiteout",
				layers: layers{{file("f", "f")}, {file(".wh.f/x", "")}},
				want:   `f 644 "f"`,
				warns:  "entry-skipped",
				umoci: `.wh.f/ 755
					.wh.f/x 644 ""
					f 644 "f"`,
				why: "it looks at the last name only, and leaves a reserved name in the tree",
			},
			{
				name:   "whiteout_as_the_specification_shows_it",
				layers: layers{{dir("etc"), file("etc/my-app-config", "1"), dir("bin"), file("bin/my-app-binary", "2"), file("bin/my-app-tools", "3")}, {dir("etc/my-app.d"), file("etc/my-app.d/default.cfg", "4"), file("bin/my-app-tools", "5"), hide("etc/.wh.my-app-config")}},
				want: `bin/ 755
		bin/my-app-binary 644 "2"
		bin/my-app-tools 644 "5"
		etc/ 755
		etc/my-app.d/ 755
		etc/my-app.d/default.cfg 644 "4"`,
			},
			{
				name:   "whiteout_with_content",
				layers: layers{{file("f", "f"), file("g", "g")}, {file(".wh.f", "content")}},
				want:   `g 644 "g"`,
			},
			{
				name:   "whiteout_of_a_name_with_a_dot",
				layers: layers{{file(".bashrc", ""), file(".opq", ""), file(".wh", ""), file("f", "")}, {hide(".wh..bashrc"), hide(".wh..opq"), hide(".wh..wh")}},
				want:   `f 644 ""`,
			},
			{
				name:   "whiteout_by_an_untidy_path",
				layers: layers{base, {hide("./d//./.wh.low"), hide("/d/x/../.wh.other"), hide("../.wh.gone")}},
				want: `d/ 755
		d/sub/ 755
		d/sub/deep 644 "deep"`,
				warns: "path-clamped",
			},
			{
				name:   "whiteout_of_the_longest_name",
				layers: layers{{file(long, "")}, {hide(".wh." + long)}},
			},
			{name: "whiteout_of_a_name_too_long", layers: layers{{file("f", "")}, {hide(".wh.n" + long)}}, err: "256 bytes, more than 255"},
			{
				name:   "whiteout_of_the_longest_path",
				layers: layers{{file(deep+"/x/"+long[:252], "")}, {hide(deep + "/x/.wh." + long[:252])}},
				want:   parents(deep + "/x"),
				umoci:  "*",
				why:    "with the directory that it unpacks to, the path is too long",
			},
			{
				name:   "whiteout_of_a_name_of_any_bytes",
				layers: layers{{file("a\nb", ""), file("\xff", ""), file("A", "")}, {hide(".wh.a\nb"), hide(".wh.\xff"), hide(".wh.a")}},
				want:   `A 644 ""`,
			},
			{
				name:   "whiteout_of_a_directory_that_the_next_layer_implies",
				layers: layers{base, {hide(".wh.d")}, {file("d/new", "")}},
				want: `d/ 755
		d/new 644 ""`,
			},
			{
				name:   "whiteout_and_a_file_for_a_directory",
				layers: layers{base, {file("d", "file"), hide(".wh.d"), hide("d/.wh.low")}},
				want:   `d 644 "file"`,
			},
			{
				name:   "names_like_whiteouts",
				layers: layers{{file(".wh", "1"), file(".whx", "2"), file("a.wh.b", "3"), file("wh.c", "4"), file("...", "5"), file(".WH.d", "6")}},
				want: `... 644 "5"
		.WH.d 644 "6"
		.wh 644 "1"
		.whx 644 "2"
		a.wh.b 644 "3"
		wh.c 644 "4"`,
			},
			{
				name:   "whiteout_twice",
				layers: layers{{file("f", "old"), file("g", "g")}, {hide(".wh.f"), file("f", "new"), hide(".wh.f")}, {hide(".wh.f"), hide(".wh.f")}},
				want:   `g 644 "g"`,
			},
		},
	},
	{
		name:   "A whiteout through a symlinked parent",
		does:   "It hides what is where the link leads. A whiteout of the link itself takes the link and nothing else.",
		source: "silent; as containerd, TestBreakouts",
		rows: []row{
			{
				name:   "whiteout_through_symlinked_parent",
				layers: layers{{dir("usr"), dir("usr/lib"), file("usr/lib/x", ""), symlink("lib", "usr/lib")}, {hide("lib/.wh.x")}},
				want: `lib -> usr/lib
					usr/ 755
					usr/lib/ 755`,
			},
			{
				name:   "whiteout_below_dangling_symlink",
				layers: layers{{file("f", ""), symlink("l", "/gone")}, {hide("l/.wh.f")}},
				want: `f 644 ""
					l -> /gone`,
			},
			{
				name:   "whiteout_of_symlink_after_an_entry_written_through_it",
				layers: layers{{dir("usr"), symlink("lib", "usr")}, {file("lib/x", "x"), hide(".wh.lib")}},
				want: `usr/ 755
					usr/x 644 "x"`,
			},
			{
				name:   "whiteout_of_the_symlink_and_not_its_target",
				layers: layers{{dir("etc"), file("etc/passwd", "p"), symlink("local", "/etc")}, {hide(".wh.local")}},
				want: `etc/ 755
					etc/passwd 644 "p"`,
			},
			{
				name:   "whiteout_of_what_its_layer_made_through_a_symlink",
				layers: layers{{dir("usr"), file("usr/x", "low"), symlink("lib", "usr")}, {file("usr/x", "own"), hide("lib/.wh.x")}},
				want: `lib -> usr
		usr/ 755
		usr/x 644 "own"`,
			},
		},
	},
	{
		name:   "Bare .wh., .wh.. and .wh...",
		does:   "The layer is invalid: the name that is left is the directory, its parent or none, and some tools wipe just that.",
		source: "silent; as containerd, TestBreakouts",
		rows: []row{
			{name: "bare_whiteout", layers: layers{base, {hide("d/.wh.")}}, err: "names no file"},
			{name: "whiteout_dot", layers: layers{base, {hide("d/.wh..")}}, err: "names no file"},
			{name: "whiteout_dot_dot", layers: layers{base, {hide("d/.wh...")}}, err: "names no file"},
		},
	},
	{
		name:   ".wh..wh..opq anywhere in its layer",
		does:   "All that lower layers have in the directory goes, at any depth. What this layer has in it stays, the directories that its paths imply too: those with attributes of their own, not with those of the hidden directory.",
		source: "layer.md, Opaque Whiteout",
		rows: []row{
			{
				name:   "opaque_before_own_entries",
				layers: layers{base, {dir("d"), hide("d/.wh..wh..opq"), file("d/new", "new")}},
				want: `d/ 755
					d/new 644 "new"`,
			},
			{
				name:   "opaque_after_own_entries",
				layers: layers{base, {dir("d"), file("d/new", "new"), file("d/low", "mine"), hide("d/.wh..wh..opq")}},
				want: `d/ 755
					d/low 644 "mine"
					d/new 644 "new"`,
			},
			{
				name:   "opaque_keeps_implied_directories_with_their_own_attributes",
				layers: layers{{dir("d"), dir("d/sub").mode(0o700), file("d/sub/deep", "")}, {file("d/sub/new", "new"), hide("d/.wh..wh..opq")}},
				want: `d/ 755
					d/sub/ 755
					d/sub/new 644 "new"`,
				umoci: `d/ 755
					d/sub/ 700
					d/sub/new 644 "new"`,
				why: "it keeps the attributes of the lower directory, but not when the marker comes first",
			},
			{
				name:   "opaque_keeps_the_attributes_of_the_directory_itself",
				layers: layers{{dir("d").mode(0o700).owner(3, 4), file("d/low", "")}, {hide("d/.wh..wh..opq")}},
				want:   `d/ 700 @3:4`,
			},
			{
				name:   "opaque_root",
				layers: layers{base, {file("e/new", "new"), hide(".wh..wh..opq")}},
				want: `e/ 755
					e/new 644 "new"`,
			},
			{
				name:   "opaque_directory_over_a_symlink_spares_the_symlinks_target",
				layers: layers{{dir("usr"), file("usr/x", ""), symlink("lib", "usr")}, {dir("lib"), hide("lib/.wh..wh..opq"), file("lib/y", "")}},
				want: `lib/ 755
					lib/y 644 ""
					usr/ 755
					usr/x 644 ""`,
			},
			{
				name:   "opaque_hides_only_what_is_below_at_the_time",
				layers: layers{base, {hide("d/.wh..wh..opq")}, {file("d/low", "third")}},
				want: `d/ 755
					d/low 644 "third"`,
			},
			{
				name:   "opaque_as_the_specification_shows_it",
				layers: layers{{dir("a"), dir("a/b"), dir("a/b/c"), file("a/b/c/bar", "")}, {dir("a"), dir("a/b"), dir("a/b/c"), file("a/b/c/foo", ""), hide("a/.wh..wh..opq")}},
				want: `a/ 755
		a/b/ 755
		a/b/c/ 755
		a/b/c/foo 644 ""`,
			},
			{
				name:   "opaque_through_a_symlinked_parent",
				layers: layers{{dir("usr"), dir("usr/lib"), file("usr/lib/x", ""), file("usr/y", ""), symlink("lib", "usr/lib")}, {hide("lib/.wh..wh..opq"), file("lib/z", "")}},
				want: `lib -> usr/lib
		usr/ 755
		usr/lib/ 755
		usr/lib/z 644 ""
		usr/y 644 ""`,
			},
			{
				name:   "opaque_twice_and_in_every_layer",
				layers: layers{{hide("d/.wh..wh..opq"), file("d/1", "")}, {hide("d/.wh..wh..opq"), file("d/2", ""), hide("d/.wh..wh..opq")}, {file("d/3", "")}},
				want: `d/ 755
		d/2 644 ""
		d/3 644 ""`,
			},
			{
				name:   "opaque_marker_that_is_a_directory",
				layers: layers{base, {dir("d/.wh..wh..opq"), file("d/sub/.wh..wh..opq/x", "")}},
				want:   `d/ 755`,
				umoci: `d/ 755
					d/sub/ 755
					d/sub/.wh..wh..opq/ 755
					d/sub/.wh..wh..opq/x 644 ""`,
				why: "it looks at the last name only, and leaves a reserved name in the tree",
			},
		},
	},
	{
		name:   "An opaque marker in a directory that does not exist",
		does:   "Nothing happens.",
		source: "silent",
		rows: []row{
			{
				name:   "opaque_in_a_directory_that_does_not_exist",
				layers: layers{base, {hide("gone/.wh..wh..opq"), hide("d/low/.wh..wh..opq"), hide("d/.wh.sub")}},
				want: `d/ 755
					d/low 644 "low"
					d/other 644 "other"`,
			},
		},
	},
	{
		name:   "A character device 0:0",
		does:   "It is a whiteout in the form that overlayfs has on disk, and leaked from there. It counts as one, with a warning.",
		source: "silent; Documentation/filesystems/overlayfs.rst",
		rows: []row{
			{
				name:   "overlay_whiteout_that_leaked",
				layers: layers{base, {device(tar.TypeChar, "d", 0, 0)}},
				warns:  "device-whiteout",
				umoci:  "d char 0:0 660",
				why:    "it makes the device",
			},
			{
				name:   "overlay_whiteout_in_the_first_layer",
				layers: layers{{device(tar.TypeChar, "a", 0, 0), file("b", "")}},
				want:   `b 644 ""`,
				warns:  "device-whiteout",
				umoci: `a char 0:0 660
					b 644 ""`,
				why: "it makes the device",
			},
			{
				name:   "overlay_whiteout_of_an_entry_of_its_layer",
				layers: layers{{file("a", "low"), file("b", "low")}, {file("a", "own"), device(tar.TypeChar, "a", 0, 0), device(tar.TypeChar, "b", 0, 0)}},
				want:   `a 644 "own"`,
				warns:  "device-whiteout",
				umoci: `a char 0:0 660
					b char 0:0 660`,
				why: "it makes the device",
			},
			{
				name:   "overlay_mark_of_an_opaque_directory",
				layers: layers{base, {dir("d").xattr("trusted.overlay.opaque", "y"), hide("d/.wh.sub")}},
				want: `d/ 755
		d/low 644 "low"
		d/other 644 "other"`,
				warns: "xattr-dropped",
			},
		},
	},
	{
		name:   ".wh..wh.plnk and other metadata of aufs",
		does:   "Skipped; but hard links into plnk are resolved, for there aufs keeps files that have several names.",
		source: "silent; as moby, archive/diff.go",
		rows: []row{
			{
				name:   "aufs_metadata",
				layers: layers{{file(".wh..wh.aufs", ""), dir(".wh..wh.orph"), dir(".wh..wh.plnk"), file("f", ""), file("d/.wh..wh.x", "")}},
				want:   `f 644 ""`,
			},
			{
				name:   "aufs_pseudo_links",
				layers: layers{{dir(".wh..wh.plnk"), file(".wh..wh.plnk/12.34", "x"), link("a", ".wh..wh.plnk/12.34"), link("b", "/.wh..wh.plnk/12.34")}},
				want: `a 644 "x" links=2
					b = a`,
				umoci: `.wh..wh.plnk/ 755
					.wh..wh.plnk/12.34 644 "x" links=3
					a = .wh..wh.plnk/12.34
					b = .wh..wh.plnk/12.34`,
				why: "it leaves the directory of aufs in the tree",
			},
			{
				name:   "aufs_pseudo_link_before_its_file",
				layers: layers{{link("a", ".wh..wh.plnk/12.34"), file(".wh..wh.plnk/12.34", "x")}},
				want:   `a 644 "x"`,
				umoci:  "error",
				why:    "it links at once",
			},
		},
	},
}
