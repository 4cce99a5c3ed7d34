package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// mutant breaks what a fact states: the tests that bear it must fail.
type mutant struct {
	fact     string
	file     string
	old, new string // of its text, each time it stands there
	in       string // the package whose tests use the suite, where a function of a suite bears the fact
}

// mutants are a sample: about one for each kind of component, of what its users see.
var mutants = []mutant{
	{fact: "TestStaticInterceptor.testReplace", file: "core/interceptor/static.go", old: "s.value, s.keep)", new: "s.value, true)"},
	{fact: "TestTimestampInterceptor.testClobber", file: "core/interceptor/timestamp.go", old: "10), t.keep)", new: "10), true)"},
	{fact: "TestUUIDInterceptor.testPrefix", file: "core/interceptor/uuid.go", old: "len(u.prefix) + uuidText", new: "uuidText"},
	{fact: "TestRegexFilteringInterceptor.testExclusion", file: "connectors/regex/filter.go", old: "return found != f.exclude", new: "return found"},
	{fact: "TestMultiplexingChannelSelector.testSelection", file: "core/selector/multiplexing.go", old: "strings.Fields(names), r.required)", new: "strings.Fields(names), nil)"},
	{fact: "TestReplicatingChannelSelector.testReplicatingSelector", file: "core/selector/replicating.go", old: "return !s.isOpt[c]", new: "return s.isOpt[c]"},
	{fact: "TestLoadBalancingSinkProcessor.testRoundRobinNoFailure", file: "core/sinkgroup/loadbalance.go", old: "g.head = (g.head + 1) % n", new: "g.head = 0"},
	{fact: "TestLoadBalancingSinkProcessor.testRoundRobinBackoffIncreasingBackoffs", file: "core/sinkgroup/loadbalance.go", old: "min(m.failures+1, mostSteps)", new: "1"},
	{fact: "TestMemoryChannel.testCapacityBufferEmptyingAfterTakeCommit", file: "core/channel/internal/queue/lease.go", old: "c.freed(place(p), room, 0)", new: "_ = p", in: "core/channel/memory"},
	{fact: "TestMemoryChannelTransaction.testCommit", file: "core/channel/internal/queue/span.go", old: "at += c.head\n", new: "at = c.head\n", in: "core/channel/memory"},
	{fact: "TestFileChannel.testLocking", file: "core/channel/internal/logdir/logdir.go", old: `"in_use.lock"`, new: `fmt.Sprintf("%p.lock", d)`},
	{fact: "TestFileChannel.testRollbackIncompleteTransaction", file: "core/channel/internal/queue/lease.go", old: "c.insert(l.spans[n].part(from, to, l.bytes(n, from, to)))", new: "_ = from", in: "core/channel/file"},
	{fact: "TestNetcatSource.testAck", file: "connectors/netcat/session.go", old: `"OK\n"...`, new: `"ok\n"...`},
	{fact: "TestExecSource.testRestart", file: "connectors/exec/source.go", old: "case !s.restart:", new: "case true:"},
	{fact: "TestStressSource.testMaxSuccessfulEvents", file: "connectors/stress/source.go", old: "s.successful-s.stored)", new: "s.successful-s.sent)"},
	{fact: "TestTaildirEventReader.testNewLineBoundaries", file: "connectors/tail/reader.go", old: `if i > 0 && body[i-1] == '\r' {`, new: "if false {"},
	{fact: "TestTaildirSource.testPutFilenameHeader", file: "connectors/tail/file.go", old: "t.c.fileHeaderKey, f.path)", new: "t.c.fileHeaderKey, f.path[1:])"},
	{fact: "TestReliableSpoolingFileEventReader.testConsumeFileYoungestWithLexicographicalComparision", file: "connectors/spooldir/list.go", old: "cmp.Compare(a.name, b.name)", new: "cmp.Compare(b.name, a.name)"},
	{fact: "TestSyslogUdpSource.testKeepTimestamp", file: "connectors/syslog/keep.go", old: "if f.stamp {", new: "if f.stamp && f.all {"},
	{fact: "TestSyslogUtils.testExtractGoodEvent", file: "connectors/syslog/parse.go", old: "strconv.Itoa(pri % 8)", new: "strconv.Itoa(pri % 2)"},
	{fact: "TestHTTPSource.testOptions", file: "connectors/http/service.go", old: "refuse(http.StatusForbidden, r.Method", new: "refuse(http.StatusMethodNotAllowed, r.Method"},
	{fact: "TestHttpSinkIT.ensureEventsResentOn503Failure", file: "connectors/http/sink_rules.go", old: "std, own := r.standard, status/100 == 2 ||", new: "std, own := r.standard, status/100 == 5 ||"},
	{fact: "TestBodyTextEventSerializer.testNoNewline", file: "connectors/internal/format/lines.go", old: "if l.newline {", new: "if true {"},
	{fact: "TestHTTPMetricsServer.testTrace", file: "sidecar/monitor.go", old: "w.WriteHeader(http.StatusForbidden)", new: "w.WriteHeader(http.StatusOK)"},
	{fact: "TestExternalProcessConfigFilter.filterError", file: "core/configfilter/external.go", old: "if err := cmd.Run(); err != nil {", new: "if err := cmd.Run(); err != nil && ctx.Err() != nil {"},
	{fact: "TestAvroSource.testValidIpFilterAllows", file: "connectors/avro/filter.go", old: "return r.allow", new: "return !r.allow"},
	{fact: "TestAvroSink.testProcess", file: "connectors/internal/lane/lane.go", old: "f.tx.Ack(nil)", new: "f.tx.Rollback(nil)"},
	{fact: "TestThriftSource.testAppend", file: "connectors/thrift/conn.go", old: "c.status(c.buf[:0], x.name, x.seq, statusOK, asked)", new: "c.status(c.buf[:0], x.name, x.seq, statusFailed, asked)"},
	{fact: "TestHDFSEventSink.testTextBatchAppend", file: "connectors/internal/roll/limits.go", old: "events >= l.Count", new: "events > l.Count"},
	{fact: "TestBucketPath.testDateFormatHoursTimeZone", file: "connectors/internal/roll/clock.go", old: "t.Hour()-t.Hour()%c.value", new: "t.Hour()"},
}

