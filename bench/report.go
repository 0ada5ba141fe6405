package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// about says what each image is.
func about(s scale) map[string]string {
	return map[string]string{
		"debian":      "three layers: a minimal Debian, " + strings.Join(packages, " and ") + ", 3,000 source files; gzip",
		"debian-zstd": "the same, zstd",
		"flat":        "the first two as one layer without ACLs, which tar2ext4 gets wrong; gzip",
		"small":       fmt.Sprintf("%s files of up to 16 KiB, %s of them in one directory; one layer, gzip", thousands(s.smallFiles), thousands(s.smallFiles/5*3)),
		"large":       fmt.Sprintf("files of 8 to 128 MiB, %d MiB in all; one layer, gzip", s.largeBytes>>20),
		"huge":        fmt.Sprintf("%s files, %d MiB in all; eight layers, gzip; for the memory, one run", thousands(s.hugeFiles), s.hugeBytes>>20),
	}
}

func thousands(n int) string {
	if n >= 1000 {
		return fmt.Sprintf("%d,%03d", n/1000, n%1000)
	}
	return fmt.Sprint(n)
}

// report is the text for docs/benchmarks.md.
func report(ctx context.Context, c *contest, s scale, r results) (string, error) {
	var b strings.Builder
	machine, err := machine(ctx, c)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&b, "%s\n\n", machine)
	fmt.Fprintf(&b, "Medians of %d runs in turns, %d with a cold cache, on the large image and of what is slow. \"Cold\" is with an empty page cache", s.runs, s.fewRuns)
	if !canDrop() {
		b.WriteString(", which could not be had on this machine")
	}
	b.WriteString(`. Memory is the peak of one process; what a
pull takes is the daemon's. Written is what was handed to the kernel for the disk, the cache included. "of inflating" is
the time over that of only inflating the same layers, as many at once as there are cores. Every kind of disk was checked
once: e2fsck is silent, and all have the same names, owners, modes and contents. Those of tar2ext4 had to be mended for
that: the padding of their inode bitmaps is not set.
`)
	texts := about(s)
	for _, img := range order {
		fmt.Fprintf(&b, "\n**%s**: %s. Layers %s, disk %s.\n\n", img, texts[img], mib(c.images[img].stored), mib(median(r.runs[cell{img, convert, false}], disk)))
		b.WriteString("| | warm | of inflating | cold | processor | memory | written |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n")
		for _, k := range contestants {
			if k.fit(img) {
				b.WriteString(row(r, img, k.name))
			}
		}
	}
	b.WriteString("\n### Ratios\n\n| | wanted | found |\n| --- | ---: | ---: |\n")
	for _, q := range ratios(c, r) {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", q[0], q[1], q[2])
	}
	return b.String(), nil
}

func row(r results, img, name string) string {
	warm, cold := cell{img, name, false}, cell{img, name, true}
	if err := r.wrong[warm]; err != nil {
		return fmt.Sprintf("| %s | wrong: %s | | | | | |\n", name, strings.NewReplacer("\n", " ", "|", "\\|").Replace(firstLine(err)))
	}
	runs := r.runs[warm]
	ofInflating, coldTime := "", ""
	if base := r.runs[cell{img, inflateOnly, false}]; len(base) > 0 {
		ofInflating = fmt.Sprintf("%.2f", ratio(median(runs, wall), median(base, wall)))
	}
	if len(r.runs[cold]) > 0 {
		coldTime = seconds(median(r.runs[cold], wall))
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s |\n", name, seconds(median(runs, wall)), ofInflating, coldTime,
		seconds(median(runs, cpu)), mib(median(runs, memory)), mib(median(runs, written)))
}

