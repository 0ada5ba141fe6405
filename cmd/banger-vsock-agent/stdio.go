package main

import (
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"banger/internal/agent"
)

// process is a command that was started, seen from our side.
type process struct {
	pid    int
	ended  <-chan syscall.WaitStatus
	input  *os.File   // nil when stdin is /dev/null
	output []*os.File // stdout and stderr, or the one terminal

	terminal *os.File
	closing  sync.Once
}

// openStdio makes the pipes or the terminal of j. files are the command's ends:
// stdin, stdout, stderr. They belong to the user, so that the command can open
// /dev/stdout again.
func openStdio(j job, uid int) (p *process, files []int, err error) {
	p = &process{}
	defer func() {
		if err != nil {
			closeAll(files)
			p.close()
			p, files = nil, nil
		}
	}()
	if j.TTY {
		if files, err = p.openTerminal(); err != nil {
			return p, files, fmt.Errorf("open terminal: %w", err)
		}
		p.resize(agent.Size{Rows: j.Rows, Cols: j.Cols})
		if j.stdin != nil {
			p.input = p.terminal
		}
		return p, files, chown(files[:1], uid)
	}

	if j.stdin == nil {
		null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return p, files, fmt.Errorf("open %s: %w", os.DevNull, err)
		}
		files = append(files, null)
	} else {
		r, w, err := openPipe()
		if err != nil {
			return p, files, err
		}
		files, p.input = append(files, r), pollable(w, "stdin")
	}
	for range 2 {
		r, w, err := openPipe()
		if err != nil {
			return p, files, err
		}
		files, p.output = append(files, w), append(p.output, pollable(r, "output"))
	}
	if j.stdin == nil {
		return p, files, chown(files[1:], uid)
	}
	return p, files, chown(files, uid)
}

func openPipe() (r, w int, err error) {
	var fd [2]int
	if err := unix.Pipe2(fd[:], unix.O_CLOEXEC); err != nil {
		return 0, 0, fmt.Errorf("open pipe: %w", err)
	}
	return fd[0], fd[1], nil
}

// pollable makes a file of our end, which must not block: that is what
// deadlines need. The command's end does block.
func pollable(fd int, name string) *os.File {
	_ = unix.SetNonblock(fd, true) // fails only on a file that is not open
	return os.NewFile(uintptr(fd), name)
}

// openTerminal opens a pseudo-terminal and returns its far side three times. It
// needs no /dev/pts in sight: TIOCGPTPEER is since Linux 4.13.
func (p *process) openTerminal() (files []int, err error) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	p.terminal = os.NewFile(uintptr(master), "terminal")
	p.output = []*os.File{p.terminal}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return nil, err
	}
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return nil, errno
	}
	files = []int{int(peer)}
	for range 2 {
		fd, err := unix.FcntlInt(peer, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return files, err
		}
		files = append(files, fd)
	}
	return files, nil
}

// resize tells the terminal its size; without one it does nothing.
func (p *process) resize(size agent.Size) {
	if p.terminal == nil || size.Rows == 0 || size.Cols == 0 {
		return
	}
	raw, err := p.terminal.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { // a terminal that is gone has no size
		_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Cols})
	})
}

func (p *process) close() {
	p.closing.Do(func() {
		if p.input != nil {
			p.input.Close() // twice when it is the terminal, which is harmless
		}
		for _, f := range p.output {
			f.Close()
		}
	})
}

func chown(files []int, uid int) error {
	if uid == 0 || os.Getuid() != 0 {
		return nil
	}
	for _, fd := range files {
		if err := unix.Fchown(fd, uid, -1); err != nil {
			return fmt.Errorf("give stdio to user %d: %w", uid, err)
		}
	}
	return nil
}

func closeAll(files []int) {
	for _, fd := range files {
		unix.Close(fd)
	}
}
