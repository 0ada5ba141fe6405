package rootfs

import (
	"archive/tar"
	"strings"
	"time"
)

var rulesOfEntries = []rule{
	{
		name:   "An entry where something is already",
		does:   "Both are directories: the names in it stay, and all attributes are replaced, extended ones included. Otherwise what is there goes, with all below it, and the entry is made anew.",
		source: "layer.md, Changeset over existing files",
		rows: []row{
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
				name:   "directory_by_another_spelling",
				layers: layers{{dir("d"), file("d/f", "x")}, {newEntry(tar.TypeDir, "./d/.", 0o700), newEntry(tar.TypeDir, "d/../d//", 0o711)}},
				want: `d/ 711
		d/f 644 "x"`,
			},
		},
	},
	{
		name:   "The same path twice in a layer",
		does:   "The last entry wins. The specification forbids such layers, and tools make them.",
		source: "layer.md, Distributable Format",
		rows: []row{
			{
				name:   "same_path_twice_last_wins",
				layers: layers{{file("f", "first"), file("f", "second"), dir("g"), file("g/x", ""), file("g", "third")}},
				want: `f 644 "second"
					g 644 "third"`,
			},
		},
	},
	{
		name:   "Layers without entries",
		does:   "They change nothing; a blob of no bytes at all is an empty layer as well.",
		source: "silent",
		rows: []row{
			{name: "no_layers", layers: layers{}, umoci: "*", why: "it wants one"},
			{name: "empty_layer", layers: layers{{}, {file("f", "")}, {}}, want: `f 644 ""`},
			{name: "layer_of_no_bytes", layers: layers{{file("f", "")}, nothing, {file("g", "")}}, want: "f 644 \"\"\ng 644 \"\""},
		},
	},
	{
		name:   "Bytes after the end of the archive",
		does:   "The archive ends with two blocks of zeros, or with the layer. What comes after counts for the digests and for nothing else.",
		source: "POSIX pax, ustar Interchange Format",
		rows: []row{
			{
				name:   "entries_after_the_end",
				layers: layers{{file("f", "x"), raw("two blocks of zeros", make([]byte, 1024)), file("g", ""), hide(".wh.f")}},
				want:   `f 644 "x"`,
			},
			{
				name:   "junk_after_the_end",
				layers: layers{{file("f", "x"), raw("two blocks of zeros, 10,000 bytes of junk", make([]byte, 1024), []byte(strings.Repeat("junk!", 2000)))}},
				want:   `f 644 "x"`,
			},
			{
				name:   "one_block_of_zeros",
				layers: layers{{file("f", "x"), raw("a block of zeros", make([]byte, 512)), file("g", "")}},
				err:    "invalid tar header",
			},
		},
	},
}
