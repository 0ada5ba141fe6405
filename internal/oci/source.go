package oci

import (
	"maps"
	"slices"

	"banger/internal/api"
)

// source is what the manifest and the config tell of an image beyond how to run it.
func (ch *choice) source() api.Source {
	s := api.Source{
		ConfigDigest: ch.manifest.Config.Digest.String(),
		Created:      ch.config.Created.Time,
		Author:       ch.config.Author,
		Labels:       ch.config.Config.Labels,
		ExposedPorts: slices.Sorted(maps.Keys(ch.config.Config.ExposedPorts)),
		Volumes:      slices.Sorted(maps.Keys(ch.config.Config.Volumes)),
	}
	for i, d := range ch.manifest.Layers {
		s.Layers = append(s.Layers, api.SourceLayer{Digest: d.Digest.String(), DiffID: ch.config.RootFS.DiffIDs[i].String(), Size: d.Size})
	}
	for _, h := range ch.config.History {
		s.History = append(s.History, api.History{
			Created: h.Created.Time, CreatedBy: h.CreatedBy, Author: h.Author, Comment: h.Comment, EmptyLayer: h.EmptyLayer,
		})
	}
	return s
}
