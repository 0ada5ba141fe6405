package rootfs

import (
	"archive/tar"
	"strings"
	"testing"
	"time"
)

type layers = [][]entry

// row is one case of the rules for layers.
type row struct {
	name   string
	layers layers
	want   string // listing of the tree
	warns  string // kinds of warnings, sorted
	err    string // part of the error, instead of a tree

	// umoci is what "umoci unpack" makes of it where that is something else:
	// a listing, or "error". why says why we differ.
	umoci, why string
}

var base = []entry{dir("d"), file("d/low", "low"), file("d/other", "other"), dir("d/sub"), file("d/sub/deep", "deep")}

// long is the longest name, and deep a path that with it is a byte too long.
var (
	long = strings.Repeat("n", 255)
	deep = strings.Repeat(long+"/", 14) + long
)

var conformance = []row{
	// Entries over entries.
	{
		name:   "directory_over_directory_keeps_children_and_replaces_attributes",
		layers: layers{{dir("d").mode(0o700).owner(1, 2).xattr("user.a", "1"), file("d/f", "x")}, {dir("d").mode(0o1777).xattr("user.b", "2")}},
		want: `d/ 1777 {user.b="2"}
			d/f 644 "x"`,
	},
	{
		name:   "directory_over_directory_drops_xattrs",
		layers: layers{{dir("d").xattr("user.a", "1")}, {dir("d")}},
		want:   `d/ 755`,
	},
	{
		name:   "file_over_directory_removes_all_below",
		layers: layers{base, {file("d", "new")}},
		want:   `d 644 "new"`,
	},
	{
		name:   "directory_over_file",
		layers: layers{{file("d", "x")}, {dir("d"), file("d/f", "y")}},
		want: `d/ 755
			d/f 644 "y"`,
	},
	{
		name:   "file_over_file_replaces_every_attribute",
		layers: layers{{file("f", "old").mode(0o4755).owner(7, 8).time(time.Unix(5, 6)).xattr("user.a", "1")}, {file("f", "new")}},
		want:   `f 644 "new"`,
	},
	{
		name:   "symlink_over_directory",
		layers: layers{base, {symlink("d", "elsewhere")}},
		want:   `d -> elsewhere`,
	},
	{
		name:   "device_over_file_and_fifo_over_device",
		layers: layers{{file("a", ""), device(tar.TypeBlock, "b", 8, 1)}, {device(tar.TypeChar, "a", 1, 3), newEntry(tar.TypeFifo, "b", 0o600)}},
		want: `a char 1:3 660
			b fifo 600`,
	},
	{
		name:   "same_path_twice_last_wins",
		layers: layers{{file("f", "first"), file("f", "second"), dir("g"), file("g/x", ""), file("g", "third")}},
		want: `f 644 "second"
			g 644 "third"`,
	},
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
		name:   "old_archive_directory_by_slash",
		layers: layers{{newEntry(0, "d/", 0o755).as(tar.FormatUSTAR), newEntry(0, "f", 0o644).as(tar.FormatUSTAR)}},
		want: `d/ 755
			f 644 ""`,
	},

	// Whiteouts.
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
		name:   "whiteout_through_symlinked_parent",
		layers: layers{{dir("usr"), dir("usr/lib"), file("usr/lib/x", ""), symlink("lib", "usr/lib")}, {hide("lib/.wh.x")}},
		want: `lib -> usr/lib
			usr/ 755
			usr/lib/ 755`,
	},
	{
		name:   "whiteout_of_the_symlink_and_not_its_target",
		layers: layers{{dir("etc"), file("etc/passwd", "p"), symlink("local", "/etc")}, {hide(".wh.local")}},
		want: `etc/ 755
			etc/passwd 644 "p"`,
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
	{name: "bare_whiteout", layers: layers{base, {hide("d/.wh.")}}, err: "names no file"},
	{name: "whiteout_dot", layers: layers{base, {hide("d/.wh..")}}, err: "names no file"},
	{name: "whiteout_dot_dot", layers: layers{base, {hide("d/.wh...")}}, err: "names no file"},
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
		name:   "overlay_whiteout_that_leaked",
		layers: layers{base, {device(tar.TypeChar, "d", 0, 0)}},
		warns:  "device-whiteout",
		umoci:  "d char 0:0 660",
		why:    "it makes the device",
	},
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

	// Opaque directories.
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
		name:   "opaque_in_a_directory_that_does_not_exist",
		layers: layers{base, {hide("gone/.wh..wh..opq"), hide("d/low/.wh..wh..opq"), hide("d/.wh.sub")}},
		want: `d/ 755
			d/low 644 "low"
			d/other 644 "other"`,
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

	// Parents.
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
	{
		name:   "dangling_symlink_as_parent",
		layers: layers{{symlink("l", "new/dir"), file("l/x", "x")}},
		want: `l -> new/dir
			new/ 755
			new/dir/ 755
			new/dir/x 644 "x"`,
	},
	{name: "symlink_loop_as_parent", layers: layers{{symlink("a", "b"), symlink("b", "a"), file("a/x", "")}}, err: "symlinks in the path", umoci: "error"},
	{
		name:   "forty_symlinks",
		layers: layers{append(chain(40), file("l40/x", "x"))},
		want:   chainListing(40),
	},
	{name: "forty_one_symlinks", layers: layers{append(chain(41), file("l41/x", "x"))}, err: "more than 40 symlinks", umoci: chainListing(41), why: "its own limit is 255, that of Linux 40"},
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
	{
		name:   "implied_symlink_target_is_a_whiteout",
		layers: layers{{symlink("l", ".wh.x"), file("l/f", "")}},
		err:    "into a whiteout",
		umoci: `.wh.x/ 755
			.wh.x/f 644 ""
			l -> .wh.x`,
		why: "it leaves a reserved name in the tree",
	},

	// Paths.
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
		name:   "symlink_text_is_data",
		layers: layers{{symlink("a", "../../../etc/x"), symlink("b", "/etc//y/"), symlink("c", ".")}},
		want: `a -> ../../../etc/x
			b -> /etc//y/
			c -> .`,
	},
	{
		name:   "names_are_bytes",
		layers: layers{{file("A", "1"), file("a", "2"), file("\xff\xfe", "3"), file("e\u0301", "4"), file("\u00e9", "5"), file("a\nb\\", "6"), file(" ", "7")}},
		want:   "  644 \"7\"\nA 644 \"1\"\na 644 \"2\"\na\nb\\ 644 \"6\"\ne\u0301 644 \"4\"\n\u00e9 644 \"5\"\n\xff\xfe 644 \"3\"\n",
	},
	{name: "name_255", layers: layers{{file(long, "")}}, want: long + ` 644 ""`},
	{name: "name_256", layers: layers{{file("d/"+long+"n", "")}}, err: "256 bytes, more than 255", umoci: "error"},
	{name: "name_256_of_a_directory", layers: layers{{file(long+"n/f", "")}}, err: "256 bytes, more than 255", umoci: "error"},
	{name: "symlink_4095", layers: layers{{symlink("l", strings.Repeat("t/", 2047)+"t")}}, want: "l -> " + strings.Repeat("t/", 2047) + "t"},
	{name: "symlink_4096", layers: layers{{symlink("l", strings.Repeat("t/", 2048))}}, err: "4096 bytes, more than 4095", umoci: "error"},
	{name: "symlink_empty", layers: layers{{symlink("l", "")}}, err: "without a target", umoci: "error"},
	{name: "path_4096", layers: layers{{file(deep+"/"+long, "")}}, err: "longer than 4095", umoci: "error"},
	{name: "path_4096_of_a_whiteout", layers: layers{{hide(deep + "/x/.wh." + long[:249])}}, err: "longer than 4095", umoci: "*", why: "nothing is there"},
	{name: "path_4096_through_a_symlink", layers: layers{{symlink("l", deep), file("l/"+long+"/f", "")}}, err: "longer than 4095", umoci: "error"},
	{name: "path_4096_of_a_file_through_a_symlink", layers: layers{{symlink("l", deep), file("l/"+long, "")}}, err: "longer than 4095", umoci: "error"},

	// Hard links.
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
	{
		name:   "hard_link_to_itself_in_a_lower_layer",
		layers: layers{{file("a", "x")}, {link("a", "a")}},
		want:   `a 644 "x"`,
		umoci:  "error",
		why:    "it removes the file first",
	},
	{name: "hard_link_to_a_directory", layers: layers{{dir("d"), link("l", "d")}}, err: "is a directory", umoci: "error"},
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
		name:   "hard_link_is_gone_when_all_names_are_whited_out",
		layers: layers{{file("d/f", "x"), link("d/g", "d/f"), link("h", "d/f")}, {hide(".wh.d")}},
		want:   `h 644 "x"`,
	},
	{
		name:   "hard_link_to_a_symlink",
		layers: layers{{file("f", "x"), symlink("s", "f"), link("l", "s")}},
		want: `f 644 "x"
			l -> f links=2
			s = l`,
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
	{
		name:   "hard_link_over_an_existing_name",
		layers: layers{base, {file("f", "x"), link("d", "f")}},
		want: `d 644 "x" links=2
			f = d`,
	},

	// Types.
	{
		name:   "contiguous_file",
		layers: layers{{file("f", "x").kind(tar.TypeCont)}},
		want:   `f 644 "x"`,
		umoci:  "error",
		why:    "it refuses the type",
	},
	{
		name:   "devices_and_fifos",
		layers: layers{{device(tar.TypeBlock, "b", 259, 65536), device(tar.TypeChar, "c", 4095, 1048575), device(tar.TypeBlock, "z", 0, 0), newEntry(tar.TypeFifo, "p", 0o644).owner(1, 1)}},
		want: `b block 259:65536 660
			c char 4095:1048575 660
			p fifo 644 @1:1
			z block 0:0 660`,
	},
	{name: "device_too_large", layers: layers{{device(tar.TypeBlock, "b", 4096, 0).as(tar.FormatGNU)}}, err: "device 4096:0", umoci: "b block 0:0 660", why: "it cuts the number"},
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

	// Attributes.
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
		name:   "times",
		layers: layers{{file("a", "").time(time.Unix(1, 123456789)), file("b", "").time(time.Unix(-2, 500000000)), symlink("s", "x").time(time.Unix(7, 8)), file("y2038", "").time(time.Unix(1<<33, 999999999))}},
		want: `a 644 "" t=1.123456789
			b 644 "" t=-2.500000000
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

	{name: "no_layers", layers: layers{}, umoci: "*", why: "it wants one"},
	{name: "empty_layer", layers: layers{{}, {file("f", "")}, {}}, want: `f 644 ""`},
}

// wire is an ACL with every kind of entry, and wireText the same as star writes it.
var (
	wire = acl{
		{aclUserObj, 6, aclNoID}, {aclUser, 7, 5}, {aclUser, 6, 1000}, {aclGroupObj, 4, aclNoID}, {aclGroup, 1, 100}, {aclMask, 6, aclNoID}, {aclOther, 4, aclNoID},
	}.encode()
	wireText = "user::rw-,user:joe:rw-:1000,user:5:rwx,group::r--,group:users:--x:100,mask::rw-,other::r--"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, r := range conformance {
		if seen[r.name] {
			t.Errorf("two rows are called %s", r.name)
		}
		seen[r.name] = true
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			tree, err := apply(t, r.layers...)
			if r.err != "" {
				if err == nil {
					t.Fatalf("got\n%swant an error with %q", list(tree), r.err)
				}
				if !strings.Contains(err.Error(), r.err) {
					t.Fatalf("got error %q, want one with %q", err, r.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, want := list(tree), want(r.want); got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
			if got := warningKinds(tree); got != r.warns {
				t.Errorf("got warnings %q, want %q: %v", got, r.warns, tree.Warnings)
			}
		})
	}
}
