// Package oci is where images come from: registries that speak the OCI
// distribution specification 1.1, OCI image layouts and archives of them, what
// `docker save` writes, and flat root file systems as tar files. Call [Normalize] on what the user typed, then [Resolve]; run
// [Image.Prefetch] beside a loop of [Layer.Open] over the layers.
//
// All bytes are verified: size and digest as they are stored, diffID as they are
// uncompressed. What comes from a registry is kept in a cache by digest, is
// downloaded once however many ask for it in however many processes, and goes on
// where an earlier download ended. A large blob comes in parts, over several
// connections. Faults of network and registry are tried again
// up to 5 times in a row, with progress warnings that say so; what still fails is
// kept by the [Image]: resolve again to try again.
//
// Every [api.Progress] is called from several goroutines at once. It counts
// [api.PhaseFetch] of each blob that is downloaded, [api.PhaseConvert] of each
// layer that is read, and [api.PhaseHash] of a tar file.
package oci

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"banger/internal/api"
)

// DefaultParallel is how many connections a pull has at once unless it is told
// otherwise.
const DefaultParallel = 4

// Options say how to resolve a reference. The zero value works for layouts and
// tar files; registries, Docker daemons and compressed archives need a CacheDir.
type Options struct {
	CacheDir string // blobs are kept in CacheDir/blobs/sha256
	Platform string // "os/arch[/variant]"; "": linux on the host's architecture
	Insecure bool   // plain HTTP to any registry; it is always allowed to loopback

	ReadAhead     int64 // bytes that the open layers of an image may be inflated ahead in all, beyond 1 MiB each; 0: 8 MiB
	MaxLayerBytes int64 // a layer with more bytes uncompressed is refused; 0: 64 GiB
	MaxRatio      int64 // and one with more than 4 GiB, and so many for each that is stored; 0: 200

	Registries map[string]Registry // how hosts are reached, by host[:port]; "docker.io" for Docker's
	Parallel   int                 // connections at once; 0: [DefaultParallel]
	DockerHost string              // where a Docker daemon is; "": $DOCKER_HOST, else unix:///var/run/docker.sock
	CacheBytes int64               // what [Hold] leaves in the cache at most; 0: [DefaultCacheBytes]; negative: no limit

	Progress api.Progress // of Resolve itself

	backoff   time.Duration // before the first further try; 0: 500 ms
	stall     time.Duration // a peer that says nothing for so long is given up; 0: 30 s
	partSize  int64         // 0: 16 MiB
	patience  time.Duration // with a part before others are fetched beside it; 0: 100 ms
	ratioFrom int64         // bytes that no ratio counts for; 0: 4 GiB
	certDirs  []string      // nil: where podman and docker keep certificates

	dial func(ctx context.Context, network, address string) (net.Conn, error) // nil: of package net
}

// Image is an image of one platform, ready to be read.
type Image struct {
	Ref      string      // normalized
	Digest   string      // of the platform's manifest; of a tar: of the file as it is stored
	Platform string      // "linux/amd64"; of a tar: what was asked for
	Config   api.Process // empty for a tar
	Source   api.Source  // what else manifest and config say
	Created  time.Time   // zero when the image does not say
	Size     int64       // bytes of all layers as they are stored
	Layers   []Layer     // base first

	parallel int
}

// Layer is one layer of an image.
type Layer struct {
	Digest string // of the bytes as they are stored
	DiffID string // digest of the uncompressed tar stream; "" for a tar
	Size   int64  // bytes as they are stored

	what  string // in errors; "": "layer"
	blob  blob
	ahead ahead
	limit limit
}

// Resolve asks where the reference points now, and chooses the image for the
// platform. It reads manifests and the config, no layers. What is named by digest
// and cached is resolved without the network.
func Resolve(ctx context.Context, ref Ref, o Options) (*Image, error) {
	img, err := resolve(ctx, ref, o.withDefaults())
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", ref, err)
	}
	return img, nil
}

