// Command tar2ext4 makes an ext4 image of a tar archive with hcsshim, for
// BenchmarkTar. It is a module of its own because that needs eight modules that
// nothing else here does.
package main

import (
	"errors"
	"log"
	"os"

	"github.com/Microsoft/hcsshim/ext4/tar2ext4"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: tar2ext4 ARCHIVE IMAGE")
	}
	in, err := os.Open(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	out, err := os.Create(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	if err := errors.Join(tar2ext4.ConvertTarToExt4(in, out), out.Close()); err != nil {
		log.Fatal(err)
	}
}
