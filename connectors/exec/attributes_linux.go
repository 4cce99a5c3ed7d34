package exec

import "syscall"

// attributes: a group of its own, and no life after the agent's, however that ends.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
