package ext4

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// FuzzRoundTrip writes a tree that is made of its input and reads it back, itself
// and as a tar archive.
func FuzzRoundTrip(f *testing.F) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		b := make([]byte, 50+random.IntN(2000))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, seed []byte) {
		files := randomTree(seed)
		w, disk := image(t, Options{HashSeed: [16]byte{byte(len(seed))}})
		put(t, w, files)
		fsys := finish(t, w, disk)
		compare(t, fsys, files)
		again, _ := throughTar(t, fsys)
		compare(t, again, inTar(files))
	})
}

// randomTree spends the bytes of seed on decisions.
func randomTree(seed []byte) []want {
	next := func(n int) int { // in [0, n)
		if len(seed) == 0 {
			return 0
		}
		v := int(seed[0])
		if seed = seed[1:]; n > 256 && len(seed) > 0 {
			v |= int(seed[0]) << 8
			seed = seed[1:]
		}
		return v % n
	}
	files := []want{}
	dirs, linkable := []string{"."}, []string{}
	lengths := []int{1, 2, 8, 27, 255}
	for len(seed) > 0 && len(files) < 3000 {
		name := fmt.Sprintf("%x", len(files))
		fill := strings.NewReplacer("/", "?", "\x00", "?").Replace(string([]byte{byte(next(256))}))
		name += strings.Repeat(fill, max(1, lengths[next(len(lengths))]-len(name)))
		file := want{path: dirs[next(len(dirs))] + "/" + name, Header: Header{
			Mode: fs.FileMode(next(0o1000)), UID: uint32(next(1<<16)) << 8, GID: uint32(next(256)),
			ModTime: ClampTime(time.Unix(int64(next(1<<16)-1<<13)<<18, int64(next(1<<16))<<13)),
			Xattrs:  randomAttrs(next),
		}}
		file.path = strings.TrimPrefix(file.path, "./")
		for i, bit := range []fs.FileMode{fs.ModeSetuid, fs.ModeSetgid, fs.ModeSticky} {
			if next(8)>>i == 1 {
				file.Mode |= bit
			}
		}
		switch next(10) {
		case 0, 1:
			file.Mode |= fs.ModeDir
			dirs = append(dirs, file.path)
		case 2:
			file.Mode |= fs.ModeSymlink
			file.Target = noise(1 + next(4095))
		case 3:
			file.Mode |= []fs.FileMode{fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice}[next(2)]
			file.Major, file.Minor = uint32(next(4096)), uint32(next(1<<16))<<4
		case 4:
			file.Mode |= []fs.FileMode{fs.ModeNamedPipe, fs.ModeSocket}[next(2)]
			linkable = append(linkable, file.path)
		case 5, 6:
			if len(linkable) > 0 {
				file = want{path: file.path, link: linkable[next(len(linkable))]}
			}
		default:
			linkable = append(linkable, file.path)
			file.data = randomData(next)
		}
		files = append(files, file)
	}
	return files
}

// randomAttrs is two attributes at most, and seldom an ACL; they fit in a block.
func randomAttrs(next func(int) int) map[string]string {
	attrs := map[string]string{}
	for range max(0, next(4)-1) {
		prefix := []string{"user.", "trusted.", "security."}[next(3)]
		attrs[prefix+string([]byte{byte(1 + next(255)), byte('=' + next(26))})] = noise(next(1900))
	}
	if next(8) == 1 {
		attrs["system.posix_acl_access"] = acl(
			[3]uint32{1, uint32(next(8)), aclNoID}, [3]uint32{2, uint32(next(8)), uint32(next(1 << 16))},
			[3]uint32{4, uint32(next(8)), aclNoID}, [3]uint32{16, 7, aclNoID}, [3]uint32{32, 0, aclNoID})
	}
	if len(attrs) == 0 {
		return nil
	}
	return attrs
}

// randomData is a few pieces, some of them holes.
func randomData(next func(int) int) (data string) {
	sizes := []int{0, 1, 59, 60, 4095, 4096, 4097, 8192, 70_000}
	for range next(4) {
		part := noise(sizes[next(len(sizes))])
		if next(3) == 0 {
			part = strings.Repeat("\x00", len(part))
		}
		data += part
	}
	return data
}