// mutate runs the tests of each mutant and says which of them do not see it.
func mutate() error {
	found, err := facts()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var alive []string
	begun := time.Now()
	for _, m := range mutants {
		tests, err := m.tests(found)
		if err != nil {
			return err
		}
		overlay, err := m.overlay(dir)
		if err != nil {
			return err
		}
		seen, how, err := m.run(overlay, tests)
		if err != nil {
			return err
		}
		if !seen {
			alive = append(alive, m.fact)
		}
		fmt.Printf("%-76s %s\n", m.fact, how)
	}
	fmt.Printf("%d of %d mutants seen, in %v\n", len(mutants)-len(alive), len(mutants), time.Since(begun).Round(time.Second))
	if len(alive) > 0 {
		return fmt.Errorf("not seen: %s", strings.Join(alive, ", "))
	}
	return nil
}

// tests are the arguments of go test that run what bears the fact: by name, or
// all of a package that uses the suite.
func (m mutant) tests(found map[string][]place) (args []string, err error) {
	if m.in != "" {
		return []string{"./" + m.in}, nil
	}
	var names, dirs []string
	for _, p := range found[m.fact] {
		if path.Base(p.Dir) == "testdata" { // cases that some test of the package reads
			return []string{"./" + path.Dir(p.Dir)}, nil
		}
		if p.isTest() && !strings.HasPrefix(p.Dir, "e2e") { // those need services
			names = append(names, regexp.QuoteMeta(p.Name))
			if !slices.Contains(dirs, "./"+p.Dir) {
				dirs = append(dirs, "./"+p.Dir)
			}
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s: the ledger names no test for it", m.fact)
	}
	return append(dirs, "-run", "^("+strings.Join(names, "|")+")$"), nil
}

// overlay writes the file with the fault, and what go build -overlay reads.
func (m mutant) overlay(dir string) (string, error) {
	text, err := os.ReadFile(m.file)
	if err != nil {
		return "", err
	}
	if !strings.Contains(string(text), m.old) {
		return "", fmt.Errorf("%s: %s has no %q any more", m.fact, m.file, m.old)
	}
	broken := filepath.Join(dir, filepath.Base(m.file))
	if err := os.WriteFile(broken, []byte(strings.ReplaceAll(string(text), m.old, m.new)), 0o644); err != nil {
		return "", err
	}
	whole, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": {whole: broken}})
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "overlay.json")
	return name, os.WriteFile(name, list, 0o644)
}

var failure = regexp.MustCompile(`(?m)^--- FAIL: (\w+)`)

// run runs the tests with the fault. Only a test that fails has seen it: that
// the program does not build says nothing.
func (m mutant) run(overlay string, tests []string) (seen bool, how string, err error) {
	out, err := exec.Command("go", append([]string{"test", "-count=1", "-timeout=30s", "-overlay", overlay}, tests...)...).CombinedOutput()
	if err == nil {
		return false, "NOT SEEN", nil
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false, "", err
	}
	if f := failure.FindAllStringSubmatch(string(out), -1); f != nil {
		names := make([]string, len(f))
		for i := range f {
			names[i] = f[i][1]
		}
		return true, "seen by " + strings.Join(names, ", "), nil
	}
	if strings.Contains(string(out), "panic: test timed out") {
		return true, "seen: the tests hang", nil
	}
	return false, "", fmt.Errorf("%s: no test ran:\n%s", m.fact, out)
}
