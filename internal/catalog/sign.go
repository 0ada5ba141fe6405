package catalog

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"aead.dev/minisign"

	"banger/internal/api"
)

// signatureSuffix is what minisign adds to the name of the file it signs.
const signatureSuffix = ".minisig"

// ParseKey returns the minisign public key in text: a bare key, or what is in a
// .pub file.
func ParseKey(text string) (string, error) {
	key, err := parseKey(text)
	if err != nil {
		return "", err
	}
	// Of the two lines of a .pub file the second is the key.
	lines := strings.Split(strings.TrimSpace(key.String()), "\n")
	return lines[len(lines)-1], nil
}

func parseKey(text string) (key minisign.PublicKey, err error) {
	if err := key.UnmarshalText([]byte(strings.TrimSpace(text))); err != nil {
		return key, api.Hint(fmt.Errorf("%w key %.100q: %w", api.ErrInvalid, text, err),
			"want a minisign public key: RW... or the path of a .pub file")
	}
	return key, nil
}

// ReadKey returns the key that --key names: a bare key or the path of a .pub file.
func ReadKey(arg string) (string, error) {
	if key, err := ParseKey(arg); err == nil {
		return key, nil
	}
	b, err := os.ReadFile(arg)
	if errors.Is(err, os.ErrNotExist) {
		return ParseKey(arg)
	}
	if err != nil {
		return "", fmt.Errorf("read key: %w", err)
	}
	return ParseKey(string(b))
}

// verify says whether key has signed data, and when as far as the signature
// tells. Text after "timestamp:" in the trusted comment is what minisign itself
// puts there.
func verify(data, signature []byte, keyText string) (signedAt time.Time, err error) {
	key, err := parseKey(keyText)
	if err != nil {
		return signedAt, err
	}
	if len(signature) == 0 {
		return signedAt, fmt.Errorf("%w: it has no signature", api.ErrInvalid)
	}
	var sig minisign.Signature
	if err := sig.UnmarshalText(signature); err != nil {
		return signedAt, fmt.Errorf("%w signature: %w", api.ErrInvalid, err)
	}
	if sig.KeyID != key.ID() {
		return signedAt, fmt.Errorf("%w signature: by key %016X, want %016X", api.ErrInvalid, sig.KeyID, key.ID())
	}
	if !minisign.Verify(key, data, signature) {
		return signedAt, fmt.Errorf("%w signature: the bytes are not what key %016X has signed", api.ErrInvalid, key.ID())
	}
	for field := range strings.FieldsSeq(sig.TrustedComment) {
		if n, ok := strings.CutPrefix(field, "timestamp:"); ok {
			if s, err := strconv.ParseInt(n, 10, 64); err == nil {
				signedAt = time.Unix(s, 0).UTC()
			}
		}
	}
	return signedAt, nil
}