// ratios are what was aimed at.
func ratios(c *contest, r results) (rows [][3]string) {
	of := func(img, name string) time.Duration { return median(r.runs[cell{img, name, false}], wall) }
	has := func(img, name string) bool { return len(r.runs[cell{img, name, false}]) > 0 }
	add := func(what, want, found string) { rows = append(rows, [3]string{what, want, found}) }
	times := func(img, other, want string) {
		if has(img, other) {
			add(fmt.Sprintf("%s, %s: faster than %s", img, plain(convert), other), want, fmt.Sprintf("%.1f x", ratio(of(img, other), of(img, convert))))
		}
	}
	for _, img := range order[:len(order)-1] {
		add(img+", banger convert over inflate only", "≤ 1.25", fmt.Sprintf("%.2f", ratio(of(img, convert), of(img, inflateOnly))))
		add(img+", banger convert over inflate and verify", "", fmt.Sprintf("%.2f", ratio(of(img, convert), of(img, readOnly))))
	}
	times("debian", reference, "≥ 4 x")
	times("small", reference, "≥ 20 x")
	for _, img := range []string{"flat", "small", "large"} {
		times(img, tar2ext4, "> 1 x")
		times(img, genext2fs, "")
	}
	for _, img := range order[:len(order)-1] {
		add(img+", pull over the slower of download and convert --sync", "≤ 1.15",
			fmt.Sprintf("%.2f", ratio(of(img, pull), max(of(img, fetchOnly), of(img, convertSync)))))
	}
	add("debian, second pull beyond the manifest request", "< 50 ms", fmt.Sprintf("%d ms", r.again.Milliseconds()))
	for _, img := range order {
		converted, pulled := r.runs[cell{img, convert, false}], r.runs[cell{img, pull, false}]
		add(img+", written by convert over the disk's blocks", "≤ 1.02", fmt.Sprintf("%.3f", ratio(median(converted, written), median(converted, disk))))
		if len(pulled) > 0 {
			add(img+", written by pull over the disk's blocks and the cached blobs", "≤ 1.02",
				fmt.Sprintf("%.3f", ratio(median(pulled, written), median(pulled, disk)+c.images[img].stored)))
		}
	}
	for _, name := range []string{convert, pull} {
		add("huge, memory of "+plain(name), "≤ 300 MiB", mib(median(r.runs[cell{"huge", name, false}], memory)))
	}
	return rows
}

func ratio[T ~int64](a, b T) float64 { return float64(a) / float64(b) }

func plain(name string) string { return strings.ReplaceAll(name, "*", "") }

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func mib(n int64) string { return fmt.Sprintf("%d MiB", (n+1<<19)>>20) }

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// machine says where, when and with what this was measured.
func machine(ctx context.Context, c *contest) (string, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return "", err
	}
	cpus, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "", err
	}
	model := "unknown processor"
	for line := range strings.Lines(string(cpus)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			model = strings.TrimSpace(v)
			break
		}
	}
	commit, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=10").Output()
	if err != nil {
		return "", fmt.Errorf("find the commit: %w", err)
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "", err
	}
	one, _, _ := strings.Cut(string(load), " ")
	return fmt.Sprintf("Machine: %d cores of %s, Linux %s, %s. Load at the end %s.\n%s, commit %s, %s.", runtime.NumCPU(), model,
		unix.ByteSliceToString(uts.Release[:]), filesystem(c.work), one, runtime.Version(), strings.TrimSpace(string(commit)), time.Now().UTC().Format(time.DateOnly)), nil
}

// filesystem names the one that the disks are written to; statfs(2).
func filesystem(dir string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err.Error()
	}
	switch st.Type {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlay"
	}
	return fmt.Sprintf("file system type %#x", st.Type)
}

// What publish replaces is between these lines.
const (
	begin = "<!-- make bench writes from here -->\n"
	end   = "<!-- to here -->\n"
)

// publish puts the report into the document.
func publish(name, text string) error {
	old, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(old), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no place for the report", name)
	}
	return os.WriteFile(name, []byte(before+begin+"\n"+text+"\n"+end+after), 0o644)
}
