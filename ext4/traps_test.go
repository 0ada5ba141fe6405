package ext4

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// traps are mistakes that writers of ext4 have shipped, and some that ours could
// make. Each row puts one back, by other code in place of what is there, and
// names the tests that notice.
var traps = []struct {
	trap  string
	file  string
	old   string
	new   string
	tests string // separated by spaces
}{
	{
		"empty_file_without_extents", "inode.go",
		"flags = flagExtents\n\t\tc := &w.contents[in.ref]",
		"c := &w.contents[in.ref]\n\t\tif c.size == 0 {\n\t\t\tbreak\n\t\t}\n\t\tflags = flagExtents",
		"TestEmptyFile TestKernel",
	},
	{
		"beyond_42_GiB_offset_added_twice", "extent.go",
		"level = append(level, extent{logical: list[0].logical, start: nr})",
		"level = append(level, extent{logical: list[0].logical + uint32(len(level))*extentsBlock*extentMaxLen, start: nr})",
		"TestHugeDense",
	},
	{
		"beyond_42_GiB_leaf_count", "extent.go",
		"w.newNode(n, 0)", "w.newNode(min(n, len(list)-n), 0)",
		"TestHugeDense TestExtentDepth",
	},
	{
		"journal_uuid", "superblock.go",
		"le.PutUint32(b[sbJournalInum:], uint32(journalIno))",
		"le.PutUint32(b[sbJournalInum:], uint32(journalIno))\n\t\tcopy(b[0xD0:], w.opt.UUID[:])",
		"TestFeatures TestKernel",
	},
	{
		"last_group_too_small", "layout.go",
		"if rest < 2+tableBlocks+l.backup(l.groups-1)+50 {", "if rest < 0 {",
		"TestExactSize",
	},
	{"uid_16_bits", "inode.go", "le.PutUint16(raw[inoUIDHi:], uint16(in.uid>>16))", "", "TestRoundTrip TestKernel"},
	{"gid_16_bits", "inode.go", "le.PutUint16(raw[inoGIDHi:], uint16(in.gid>>16))", "", "TestRoundTrip TestKernel"},
	{
		"attributes_by_name_only", "xattr.go",
		"cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(len(a.name), len(b.name)), cmp.Compare(a.name, b.name))",
		"cmp.Compare(a.name, b.name)",
		"TestAttributeOrder TestKernel",
	},
	{"after_2038", "inode.go", "nsec<<2 | uint32((sec-int64(int32(sec)))>>32)&3", "nsec << 2", "TestRoundTrip TestKernel"},
	{"before_1970", "inode.go", "uint32((sec-int64(int32(sec)))>>32)&3", "uint32(sec>>32)&3", "TestRoundTrip TestKernel"},
	{"nanoseconds", "inode.go", "nsec<<2 | uint32", "uint32", "TestRoundTrip TestKernel"},
	{"acl_as_in_archives", "xattr.go", "acl, err := diskACL(value)", "acl, err := value, error(nil)", "TestRoundTrip TestKernel"},
	{"directory_not_indexed", "inode.go", "flags |= flagIndex", "", "TestIndex TestLargeDirectories"},
	{"index_ends_between_equal_hashes", "htree.go", "dxEnt{hash | 1, block}", "dxEnt{hash, block}", "TestHashContinues TestKernel"},
	{
		"insertion_by_search", "writer.go",
		"n := len(w.names)\n",
		"for _, e := range w.dirs[w.inodes[parent].ref].entries {\n\t\tif e.name == name {\n\t\t\treturn 0, fs.ErrExist\n\t\t}\n\t}\n\tn := len(w.names)\n",
		"TestLinearTime",
	},
	{"inode_bitmap_padding", "group.go", "setBits(bitmap[:], inodesPerGroup, 8*blockSize)", "", "TestRoundTrip"},
	{"block_bitmap_padding", "alloc.go", "setBits(b, m.lay.groupBlocks(g), blocksPerGroup)", "", "TestExactSize"},
	{"inode_tables_not_zeroed", "group.go", "flags := uint16(groupInodeZeroed)", "flags := uint16(0)", "TestLazyGroups"},
	{"last_group_without_bitmap", "alloc.go", "m.materialize(lay.groups - 1)", "", "TestLazyGroups"},
	{
		"hard_link_not_counted", "writer.go",
		"w.inodes[ino].links++", "",
		"TestRoundTrip TestKernel TestLinkLimit",
	},
	{
		"hard_link_to_directory", "writer.go",
		"case w.inodes[ino].mode&modeType == modeDir:", "case false:",
		"TestLinkMistakes",
	},
	{
		"hard_link_to_symlink", "writer.go",
		"case w.inodes[ino].mode&modeType == modeDir:", "case w.inodes[ino].mode&modeType != modeRegular:",
		"TestRoundTrip TestKernel",
	},
	{
		"parent_is_missing", "writer.go",
		"case !w.exists(parent) || w.inodes[parent].mode&modeType != modeDir:", "case false:",
		"TestMistakes",
	},
	{"link_65001", "writer.go", "case w.inodes[ino].links >= MaxLinks:", "case w.inodes[ino].links > MaxLinks:", "TestOneLinkTooMany"},
	{"subdirectory_64999", "inode.go", "links > MaxLinks {", "links > 1<<16 {", "TestSubdirectories"},
	{"device_without_number", "inode.go", "putDevice(iblock, in.ref, in.minor)", "", "TestRoundTrip TestKernel"},
	{
		"fifo_skipped", "writer.go",
		"w.dirs[d].entries = append(w.dirs[d].entries, dirent{name, ino})\n\treturn ino, nil",
		"if in.mode&modeType != modeFIFO {\n\t\tw.dirs[d].entries = append(w.dirs[d].entries, dirent{name, ino})\n\t}\n\treturn ino, nil",
		"TestRoundTrip TestKernel",
	},
	{"no_free_inodes", "close.go", "max(minFreeInodes, need.Inodes/4)", "0", "TestChosenSize"},
	{"size_without_inodes", "close.go", "size = max(size, ceilDiv(inodes, inodesPerGroup)*groupSize)", "_ = inodes", "TestChosenSize"},
	{
		"size_without_directories", "close.go",
		"blocks += d.blocks + treeBlocks(ceilDiv(d.blocks, extentMaxLen))", "",
		"TestUsage",
	},

	{"journal_longer_than_its_inode", "journal.go", "be.PutUint32(b[0x10:], uint32(blocks))", "be.PutUint32(b[0x10:], uint32(blocks)+1)", "TestKernel"},
	{"dropped_content_stays", "close.go", "if err := w.punch(dropped); err != nil {", "if err := w.punch(nil); err != nil {", "TestDroppedContent TestDroppedInMemory"},
	{"tail_of_block", "content.go", "clear(p[n:padded])", "", "TestTailIsZero"},
	{"superblock_first", "group.go", "_, err := w.file.WriteAt(super, superOffset)", "var err error", "TestRoundTrip"},
	{"clone_without_new_checksum", "identity.go", "le.PutUint32(c.sb[sbChecksum:], csum(^uint32(0), c.sb[:sbChecksum]))", "", "TestSetUUID TestMountClone"},
	{"clone_checksums_by_uuid", "superblock.go", "|incompatCsumSeed)", ")", "TestSetUUID TestFeatures"},

	{"reader_root_in_itself", "readdir.go", "ok || n.ino == Root", "ok", "TestDirectoryCycle"},
	{"reader_directory_of_two_names", "readdir.go", "ok || n.ino == Root", "n.ino == Root && !ok", "TestDirectoryCycle"},
	{"reader_directory_of_two_parents", "readdir.go", "list.parent != dir", "false", "TestDirectoryCycle"},
	{"reader_repeated_blocks", "readdir.go", "if blocks > f.blocks {", "if false {", "TestDirectoryRepeatsBlocks"},
	{"archive_attribute_with_equals", "tar.go", `strings.Contains(attr, "=")`, "false", "TestWriteTarGNU"},
	{"reader_endless_zeros", "node.go", "n.size > f.blockSize<<32", "false", "TestSizeBeyondMapping"},
	{"reader_pointer_cycle", "spans.go", "m.seen > m.f.blocks", "false", "TestPointerCycle"},
}

