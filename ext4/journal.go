package ext4

import "encoding/binary"

// placeJournal gives inode 8 a clean, empty journal;
// Documentation/filesystems/ext4/journal.rst. Its first block is a superblock,
// big-endian; the others stay a hole in the file.
func (w *Writer) placeJournal() error {
	blocks := w.lay.journal
	if blocks == 0 {
		return nil
	}
	if w.journal == nil {
		if w.journal = w.blocks.take(blocks); w.journal == nil {
			return w.sizeError()
		}
	}
	first := len(w.extents)
	w.extents = appendRuns(w.extents, first, 0, w.journal)
	w.contents = append(w.contents, content{
		size: blocks * blockSize, first: uint32(first), n: uint32(len(w.extents) - first), owner: journalIno,
	})
	w.inodes[journalIno] = inode{
		mode: modeRegular | 0o600, links: 1, ref: uint32(len(w.contents) - 1),
		sec: w.opt.Time.Unix(), nsec: uint32(w.opt.Time.Nanosecond()),
	}

	b, err := w.out.block(w.journal[0].start)
	if err != nil {
		return err
	}
	be := binary.BigEndian
	be.PutUint32(b[0x00:], 0xC03B3998)     // h_magic
	be.PutUint32(b[0x04:], 4)              // h_blocktype: superblock, version 2
	be.PutUint32(b[0x0C:], blockSize)      // s_blocksize
	be.PutUint32(b[0x10:], uint32(blocks)) // s_maxlen
	be.PutUint32(b[0x14:], 1)              // s_first
	be.PutUint32(b[0x18:], 1)              // s_sequence; s_start 0 says that nothing is to be replayed
	copy(b[0x30:], w.opt.UUID[:])          // s_uuid
	be.PutUint32(b[0x40:], 1)              // s_nr_users
	return nil
}
