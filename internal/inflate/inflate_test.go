package inflate

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unsafe"
)

// sources are ways to hand over the same bytes.
var sources = []struct {
	name string
	wrap func(io.Reader) io.Reader
}{
	{"whole", func(r io.Reader) io.Reader { return r }},
	{"one byte", iotest.OneByteReader},
	{"halves", iotest.HalfReader},
	{"end with data", iotest.DataErrReader},
}

// compare reads gz here and with compress/gzip, which must agree in every byte
// and in the kind of the error. At a cut compress/flate stops some bits earlier:
// it decodes nothing until there are as many as the end of a block has.
func compare(t *testing.T, gz []byte) {
	t.Helper()
	want, wantErr := standard(gz)
	for _, s := range sources {
		got, err := io.ReadAll(NewReader(s.wrap(bytes.NewReader(gz))))
		if wantErr == io.ErrUnexpectedEOF && err != nil && len(got)-len(want) <= maxCode*maxMatch/2 {
			wantErr = err
			got = got[:min(len(got), len(want))]
		}
		if kind(err) != kind(wantErr) {
			t.Fatalf("%s: got error %v, want %v", s.name, err, wantErr)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%s: got %d bytes, want %d, equal up to %d", s.name, len(got), len(want), equal(got, want))
		}
	}
}

func standard(gz []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(gz))
	if err == io.EOF {
		return nil, io.ErrUnexpectedEOF
	} else if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

func kind(err error) error {
	var corrupt flate.CorruptInputError
	if errors.As(err, &corrupt) {
		return flate.CorruptInputError(0)
	}
	return err
}

func equal(a, b []byte) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

var plainHeader = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}

// member makes a member of a deflate stream that holds data.
func member(deflated, data []byte) []byte {
	gz := slices.Concat(plainHeader, deflated)
	gz = binary.LittleEndian.AppendUint32(gz, crc32.ChecksumIEEE(data))
	return binary.LittleEndian.AppendUint32(gz, uint32(len(data)))
}

