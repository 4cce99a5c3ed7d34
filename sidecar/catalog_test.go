package sidecar

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/suite"
)

const root = ".." // of the source tree, from here

// Every name and class name of the catalogue leads to one type, and none that is here is said to be absent.
func TestCatalogIsUnambiguous(t *testing.T) {
	cat := Catalog()
	for _, k := range kinds {
		owner := make(map[string]string)
		for _, e := range cat.Entries(k.kind) {
			if e.Name != strings.ToLower(e.Name) || e.Doc == "" || !strings.HasSuffix(e.Doc, ".") {
				t.Errorf("%s %q: the name is lower case and the doc a sentence: %q", k.words[0], e.Name, e.Doc)
			}
			for _, name := range append([]string{e.Name}, e.Aliases...) {
				if other, taken := owner[strings.ToLower(name)]; taken {
					t.Errorf("%s %s is both %s and %s", k.words[0], name, other, e.Name)
				}
				owner[strings.ToLower(name)] = e.Name
				if _, got, _, ok := cat.Find(k.kind, name); !ok || got != e.Name {
					t.Errorf("%s %s leads to %q", k.words[0], name, got)
				}
			}
		}
		for _, a := range cat.Absent {
			for _, name := range a.Names {
				if here, both := owner[strings.ToLower(name)]; both && a.Kind == k.kind {
					t.Errorf("%s %s is absent and is %s", k.words[0], name, here)
				}
			}
		}
	}
}

// Flume's own types are each here, or said to be absent.
//
// flume: TestDefaultSourceFactory testSourceCreation
// flume: TestDefaultSinkFactory testSinkCreation
func TestCatalogKnowsFlume(t *testing.T) {
	flume := map[conf.Kind]string{
		conf.KindSource: "seq netcat exec avro syslogtcp multiport_syslogtcp syslogudp spooldir http thrift jms taildir netcatudp " +
			"org.apache.flume.source.kafka.KafkaSource org.apache.flume.source.StressSource org.apache.flume.source.scribe.ScribeSource " +
			"org.apache.flume.source.twitter.TwitterSource org.apache.flume.source.avroLegacy.AvroLegacySource " +
			"org.apache.flume.source.thriftLegacy.ThriftLegacySource",
		conf.KindChannel: "file memory jdbc spillablememory org.apache.flume.channel.kafka.KafkaChannel org.apache.flume.channel.PseudoTxnMemoryChannel",
		conf.KindSink: "null logger file_roll hdfs irc avro thrift elasticsearch hbase asynchbase hbase2 morphline_solr hive http " +
			"org.apache.flume.sink.kafka.KafkaSink org.apache.flume.sink.kudu.KuduSink",
		conf.KindSelector: "replicating load_balancing multiplexing",
		conf.KindGroup:    "failover default load_balance",
		conf.KindInterceptor: "timestamp host static regex_filter regex_extractor remove_header search_replace " +
			"org.apache.flume.sink.solr.morphline.UUIDInterceptor$Builder org.apache.flume.sink.solr.morphline.MorphlineInterceptor$Builder",
	}
	cat := Catalog()
	for kind, names := range flume {
		for _, name := range strings.Fields(names) {
			if _, _, hint, ok := cat.Find(kind, name); !ok && hint == "" {
				t.Errorf("%s %s: neither here nor absent", kindWord(kind), name)
			}
		}
	}
}

// suites are the suites that prove a type, by kind.
var suites = map[conf.Kind]string{
	conf.KindSource:  "sourcetest.Run(",
	conf.KindChannel: "channeltest.Run(",
	conf.KindSink:    "sinktest.Run(",
}

// Every source, channel and sink runs under its suite: a test of its package calls it.
func TestCatalogRunsUnderSuites(t *testing.T) {
	cat := Catalog()
	for kind, call := range suites {
		for _, e := range cat.Entries(kind) {
			dir := filepath.Join(root, strings.TrimPrefix(packageOf(e.New()), "github.com/millrace/millrace/"))
			files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				found = found || strings.Contains(string(text), call)
			}
			if !found {
				t.Errorf("%s %s: no test in %s calls %s)", kindWord(kind), e.Name, dir, call)
			}
		}
	}
}

// packageOf is the import path of the package that a component is made in.
func packageOf(b conf.Binder) string {
	v := reflect.ValueOf(b)
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	// A core.Writer is wrapped: what it wraps tells.
	if v.Kind() == reflect.Struct && v.NumField() > 0 && v.Type().PkgPath() == "github.com/millrace/millrace/core" {
		v = v.Field(0)
		for v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
	}
	return v.Type().PkgPath()
}

