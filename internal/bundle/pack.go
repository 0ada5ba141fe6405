package bundle

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"time"

	"banger/ext4"
	"banger/internal/api"
)

// agentPath is where the guest agent is in a file system that has it.
const agentPath = "usr/local/bin/banger-vsock-agent"

// Pack writes the bundle of the file system in rootfs to w and returns its
// manifest: m, with what the file system says of itself filled in. The same file
// system and m give the same bytes on every machine. It reads rootfs twice, for
// the manifest, which is first in the archive, has its digest.
func Pack(ctx context.Context, w io.Writer, rootfs *os.File, m Manifest, p api.Progress) (Manifest, error) {
	m, err := pack(ctx, w, rootfs, m, p)
	if err != nil {
		return m, fmt.Errorf("pack %s: %w", rootfs.Name(), err)
	}
	return m, nil
}

func pack(ctx context.Context, w io.Writer, rootfs *os.File, m Manifest, p api.Progress) (Manifest, error) {
	var err error
	m.Version = Version
	if m.AgentVersion, err = agentVersion(rootfs); err != nil {
		return m, err
	}
	hash, err := newPass(ctx, rootfs, api.PhaseHash, p)
	if err != nil {
		return m, err
	}
	if m.Rootfs, err = hash.copyTo(io.Discard); err != nil {
		return m, err
	}

	frames, err := newFrameWriter(w, runtime.GOMAXPROCS(0))
	if err != nil {
		return m, err
	}
	defer frames.Close() // wait for what runs, also after an error
	archive := tar.NewWriter(frames)
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return m, err
	}
	text = append(text, '\n')
	if err := archive.WriteHeader(header(manifestName, int64(len(text)))); err != nil {
		return m, err
	}
	if _, err := archive.Write(text); err != nil {
		return m, err
	}
	if err := archive.WriteHeader(header(rootfsName, m.Rootfs.Size)); err != nil {
		return m, err
	}
	compress, err := newPass(ctx, rootfs, api.PhasePack, p)
	if err != nil {
		return m, err
	}
	again, err := compress.copyTo(archive)
	if err != nil {
		return m, err
	}
	if again != m.Rootfs {
		return m, errors.New("it changed while it was read")
	}
	if err := archive.Close(); err != nil {
		return m, err
	}
	return m, frames.Close()
}

// header is what the archive says of a file: nothing that differs from one
// machine or day to another.
func header(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0)}
}

// agentVersion returns the digest of the guest agent in the file system.
func agentVersion(rootfs *os.File) (string, error) {
	fsys, err := ext4.Open(rootfs)
	if err != nil {
		return "", err
	}
	f, err := fsys.Open(agentPath)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

// pass is one reading of a file from its start to its end.
type pass struct {
	ctx      context.Context //nolint:containedctx // of the whole pass: a Reader is given none
	r        *sparseReader
	phase    string
	progress api.Progress
	reported time.Time
	total    int64 // bytes of data, without the holes
}

func newPass(ctx context.Context, f *os.File, phase string, p api.Progress) (*pass, error) {
	r, err := newSparseReader(f)
	if err != nil {
		return nil, err
	}
	total, err := r.allData()
	return &pass{ctx: ctx, r: r, phase: phase, progress: p, total: total}, err
}

// copyTo copies the file to w and says what it was.
func (p *pass) copyTo(w io.Writer) (Rootfs, error) {
	sum := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(sum, w), struct{ io.Reader }{p}, make([]byte, 1<<20))
	return Rootfs{SHA256: hex.EncodeToString(sum.Sum(nil)), Size: n}, err
}

// Read implements [io.Reader]; it ends with the context and reports progress.
func (p *pass) Read(b []byte) (int, error) {
	if p.ctx.Err() != nil {
		return 0, context.Cause(p.ctx)
	}
	n, err := p.r.Read(b)
	if now := time.Now(); now.Sub(p.reported) >= 200*time.Millisecond || errors.Is(err, io.EOF) {
		p.reported = now
		p.progress.Count(p.phase, "", p.r.read, p.total)
	}
	return n, err
}