func compress(t testing.TB, level int, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// samples are data of many kinds.
func samples() map[string][]byte {
	rng := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, 300<<10)
	for i := range random {
		random[i] = byte(rng.Uint32())
	}
	var numbers, skewed, far bytes.Buffer
	for i := range 40_000 {
		fmt.Fprintln(&numbers, i*i)
	}
	for range 300_000 { // codes of up to 15 bits
		skewed.WriteByte(byte(min(rng.ExpFloat64()*12, 255)))
	}
	for range 40 {
		far.Write(random[:32<<10-rng.IntN(3)])
	}
	return map[string][]byte{
		"empty":   nil,
		"byte":    {'x'},
		"random":  random,
		"zeros":   make([]byte, 1<<20),
		"numbers": numbers.Bytes(),
		"skewed":  skewed.Bytes(),
		"far":     far.Bytes(),
		"period3": bytes.Repeat([]byte("abc"), 100_000),
		"period7": bytes.Repeat([]byte("abcdefg"), 50_000),
		"buffer":  random[:fullAt+1],
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for name, data := range samples() {
		for level := gzip.HuffmanOnly; level <= gzip.BestCompression; level++ {
			t.Run(fmt.Sprint(name, level), func(t *testing.T) {
				t.Parallel()
				gz := compress(t, level, data)
				for _, s := range sources {
					got, err := io.ReadAll(NewReader(s.wrap(bytes.NewReader(gz))))
					if err != nil || !bytes.Equal(got, data) {
						t.Errorf("%s: got %d bytes, %v, want %d", s.name, len(got), err, len(data))
					}
				}
			})
		}
	}
}

func TestReadSizes(t *testing.T) {
	t.Parallel()
	data := samples()["numbers"]
	gz := compress(t, 6, data)
	if err := iotest.TestReader(NewReader(bytes.NewReader(gz)), data); err != nil {
		t.Error(err)
	}
	for _, size := range []int{1, 7, 4096, fullAt, 1 << 20} {
		var got bytes.Buffer
		z := struct{ io.Reader }{NewReader(bytes.NewReader(gz))} // hide WriteTo
		if _, err := io.CopyBuffer(struct{ io.Writer }{&got}, z, make([]byte, size)); err != nil {
			t.Error(err)
		}
		if !bytes.Equal(got.Bytes(), data) {
			t.Errorf("in reads of %d: got other bytes", size)
		}
	}
}

func TestWriteTo(t *testing.T) {
	t.Parallel()
	data := samples()["far"]
	gz := compress(t, 6, data)
	var got bytes.Buffer
	z := NewReader(bytes.NewReader(gz))
	head := make([]byte, 100)
	if _, err := io.ReadFull(z, head); err != nil {
		t.Fatal(err)
	}
	n, err := z.WriteTo(&got)
	if want := int64(len(data) - len(head)); n != want || err != nil {
		t.Errorf("got %d bytes, %v, want %d", n, err, want)
	}
	if !bytes.Equal(got.Bytes(), data[len(head):]) {
		t.Error("got other bytes")
	}

	got.Reset()
	n, err = NewReader(bytes.NewReader(gz[:len(gz)-9])).WriteTo(&got)
	if err != io.ErrUnexpectedEOF || n != int64(got.Len()) || !bytes.HasPrefix(data, got.Bytes()) {
		t.Errorf("truncated: got %d bytes, %v, want %v", n, err, io.ErrUnexpectedEOF)
	}
	_, err = NewReader(bytes.NewReader(gz)).WriteTo(shortWriter{})
	if err != io.ErrShortWrite {
		t.Errorf("short write: got %v, want %v", err, io.ErrShortWrite)
	}
	broken := errors.New("broken pipe")
	_, err = NewReader(bytes.NewReader(gz)).WriteTo(brokenWriter{broken})
	if err != broken {
		t.Errorf("broken writer: got %v, want %v", err, broken)
	}
}

type shortWriter struct{}

func (shortWriter) Write(p []byte) (int, error) { return len(p) / 2, nil }

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

// TestFraming has what is around the deflate streams.
func TestFraming(t *testing.T) {
	t.Parallel()
	text := []byte("a layer")
	one := compress(t, 6, text)
	body := one[len(plainHeader):]
	header := func(flags byte, fields ...string) []byte {
		h := slices.Clone(plainHeader)
		h[3] = flags
		h = append(h, strings.Join(fields, "")...)
		if flags&flagHeaderCRC != 0 {
			h = binary.LittleEndian.AppendUint16(h, uint16(crc32.ChecksumIEEE(h)))
		}
		return append(h, body...)
	}
	change := func(at int) []byte {
		b := slices.Clone(one)
		b[(at+len(b))%len(b)] ^= 1
		return b
	}
	files := map[string][]byte{
		"empty":                    nil,
		"one":                      one,
		"two":                      slices.Concat(one, one),
		"empty between":            slices.Concat(one, compress(t, 6, nil), one),
		"ten thousand empty":       bytes.Repeat(compress(t, 6, nil), 10_000),
		"large members":            bytes.Repeat(compress(t, 6, make([]byte, 200_000)), 3),
		"extra":                    header(flagExtra, "\x03\x00abc"),
		"longest extra":            header(flagExtra, "\xff\xff", strings.Repeat("x", 65535)),
		"name":                     header(flagName, "name\x00"),
		"longest name":             header(flagName, strings.Repeat("n", maxText), "\x00"),
		"name too long":            header(flagName, strings.Repeat("n", maxText+1), "\x00"),
		"comment":                  header(flagComment, "comment\x00"),
		"all":                      header(flagHeaderCRC|flagExtra|flagName|flagComment, "\x01\x00x", "n\x00", "c\x00"),
		"reserved flags":           header(0xe1),
		"header sum":               header(flagHeaderCRC),
		"wrong magic":              change(1),
		"wrong method":             change(2),
		"wrong sum":                change(-5),
		"wrong size":               change(-1),
		"second wrong":             slices.Concat(one, change(1)),
		"second's sum wrong":       slices.Concat(one, change(-8)),
		"one zero behind":          append(slices.Clone(one), 0),
		"zeros behind":             append(slices.Clone(one), make([]byte, 512)...),
		"garbage behind":           append(slices.Clone(one), "garbage behind"...),
		"begin of another":         slices.Concat(one, one[:9]),
		"match into other member":  slices.Concat(one, member(repeatAfter(0, 5), nil)),
		"match before the start":   member(repeatAfter(0, 1), nil),
		"match into moved member":  slices.Concat(compress(t, 6, make([]byte, fullAt-1000)), member(repeatAfter(2000, 2500), nil)),
		"match into large members": slices.Concat(compress(t, 6, make([]byte, 1<<20)), member(repeatAfter(0, 32768), nil)),
	}
	wrongHeaderSum := header(flagHeaderCRC)
	wrongHeaderSum[len(plainHeader)] ^= 1
	files["wrong header sum"] = wrongHeaderSum
	for name, gz := range files {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			compare(t, gz)
		})
	}
	for _, name := range []string{"two", "all", "header sum"} {
		for n := range files[name] {
			compare(t, files[name][:n])
		}
	}
}

