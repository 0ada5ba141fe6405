package vm

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"

	"banger/ext4"
	"banger/internal/api"
)

// identify gives a disk that was cloned from img a file-system UUID of its own,
// so that two disks of one image can be told apart, or mounted side by side. Only
// a disk that we made of layers gets one: the files of a registered or promoted
// one (etc/fstab, a boot loader's configuration) may name the UUID it has.
func identify(disk string, img api.Image, sync bool) (err error) {
	if len(img.Source.Layers) == 0 || strings.HasPrefix(img.Ref, "vm:") {
		return nil
	}
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var uuid [16]byte
	rand.Read(uuid[:])               // never fails (crypto/rand)
	uuid[6] = uuid[6]&0x0f | 4<<4    // version 4, random; RFC 9562
	uuid[8] = uuid[8]&0x3f | 0b10<<6 // its variant
	if err := ext4.SetUUID(f, uuid); err != nil {
		return fmt.Errorf("disk of image %s: %w", img.Name, err)
	}
	if sync {
		return f.Sync()
	}
	return nil
}