func resolve(ctx context.Context, ref Ref, o Options) (*Image, error) {
	want, err := parsePlatform(o.Platform)
	if err != nil {
		return nil, err
	}
	var src source
	switch ref.kind {
	case inTar:
		return resolveTar(ctx, ref, want, o)
	case inLayout:
		src = &layout{files: directory(ref.path), scheme: "oci", tag: ref.tag, digest: ref.digest}
	case inArchive:
		files, err := openArchive(ctx, ref.path, o)
		if err != nil {
			return nil, err
		}
		src = &layout{files: files, scheme: "oci-archive", tag: ref.tag, digest: ref.digest}
	case inDockerArchive:
		files, err := openArchive(ctx, ref.path, o)
		if err != nil {
			return nil, err
		}
		src = &saved{files: files, ref: ref}
	case inDocker:
		files, err := saveFromDocker(ctx, ref, o)
		if err != nil {
			return nil, err
		}
		src = &saved{files: files, ref: ref}
	default:
		if src, err = newRegistry(ref, o); err != nil {
			return nil, err
		}
	}
	ch, err := choose(ctx, src, want)
	if err != nil {
		return nil, err
	}
	return newImage(ref, src, ch, o), nil
}

func newImage(ref Ref, src source, ch *choice, o Options) *Image {
	c := ch.config.Config
	img := &Image{
		Ref:      ref.String(),
		Digest:   ch.digest.String(),
		Platform: ch.platform.String(),
		Source:   ch.source(),
		Created:  ch.config.Created.Time,
		parallel: o.Parallel,
		Config: api.Process{
			Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env,
			User: c.User, WorkingDir: c.WorkingDir, StopSignal: c.StopSignal,
		},
	}
	shared := newAhead(o.ReadAhead)
	blobs := make(map[v1.Hash]blob) // a layer may occur twice
	for i, d := range ch.manifest.Layers {
		if blobs[d.Digest] == nil {
			blobs[d.Digest] = src.blob(d)
		}
		img.Size += d.Size
		img.Layers = append(img.Layers, Layer{
			Digest: d.Digest.String(), DiffID: ch.config.RootFS.DiffIDs[i].String(), Size: d.Size,
			blob: blobs[d.Digest], ahead: shared, limit: o.limit(),
		})
	}
	return img
}

// Prefetch downloads what the cache does not have, the largest layers first and
// up to [Options.Parallel] at once. It returns when all is there, so run it in a goroutine beside
// the loop that opens the layers: they are read while they arrive. p is called
// from several goroutines.
func (img *Image) Prefetch(ctx context.Context, p api.Progress) error {
	layers := slices.Clone(img.Layers)
	slices.SortStableFunc(layers, func(a, b Layer) int { return cmp.Compare(b.Size, a.Size) })
	if err := reserve(layers); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(1, img.parallel))
	for _, l := range layers {
		group.Go(func() error { return l.blob.fetch(ctx, p) })
	}
	return group.Wait()
}

// Cached returns how many of the layer's bytes need no download.
func (l Layer) Cached() (int64, error) {
	b, ok := l.blob.(*cachedBlob)
	if !ok {
		return l.Size, nil
	}
	missing, err := b.cache.missing(b.desc, b.partSize)
	return l.Size - missing, err
}

// Missing returns how many bytes of the layers are still to be downloaded, and the
// directory that they go to.
func Missing(layers []Layer) (need int64, dir string, err error) {
	missing := make(map[string]int64) // a layer may occur twice
	for _, l := range layers {
		b, ok := l.blob.(*cachedBlob)
		if !ok {
			continue
		}
		dir = b.cache.dir
		if missing[l.Digest], err = b.cache.missing(b.desc, b.partSize); err != nil {
			return 0, dir, err
		}
	}
	for _, n := range missing {
		need += n
	}
	return need, dir, nil
}

// reserve fails at once when the disk has no room for what is missing.
func reserve(layers []Layer) error {
	need, dir, err := Missing(layers)
	if need == 0 || err != nil {
		return err
	}
	return cache{dir: dir}.reserve(need)
}
