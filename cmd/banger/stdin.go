package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/term"

	"banger/internal/oci"
)

// fromStdin saves standard input to the cache when that is what ref means, and
// returns the reference of the file. It stays there until release is called.
func (c *cli) fromStdin(ctx context.Context, ref string) (file string, release func() error, err error) {
	if _, ok := oci.OnStdin(ref); !ok {
		return ref, func() error { return nil }, nil
	}
	if f, ok := c.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return "", nil, usageError{fmt.Errorf("%s is standard input, and that is a terminal: pipe a tar into it", ref)}
	}
	o, err := c.fetch("", false)
	if err != nil {
		return "", nil, err
	}
	p, end := c.show("reading standard input")
	defer end()
	o.Progress = p
	if release, err = oci.Hold(o); err != nil {
		return "", nil, err
	}
	path, err := oci.Keep(ctx, c.stdin, o)
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("read standard input: %w", err), release())
	}
	if ref == "-" {
		ref = oci.SchemeOf(path) + ":-"
	}
	saved, _ := oci.OnStdin(ref)
	return saved(path), release, nil
}
