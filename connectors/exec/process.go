package exec

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// How long a command may take to end after TERM, and to let its pipe go after KILL.
const (
	termGrace = 5 * time.Second
	killGrace = time.Second
)

// process is a running command, leader of a process group of its own.
type process struct {
	cmd              *exec.Cmd
	stdin            *os.File // never written; open, as it is in Flume, so that nobody reads an end
	stdout, stderr   *os.File
	abort            atomic.Bool   // stdout is not to be read any longer
	reap             chan struct{} // closed when the child may be waited for
	ended            chan struct{} // closed when it was
	status           error         // what Wait said
	mu               sync.Mutex
	waited           bool // its id may belong to somebody else
	childIn          *os.File
	childOut, childE *os.File
}

// start runs argv.
func start(argv []string) (*process, error) {
	p := &process{cmd: exec.Command(argv[0], argv[1:]...), reap: make(chan struct{}), ended: make(chan struct{})}
	for _, pipe := range [...]struct{ r, w **os.File }{{&p.childIn, &p.stdin}, {&p.stdout, &p.childOut}, {&p.stderr, &p.childE}} {
		var err error
		if *pipe.r, *pipe.w, err = os.Pipe(); err != nil {
			p.closeChild()
			p.close()
			return nil, err
		}
	}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = p.childIn, p.childOut, p.childE
	p.cmd.SysProcAttr = attributes()
	started := make(chan error)
	go func() {
		// The child is killed when the thread that made it ends. Go ends no thread
		// that nobody has locked, and this one is locked by us.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		// Not before all is read: as long as the child is a zombie nobody else has
		// its id, and its group can be signalled.
		<-p.reap
		p.status = p.cmd.Wait()
		p.mu.Lock()
		p.waited = true
		p.mu.Unlock()
		close(p.ended)
	}()
	err := <-started
	p.closeChild()
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *process) closeChild() { closeAll(p.childIn, p.childOut, p.childE) }

// close gives the agent's ends of the pipes back.
func (p *process) close() { closeAll(p.stdin, p.stdout, p.stderr) }

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close() // a pipe has nothing to lose
		}
	}
}

// signal goes to the whole group.
func (p *process) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.waited {
		_ = syscall.Kill(-p.cmd.Process.Pid, sig) // whoever has ended is not there
	}
}

// wait returns how the command ended, once it has. It is called once, after the
// last read of stdout.
func (p *process) wait() error {
	close(p.reap)
	<-p.ended
	return p.status
}

// endWith ends the command when ctx ends, more firmly when its grace or late is over.
func (p *process) endWith(ctx, late context.Context) {
	select {
	case <-p.ended:
		return
	case <-ctx.Done():
	}
	p.signal(syscall.SIGTERM)
	grace := time.NewTimer(termGrace)
	defer grace.Stop()
	select {
	case <-p.ended:
		return
	case <-late.Done():
	case <-grace.C:
	}
	p.signal(syscall.SIGKILL)
	grace.Reset(killGrace)
	select {
	case <-p.ended:
		return
	case <-grace.C:
	}
	// Somebody outside the group has the pipe.
	p.abort.Store(true)
	_ = p.stdout.SetReadDeadline(time.Now())
}

// Read implements lines.Input: it reads what the command prints.
func (p *process) Read(to []byte) (int, error) { return p.stdout.Read(to) }

// SetReadDeadline implements lines.Input.
func (p *process) SetReadDeadline(t time.Time) error { return p.stdout.SetReadDeadline(t) }

// Stopped implements lines.Input.
func (p *process) Stopped() bool { return p.abort.Load() }

// errLine is how much of a line of standard error is looked at.
const errLine = 4 << 10

// readErr logs what the command says, if that is wanted, until it has ended. It
// returns the last line.
func (s *source) readErr(p *process) (last string) {
	done := make(chan struct{})
	defer func() { <-done }()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		defer close(done)
		select {
		case <-p.ended:
			// What it said is in the pipe; whoever else has it is not waited for.
			_ = p.stderr.SetReadDeadline(time.Now().Add(errGrace))
		case <-stop:
		}
	}()
	r := bufio.NewReaderSize(p.stderr, errLine)
	for n := 1; ; n++ {
		line, long, err := r.ReadLine()
		if len(line) > 0 {
			last = string(line)
			if s.logErr {
				s.env.Log.Info(fmt.Sprintf("StderrLogger[%d] = '%s'", n, last))
			}
		}
		for long && err == nil {
			_, long, err = r.ReadLine()
		}
		if err != nil {
			return last
		}
	}
}

const errGrace = 100 * time.Millisecond