// The generated reference and the tables in the READMEs are as the keys say.
//
// flume: SinkProcessorFactoryTest test testInstantiatingLoadBalancingSinkProcessor
func TestDocsAreFresh(t *testing.T) {
	changes, faults, err := docChanges(Catalog(), root)
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range faults {
		t.Error(fault)
	}
	for _, c := range changes {
		t.Errorf("%s is stale: run make docs", c.name)
	}
}

// core stands on the standard library and x/sys; a connector on core, on what
// connectors share, and on its driver; nothing on sidecar but main and the tests of e2e.
func TestImportDirections(t *testing.T) {
	const module = "github.com/millrace/millrace"
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && file != root) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(file, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		from := path.Dir(filepath.ToSlash(rel))
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range parsed.Imports {
			to, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			own, inModule := strings.CutPrefix(to, module+"/")
			if !inModule {
				own = ""
			}
			if why := wrongImport(from, own, to, strings.HasSuffix(file, "_test.go")); why != "" {
				t.Errorf("%s imports %s: %s", rel, to, why)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// wrongImport says why a package of folder from may not import another: own
// is that one's folder in this module, empty if it is of another, and full its path.
func wrongImport(from, own, full string, test bool) string {
	under := func(dir, top string) bool { return dir == top || strings.HasPrefix(dir, top+"/") }
	external := own == "" && strings.Contains(strings.Split(full, "/")[0], ".")
	switch {
	case own != "" && under(own, "sidecar") && from != "." && !under(from, "sidecar") && (!test || from != "e2e"):
		return "only main may"
	case under(from, "core"):
		if own != "" && under(own, "connectors") {
			return "core knows no connector"
		}
		if external && !test && !strings.HasPrefix(full, "golang.org/x/sys/") && !strings.Contains(from, "test") {
			return "core stands on the standard library and x/sys"
		}
	case under(from, "connectors") && own != "" && under(own, "connectors"):
		mine := strings.Split(from+"/", "/")[1]
		theirs := strings.Split(own+"/", "/")[1]
		if theirs != mine && theirs != "internal" {
			return "a connector imports no other"
		}
	}
	return ""
}

func TestWrongImport(t *testing.T) {
	for _, c := range []struct {
		from, own, full string
		wrong           bool
	}{
		{"core/conf", "", "strings", false},
		{"core/vfs", "", "golang.org/x/sys/unix", false},
		{"core", "", "golang.org/x/text/encoding", true},
		{"core", "connectors/tail", "", true},
		{"core", "sidecar", "", true},
		{"connectors/tail", "core/conf", "", false},
		{"connectors/tail", "connectors/tail/tailcmd", "", false},
		{"connectors/tail", "connectors/internal/format", "", false},
		{"connectors/tail", "connectors/file", "", true},
		{"connectors/internal/format", "connectors/tail", "", true},
		{"connectors/tail", "sidecar", "", true},
		{"connectors/tail", "", "github.com/hpcloud/tail", false},
		{"sidecar", "connectors/tail", "", false},
		{".", "sidecar", "", false},
		{"e2e", "sidecar", "", true},
	} {
		if got := wrongImport(c.from, c.own, c.full, false); (got != "") != c.wrong {
			t.Errorf("%+v: %q", c, got)
		}
	}
	if got := wrongImport("e2e", "sidecar", "", true); got != "" {
		t.Errorf("a test of e2e: %q", got)
	}
}

// A configuration of each type is in testdata/components, free of faults, and
// an agent with it starts, counts what the reference says, and ends well.
func TestEveryComponentRuns(t *testing.T) {
	cat := Catalog()
	pages, _, err := readPages(cat, os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds {
		for _, e := range cat.Entries(k.kind) {
			t.Run(k.words[0]+"-"+e.Name, func(t *testing.T) {
				file := filepath.Join("testdata", "components", k.words[0]+"-"+e.Name+".conf")
				dir := t.TempDir()
				args := []string{
					"--strict", "-f", file, "-Ddir=" + dir, "-Dport=" + freePort(t), "--state-dir", filepath.Join(dir, "state"),
				}
				if code, _, said := call(t, home, append([]string{"agent", "--validate-only"}, args...)...); code != exitOK || said != "" {
					t.Fatalf("%d %s", code, said)
				}
				r := start(t, args...).ready()
				checkCounters(t, r, pages[pageOf(e)], e)
				// A sink may have its far end in this very agent, which closes it first when it stops.
				suite.Eventually(t, "everything is delivered", func() bool { return r.atRest() })
				if code := r.stop(); code != exitOK {
					t.Errorf("exit code %d:\n%s", code, r.err)
				}
			})
		}
	}
}
