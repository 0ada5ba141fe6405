// Guestfs is the init of a guest that works on the ext4 file system of its one
// disk, as the kernel parameter task says, and reports on the console:
//
//	task=grow    makes it as large as its device while several writers write to it
//	task=write   writes, and says what has been synced, until the machine is killed
//	task=check   looks whether all that had been synced (synced=N,N,…) is there
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"banger/internal/agent"
)

const (
	device = "/dev/vda"
	top    = "/mnt"
	dir    = "/mnt/var/load"
)

func main() {
	err := run(os.Getenv("task"))
	if err != nil {
		fmt.Println("ERROR:", err)
	}
	// The console's last bytes are on their way.
	time.Sleep(50 * time.Millisecond)
	fmt.Println(unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART))
}

func run(task string) error {
	for _, d := range []string{"/dev", "/proc", top} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("dev", "/dev", "devtmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount /dev: %w", err)
	}
	if err := loadModules(); err != nil {
		return err
	}
	if err := mountDisk(); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var err error
	switch task {
	case "grow":
		err = grow()
	case "write":
		for i, w := range startWriters() {
			fmt.Printf("writer %d: %v\n", i, w.wait()) // only an error ends it
		}
	case "check":
		err = check(os.Getenv("synced"))
	default:
		err = fmt.Errorf("task %q", task)
	}
	if err != nil {
		return err
	}
	if err := unix.Unmount(top, 0); err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	fmt.Println("DONE")
	return nil
}

func loadModules() error {
	b, err := os.ReadFile(agent.ConfigPath)
	if err != nil {
		return err
	}
	var config agent.Config
	if err := json.Unmarshal(b, &config); err != nil {
		return err
	}
	for _, name := range config.Modules {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil {
			fmt.Printf("load %s: %v\n", name, err) // the mount will tell
		}
		f.Close()
	}
	return nil
}

// mountDisk mounts the disk, and says what the kernel said about it.
func mountDisk() error {
	err := unix.ENODEV
	for range 200 {
		mountErr := unix.Mount(device, top, "ext4", 0, "")
		if mountErr == nil {
			return kernelLog()
		}
		err, _ = mountErr.(unix.Errno)
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("mount %s: %w", device, err)
}

func kernelLog() error {
	log := make([]byte, 1<<20)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, log)
	if err != nil {
		return fmt.Errorf("read the kernel's log: %w", err)
	}
	for line := range strings.Lines(string(log[:n])) {
		if strings.Contains(line, "EXT4-fs") {
			fmt.Print("kernel: ", line)
		}
	}
	return nil
}

// writerCount is how many goroutines write at a time.
const writerCount = 3

// writer writes numbered files one after the other.
type writer struct {
	id     int
	synced atomic.Int64 // the last file that is on the disk for certain
	stop   atomic.Bool
	done   sync.WaitGroup
	err    error // read after done
}

func startWriters() []*writer {
	all := make([]*writer, writerCount)
	for i := range all {
		w := &writer{id: i}
		w.done.Go(func() { w.err = w.run() })
		all[i] = w
	}
	return all
}

func (w *writer) wait() error {
	w.done.Wait()
	return w.err
}

func (w *writer) run() error {
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer folder.Close()
	for n := int64(1); !w.stop.Load(); n++ {
		if err := writeFile(w.name(n), content(w.id, n)); err != nil {
			return err
		}
		if err := folder.Sync(); err != nil {
			return err
		}
		w.synced.Store(n)
		fmt.Printf("synced %d %d\n", w.id, n)
		// Odd ones go again, so that blocks and names are freed as well.
		if old := n - 8; old > 0 && old%2 == 1 {
			if err := os.Remove(w.name(old)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *writer) name(n int64) string { return filepath.Join(dir, fmt.Sprintf("%d-%d", w.id, n)) }

// writeFile writes a file under another name, syncs it and renames it.
func writeFile(name string, b []byte) error {
	f, err := os.Create(name + ".tmp")
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(name+".tmp", name)
}

// content is what file n of a writer holds: up to 200 KiB that no other has.
func content(id int, n int64) []byte {
	line := fmt.Sprintf("writer %d file %d\n", id, n)
	return bytes.Repeat([]byte(line), int(n*7919%10_000)+1)
}

// verify compares the files of a writer up to synced with what they must hold;
// those after it need not be there, but if they are they are whole.
func (w *writer) verify(synced int64) error {
	for n := int64(1); n <= synced+100; n++ {
		got, err := os.ReadFile(w.name(n))
		if os.IsNotExist(err) && (n > synced || n%2 == 1) {
			continue
		}
		if err != nil {
			return err
		}
		if !bytes.Equal(got, content(w.id, n)) {
			return fmt.Errorf("%s: wrong content", w.name(n))
		}
	}
	return nil
}

// grow makes the file system as large as the device while it is written to.
func grow() error {
	size, err := deviceSize()
	if err != nil {
		return err
	}
	root, err := os.Open(top)
	if err != nil {
		return err
	}
	before, err := totalBytes()
	if err != nil {
		return err
	}
	writers := startWriters()
	for _, w := range writers {
		for deadline := time.Now().Add(time.Minute); w.synced.Load() < 10; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				return fmt.Errorf("writer %d has synced %d files in a minute", w.id, w.synced.Load())
			}
		}
	}
	began := countSynced(writers)
	blocks := uint64(size) / 4096
	// EXT4_IOC_RESIZE_FS is _IOW('f', 16, __u64) (fs/ext4/ext4.h).
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, root.Fd(), 1<<30|8<<16|'f'<<8|16, uintptr(unsafe.Pointer(&blocks)))
	ended := countSynced(writers)
	if errno != 0 {
		return fmt.Errorf("EXT4_IOC_RESIZE_FS to %d blocks: %w", blocks, errno)
	}
	root.Close()
	after, err := totalBytes()
	if err != nil {
		return err
	}
	fmt.Printf("GREW from %d to %d bytes, %d files synced meanwhile\n", before, after, ended-began)
	if err := useNewSpace(); err != nil {
		return err
	}
	for _, w := range writers {
		w.stop.Store(true)
		if err := w.wait(); err != nil {
			return err
		}
		if err := w.verify(w.synced.Load()); err != nil {
			return err
		}
	}
	return nil
}

// useNewSpace takes more than the file system had before, and writes to its end.
func useNewSpace() error {
	f, err := os.Create(filepath.Join(top, "new"))
	if err != nil {
		return err
	}
	const size = 40 << 30
	if err := unix.Fallocate(int(f.Fd()), 0, 0, size); err != nil {
		return fmt.Errorf("allocate %d bytes: %w", int64(size), err)
	}
	if _, err := f.WriteAt(content(9, 9), size-1<<20); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

func countSynced(all []*writer) (n int64) {
	for _, w := range all {
		n += w.synced.Load()
	}
	return n
}

func deviceSize() (int64, error) {
	f, err := os.Open(device)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Seek(0, 2)
}

// totalBytes is how large the mounted file system is.
func totalBytes() (int64, error) {
	var st unix.Statfs_t
	err := unix.Statfs(top, &st)
	return int64(st.Blocks) * st.Bsize, err
}

// check verifies what the writers of an earlier boot had synced.
func check(list string) error {
	for i, text := range strings.Split(list, ",") {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return err
		}
		if err := (&writer{id: i}).verify(n); err != nil {
			return err
		}
	}
	return nil
}