// TestCut checks that a valid file is never taken for another one or for damaged
// when its end is missing.
func TestCut(t *testing.T) {
	t.Parallel()
	data := samples()["skewed"][:20_000]
	gz := compress(t, 6, data)
	for n := range gz {
		got, err := io.ReadAll(NewReader(bytes.NewReader(gz[:n])))
		if err != io.ErrUnexpectedEOF || !bytes.HasPrefix(data, got) {
			t.Fatalf("of %d bytes: got %d bytes, %v, want %v", n, len(got), err, io.ErrUnexpectedEOF)
		}
	}
}

// TestSourceErrors checks that what the source says of its end is returned, after
// all that came before.
func TestSourceErrors(t *testing.T) {
	t.Parallel()
	data := samples()["numbers"]
	gz := compress(t, 6, data)
	lost := errors.New("connection lost")
	for _, n := range []int{0, 5, len(gz) / 2, len(gz)} {
		want, _ := standard(gz[:n])
		got, err := io.ReadAll(NewReader(io.MultiReader(bytes.NewReader(gz[:n]), iotest.ErrReader(lost))))
		if err != lost || !bytes.Equal(got, want) {
			t.Errorf("after %d bytes: got %d bytes, %v, want %d, %v", n, len(got), err, len(want), lost)
		}
	}
	z := NewReader(idle{})
	for range 2 {
		if _, err := z.Read(make([]byte, 1)); err != io.ErrNoProgress {
			t.Errorf("idle source: got %v, want %v", err, io.ErrNoProgress)
		}
	}
}

type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

func TestMemory(t *testing.T) {
	gz := compress(t, 6, make([]byte, 20<<20))
	r := bytes.NewReader(gz)
	allocs := testing.AllocsPerRun(3, func() {
		r.Reset(gz)
		if n, err := io.Copy(io.Discard, NewReader(r)); n != 20<<20 || err != nil {
			t.Errorf("got %d bytes, %v", n, err)
		}
	})
	if allocs > 5 {
		t.Errorf("got %v allocations, want a handful", allocs)
	}
	if size := unsafe.Sizeof(Reader{}); size > 220<<10 {
		t.Errorf("a Reader has %d bytes, more than its documentation says", size)
	}
}

// TestGoldens reads the streams that Go's own tests keep, whole, cut and wrong.
func TestGoldens(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	src := filepath.Join(strings.TrimSpace(string(out)), "src", "compress")
	if err == nil {
		_, err = os.Stat(src)
	}
	need(t, "goroot", err == nil)

	encoded, err := os.ReadFile(filepath.Join(src, "gzip", "testdata", "issue6550.gz.base64"))
	if err != nil {
		t.Fatal(err)
	}
	gz, err := base64.StdEncoding.DecodeString(string(encoded))
	if err != nil {
		t.Fatal(err)
	}
	compare(t, gz)

	files, err := filepath.Glob(filepath.Join(src, "flate", "testdata", "*[!i][!n]"))
	if err != nil || len(files) == 0 {
		t.Fatalf("got %d streams, %v", len(files), err)
	}
	for _, file := range files {
		deflated, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, slices.Concat(plainHeader, deflated))
		compare(t, slices.Concat(plainHeader, deflated[:len(deflated)/2]))
	}
}

// need skips the test when what it needs is missing, unless that must not be.
func need(t *testing.T, tool string, found bool) {
	t.Helper()
	if found {
		return
	}
	required := strings.Split(os.Getenv("BANGER_REQUIRE"), ",")
	if slices.Contains(required, tool) || slices.Contains(required, "all") {
		t.Fatalf("BANGER_REQUIRE names %s, which is missing", tool)
	}
	t.Skipf("needs %s", tool)
}
