package ext4

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"strings"
	"testing"
	"time"
)

// FuzzRoundTrip writes a tree that is made of its input and reads it back.
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
		compare(t, finish(t, w, disk), files)
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
	taken := map[string]bool{lostFound: true}
	lengths := []int{1, 2, 8, 27, 255}
	sizes := []int{0, 1, 59, 60, 4095, 4096, 4097, 8192, 70_000}
	for len(seed) > 0 && len(files) < 3000 {
		name := fmt.Sprintf("%x%x", len(files), next(256))
		name += strings.Repeat("\xfe", max(0, lengths[next(len(lengths))]-len(name)))
		name = path.Join(dirs[next(len(dirs))], name)
		if taken[name] {
			continue
		}
		taken[name] = true
		file := want{path: name, Header: Header{
			Mode: fs.FileMode(next(0o1000)), UID: uint32(next(1<<16)) << 8, GID: uint32(next(256)),
			ModTime: ClampTime(time.Unix(int64(next(1<<16)-1<<13)<<18, int64(next(1<<16))<<13)),
		}}
		for range next(4) / 2 {
			if file.Xattrs == nil {
				file.Xattrs = map[string]string{}
			}
			file.Xattrs[fmt.Sprintf("user.%c", 'a'+next(26))] = noise(next(2000))
		}
		switch next(8) {
		case 0, 1:
			file.Mode |= fs.ModeDir
			dirs = append(dirs, name)
		case 2:
			file.Mode |= fs.ModeSymlink
			file.Target = noise(1 + next(4095))
		case 3:
			file.Mode |= fs.ModeDevice
			file.Major, file.Minor = uint32(next(4096)), uint32(next(1<<16))<<4
		case 4:
			if len(linkable) > 0 {
				file = want{path: name, link: linkable[next(len(linkable))]}
			}
		default:
			linkable = append(linkable, name)
			for range next(4) {
				part := noise(sizes[next(len(sizes))])
				if next(3) == 0 {
					part = strings.Repeat("\x00", len(part))
				}
				file.data += part
			}
		}
		files = append(files, file)
	}
	return files
}