// Every row fits the code as it is, and names tests that exist.
func TestTraps(t *testing.T) {
	t.Parallel()
	var tests strings.Builder
	for _, name := range must[[]string](t)(filepath.Glob("*_test.go")) {
		tests.Write(must[[]byte](t)(os.ReadFile(name)))
	}
	for _, row := range traps {
		code := string(must[[]byte](t)(os.ReadFile(row.file)))
		if n := strings.Count(code, row.old); n != 1 {
			t.Errorf("%s: %s has %q %d times, want once", row.trap, row.file, row.old, n)
		}
		for name := range strings.FieldsSeq(row.tests) {
			if !strings.Contains(tests.String(), "\nfunc "+name+"(t *testing.T) {") {
				t.Errorf("%s: there is no %s", row.trap, name)
			}
		}
	}
}

// The tests notice: each trap is put back for a moment.
func TestTrapsAreNoticed(t *testing.T) {
	long(t)
	need(t, "root")
	dir := t.TempDir()
	for _, row := range traps {
		t.Run(row.trap, func(t *testing.T) {
			code := string(must[[]byte](t)(os.ReadFile(row.file)))
			changed, overlay, binary := filepath.Join(dir, row.file), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "ext4.test")
			replace := map[string]map[string]string{"Replace": {must[string](t)(filepath.Abs(row.file)): changed}}
			for name, data := range map[string][]byte{
				changed: []byte(strings.Replace(code, row.old, row.new, 1)),
				overlay: must[[]byte](t)(json.Marshal(replace)),
			} {
				if err := os.WriteFile(name, data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			tool(t, "go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", binary)
			for name := range strings.FieldsSeq(row.tests) {
				out, err := exec.Command(binary, "-test.timeout=60s", "-test.run=^"+name+"$").CombinedOutput()
				if err == nil {
					t.Errorf("%s does not notice", name)
				}
				t.Log(firstFailure(name, string(out)))
			}
		})
	}
}

// firstFailure is the line that says what is wrong.
func firstFailure(name, out string) string {
	for line := range strings.Lines(out) {
		if strings.Contains(line, "_test.go:") || strings.HasPrefix(line, "panic:") {
			return fmt.Sprintf("%s: %.150s", name, strings.TrimSpace(line))
		}
	}
	return name + ": nothing"
}
