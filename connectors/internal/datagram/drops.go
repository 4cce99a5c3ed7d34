package datagram

import (
	"bufio"
	"bytes"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"

	"github.com/millrace/millrace/core/metric"
)

// watchDrops shows how many datagrams the kernel has dropped because c's queue
// was full, where the system tells (Linux, UDP). It is read when somebody looks.
func watchDrops(cells *metric.Group, c net.PacketConn) {
	if _, ok := c.LocalAddr().(*net.UDPAddr); !ok {
		return // a unix socket makes its senders wait
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	inode := ""
	_ = raw.Control(func(fd uintptr) {
		var st syscall.Stat_t
		if syscall.Fstat(int(fd), &st) == nil {
			inode = strconv.FormatUint(st.Ino, 10)
		}
	})
	if _, ok := drops(inode); !ok {
		return
	}
	var last atomic.Int64 // what it was while the socket was open
	cells.GaugeFunc("socket_dropped_datagrams", "Datagrams the kernel dropped because the source did not read fast enough.", func() int64 {
		if n, ok := drops(inode); ok {
			last.Store(n)
		}
		return last.Load()
	})
}

// drops finds a socket in the kernel's tables.
func drops(inode string) (int64, bool) {
	for _, table := range []string{"/proc/self/net/udp", "/proc/self/net/udp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue
		}
		n, ok := int64(0), false
		for lines := bufio.NewScanner(f); lines.Scan() && !ok; {
			// sl local remote st queues timer retransmits uid timeout inode ref pointer drops
			if fields := bytes.Fields(lines.Bytes()); len(fields) >= 13 && string(fields[9]) == inode {
				n, err = strconv.ParseInt(string(fields[len(fields)-1]), 10, 64)
				ok = err == nil
			}
		}
		_ = f.Close()
		if ok {
			return n, true
		}
	}
	return 0, false
}
