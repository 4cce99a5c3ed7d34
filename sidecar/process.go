package sidecar

import (
	"io"
	"net/http"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/core"
)

// prometheusHandler writes Prometheus's text form, or OpenMetrics where that is asked for, by hand: client_golang brings
// 2.3 MB of protobuf into a binary in which nothing else links it
// (docs/decisions/006). A test compares the two.
func prometheusHandler(a *core.Agent, r *reloader) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		open := strings.Contains(q.Header.Get("Accept"), "application/openmetrics-text")
		typ, end := "text/plain; version=0.0.4; charset=utf-8", ""
		if open {
			typ, end = "application/openmetrics-text; version=1.0.0; charset=utf-8", "# EOF\n"
		}
		w.Header().Set("Content-Type", typ)
		text := exposition(processSamples(), open) + exposition(r.samples(), open) + exposition(samples(a.Cells(), a.Ready() == nil), open) + end
		_, _ = io.WriteString(w, text) // the client is gone
	})
}

var begun = time.Now()

// processSamples are what dashboards ask of any Go process, under the names that
// client_golang gives them. What the system does not tell is left out.
func processSamples() []sample {
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(heap)
	list := []sample{
		{name: "go_gc_cycles_total_gc_cycles_total", help: "Completed cycles of the garbage collector.", value: float64(heap[1].Value.Uint64())},
		{name: "go_goroutines", help: "Goroutines that there are now.", gauge: true, value: float64(runtime.NumGoroutine())},
		{name: "go_memstats_heap_alloc_bytes", help: "Bytes in heap objects.", gauge: true, value: float64(heap[0].Value.Uint64())},
	}
	var use syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &use) == nil {
		seconds := time.Duration(use.Utime.Nano() + use.Stime.Nano()).Seconds()
		list = append(list, sample{name: "process_cpu_seconds_total", help: "User and system CPU time, in seconds.", value: seconds})
	}
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) == nil {
		list = append(list, sample{name: "process_max_fds", help: "Open files that are allowed.", gauge: true, value: float64(files.Cur)})
	}
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		list = append(list, sample{name: "process_open_fds", help: "Open files.", gauge: true, value: float64(len(open))})
	}
	if pages, ok := residentPages(); ok {
		list = append(list, sample{
			name: "process_resident_memory_bytes", help: "Resident memory.", gauge: true,
			value: float64(pages) * float64(os.Getpagesize()),
		})
	}
	return append(list, sample{
		name: "process_start_time_seconds", help: "When the process began, in seconds since 1970.", gauge: true,
		value: float64(begun.UnixMilli()) / 1000,
	})
}

func residentPages() (int64, bool) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, false
	}
	n, err := strconv.ParseInt(fields[1], 10, 64)
	return n, err == nil
}
