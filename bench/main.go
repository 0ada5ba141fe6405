// Command bench measures how long banger takes from an image to a disk, beside
// what else could be used for that, and writes what it finds into
// docs/benchmarks.md. `make bench` runs it as root, which the others need.
//
// It makes the images of Debian packages, keeps them in the user's cache, serves
// them on loopback, and runs every contestant on each image in turns, several
// times over. Every disk is checked before its time counts.
//
// What is measured runs in processes of their own, some of which are this
// program's: it has subcommands.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return compare(ctx)
	}
	switch verb, args := args[0], args[1:]; {
	case verb == "images" && len(args) == 1:
		return makeImages(ctx, args[0], scaleOf(os.Getenv))
	case verb == "inflate":
		return inflateAll(args)
	case verb == "read" && len(args) == 1:
		return readAll(ctx, args[0])
	case verb == "fetch" && len(args) == 2:
		return fetch(ctx, args[0], args[1])
	case verb == "tree" && len(args) == 1:
		return printTree(args[0])
	}
	return fmt.Errorf("usage: bench [images DIR | inflate BLOB... | read LAYOUT | fetch CACHE REF | tree DISK]")
}

// scale is how large the made-up images are, and how often each is measured.
type scale struct {
	quick      bool
	runs       int // of each contestant
	fewRuns    int // of each with a cold cache, on the large image, and of the slow ones
	smallFiles int
	largeBytes int64
	hugeBytes  int64
	hugeFiles  int
}

// scaleOf reads QUICK, which any value but "" and "0" turns on.
func scaleOf(getenv func(string) string) scale {
	if q := getenv("QUICK"); q != "" && q != "0" {
		return scale{quick: true, runs: 1, fewRuns: 1, smallFiles: 5_000, largeBytes: 256 << 20, hugeBytes: 512 << 20, hugeFiles: 10_000}
	}
	return scale{runs: 5, fewRuns: 2, smallFiles: 50_000, largeBytes: 2 << 30, hugeBytes: 10 << 30, hugeFiles: 200_000}
}

// name is that of an image of this scale in the cache.
func (s scale) name(image string) string {
	if s.quick && slices.Contains([]string{"small", "large", "huge"}, image) {
		return image + "@quick"
	}
	return image
}

// say tells the user what goes on; results are on standard output.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }
