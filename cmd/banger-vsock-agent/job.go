package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"syscall"
	"time"

	"banger/internal/agent"
)

const (
	// hangupGrace is what a command has between the SIGHUP for a host that is
	// gone and the SIGKILL.
	hangupGrace = 2 * time.Second

	// outputGrace is how long the output of a command that has ended is followed
	// while processes it left behind hold it open.
	outputGrace = 200 * time.Millisecond
)

// job is a command to run with its surroundings, all defaults applied.
type job struct {
	agent.ExecRequest
	makeDir bool // create the working directory

	stdin          io.Reader // nil is /dev/null
	stdout, stderr io.Writer
	resize         <-chan agent.Size
	signals        <-chan syscall.Signal
	gone           <-chan struct{} // closed when nobody is there for it any more
	started        func(pid int)
}

// run runs j in the tree below root, which is "/" but in tests, and returns
// when it has ended and its output has been passed on.
func (c *children) run(root string, j job) agent.ExitStatus {
	p, why := c.launch(root, j)
	if why != nil {
		return agent.ExitStatus{Code: why.code, Reason: why.reason}
	}
	if j.started != nil {
		j.started(p.pid)
	}
	var output sync.WaitGroup
	for i, from := range p.output {
		output.Go(func() { follow([]io.Writer{j.stdout, j.stderr}[i], from) })
	}
	if p.input != nil {
		go feed(p.input, j.stdin, j.TTY) // ends with the command or with its input
	}

	status := c.attend(p, j)
	for _, from := range p.output {
		_ = from.SetReadDeadline(time.Now().Add(outputGrace)) // a pipe and a terminal have deadlines
	}
	output.Wait()
	p.close()

	if status.Signaled() {
		return agent.ExitStatus{Code: 128 + int(status.Signal()), Signal: int(status.Signal())}
	}
	return agent.ExitStatus{Code: status.ExitStatus()}
}

// attend passes signals and sizes on until the command ends.
func (c *children) attend(p *process, j job) syscall.WaitStatus {
	gone := j.gone
	var kill <-chan time.Time
	for {
		select {
		case status := <-p.ended:
			return status
		case size := <-j.resize:
			p.resize(size)
		case sig := <-j.signals:
			c.signal(p.pid, sig)
		case <-gone:
			gone, kill = nil, time.After(hangupGrace)
			c.signal(p.pid, syscall.SIGHUP)
			c.signal(p.pid, syscall.SIGCONT)
		case <-kill:
			c.signal(p.pid, syscall.SIGKILL)
		}
	}
}

// launch starts j.
func (c *children) launch(root string, j job) (*process, *notRun) {
	if len(j.Args) == 0 {
		return nil, &notRun{exitNotFound, "no command: the image names none and none was given"}
	}
	who, err := lookupUser(root, j.User)
	if err != nil {
		return nil, &notRun{exitCannotRun, err.Error()}
	}
	dir := path.Join("/", j.Dir)
	if err := workDir(dir, j.makeDir); err != nil {
		return nil, &notRun{exitCannotRun, err.Error()}
	}
	env := j.environment(who)
	file, why := find(j.Args[0], dir, getenv(env, "PATH"))
	if why != nil {
		return nil, why
	}
	p, files, err := openStdio(j, int(who.uid))
	if err != nil {
		return nil, &notRun{exitCannotRun, err.Error()}
	}
	attr := &syscall.ProcAttr{Dir: dir, Env: env, Sys: &syscall.SysProcAttr{Setsid: true, Setctty: j.TTY}}
	for _, f := range files {
		attr.Files = append(attr.Files, uintptr(f))
	}
	if os.Getuid() == 0 { // else it runs as us, as in the tests of an ordinary user
		attr.Sys.Credential = &syscall.Credential{Uid: who.uid, Gid: who.gid, Groups: who.groups}
	}
	p.pid, p.ended, err = c.start(file, j.Args, attr)
	closeAll(files)
	if err != nil {
		p.close()
		return nil, startError(j.Args[0], err)
	}
	return p, nil
}

// environment is that of container engines: PATH, HOSTNAME, TERM and HOME
// unless the image or the request say otherwise.
func (j job) environment(who user) []string {
	env := []string{defaultPath}
	if name, err := os.Hostname(); err == nil {
		env = append(env, "HOSTNAME="+name)
	}
	if j.TTY {
		term := j.Term
		if term == "" {
			term = "xterm"
		}
		env = append(env, "TERM="+term)
	}
	return mergeEnv(env, []string{"HOME=" + who.home}, j.Env)
}

func workDir(dir string, create bool) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && create:
		return os.MkdirAll(dir, 0o755)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("working directory %s: no such directory", dir)
	case err != nil:
		return fmt.Errorf("working directory: %w", err)
	case !info.IsDir():
		return fmt.Errorf("working directory %s: not a directory", dir)
	}
	return nil
}

// follow passes on what a command writes until nobody can write any more or
// the deadline has passed; then all that was written before it is still there.
func follow(w io.Writer, from *os.File) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && w != nil {
			if _, err := w.Write(buf[:n]); err != nil {
				w = nil // the host is gone; the command must not wait for it
			}
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			drain(w, from, buf)
			return
		}
		if err != nil { // io.EOF from a pipe, EIO from a terminal
			return
		}
	}
}

// drain passes on what is in the pipe now, and no more than fits into one: the
// writers may go on for ever.
func drain(w io.Writer, from *os.File, buf []byte) {
	if from.SetReadDeadline(time.Time{}) != nil || w == nil {
		return
	}
	raw, err := from.SyscallConn()
	if err != nil {
		return
	}
	for left := 64 << 10; left > 0; {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			n, _ = syscall.Read(int(fd), buf[:min(left, len(buf))]) // it does not block
			return true
		})
		if err != nil || n <= 0 {
			return
		}
		left -= n
		if _, err := w.Write(buf[:n]); err != nil {
			return
		}
	}
}

// feed passes stdin on. At its end a terminal is told as a person would.
func feed(to *os.File, r io.Reader, tty bool) {
	_, err := io.Copy(to, r)
	if tty {
		if err == nil {
			_, _ = to.Write([]byte{4}) // Ctrl-D; a terminal that is gone does not mind
		}
		return
	}
	to.Close()
}
