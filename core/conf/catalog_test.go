package conf_test

import (
	"math"
	"regexp"
	"strings"
	"time"

	"github.com/millrace/millrace/core/conf"
)

// stub is a component that has keys and nothing else.
type stub struct{ keys func(k *conf.Keys) }

func (s stub) Keys(k *conf.Keys) {
	if s.keys != nil {
		s.keys(k)
	}
}

// stubType is a type of the test catalog.
type stubType struct {
	name  string
	class string
	keys  func(k *conf.Keys)
}

// stubs is a catalog of Flume's types with their most common keys, and Flume's defaults and rules.
type stubs map[conf.Kind][]stubType

func (s stubs) Find(kind conf.Kind, typ string) (conf.Binder, string, string, bool) {
	for _, t := range s[kind] {
		if strings.EqualFold(t.name, typ) || t.class != "" && strings.HasPrefix(typ, "org.apache.flume.") && strings.HasSuffix(typ, "."+t.class) {
			return stub{t.keys}, t.name, "", true
		}
	}
	if strings.Contains(typ, "TwitterSource") {
		return nil, "", "the Twitter API is gone", false
	}
	return nil, "", "", false
}

func (s stubs) Names(kind conf.Kind) []string {
	var names []string
	for _, t := range s[kind] {
		names = append(names, t.name)
	}
	return names
}

// Fields for keys whose values no test looks at.
type fields struct {
	s [32]string
	n [8]int
	l [8]int64
	b [8]bool
	d [8]time.Duration
	w [4][]string
	m [4]map[string]string
	r *regexp.Regexp
}

func texts(k *conf.Keys, names ...string) {
	f := new(fields)
	for i, name := range names {
		if required, ok := strings.CutSuffix(name, "!"); ok {
			k.String(&f.s[i], required, "", "A text.").Required()
			continue
		}
		k.String(&f.s[i], name, "", "A text.")
	}
}

func flags(k *conf.Keys, names ...string) {
	f := new(fields)
	for i, name := range names {
		k.Bool(&f.b[i], name, false, "A flag.")
	}
}

func port(k *conf.Keys, name string) *conf.Key {
	return k.Int(&new(fields).n[0], name, 0, "The port.").Must(conf.Range(0, 65535)).Required()
}

var catalog = stubs{
	conf.KindSource: {
		{"seq", "SequenceGeneratorSource", func(k *conf.Keys) {
			f := new(fields)
			k.Int64(&f.l[0], "totalEvents", math.MaxInt64, "Events to emit before stopping.")
			k.Batch(&f.n[0], "batchSize", 1, "Events put in one transaction.")
		}},
		{"netcat", "NetcatSource", func(k *conf.Keys) {
			f := new(fields)
			texts(k, "bind!")
			port(k, "port")
			k.Bool(&f.b[0], "ack-every-event", true, "Answer OK to every line.")
			k.Int(&f.n[0], "max-line-length", 512, "Longest line.").Unit("bytes")
		}},
		{"exec", "ExecSource", func(k *conf.Keys) {
			f := new(fields)
			texts(k, "command!", "shell", "charset")
			k.Bool(&f.b[0], "restart", false, "Start the command again when it ends.")
			k.Bool(&f.b[1], "logStdErr", false, "Log what the command complains of.")
			k.Millis(&f.d[0], "restartThrottle", 10*time.Second, "Rest before a restart.")
			k.Millis(&f.d[1], "batchTimeout", 3*time.Second, "Longest wait for a full batch.")
			k.Batch(&f.n[0], "batchSize", 20, "Events put in one transaction.")
		}},
		{"avro", "AvroSource", func(k *conf.Keys) {
			texts(k, "bind!", "compression-type")
			port(k, "port")
			texts(k, "threads")
			k.String(&new(fields).s[0], "keystore-password", "", "Opens the key store.").Secret()
		}},
		{"http", "HTTPSource", func(k *conf.Keys) {
			f := new(fields)
			texts(k, "bind")
			port(k, "port")
			k.String(&f.s[0], "handler", "JSON", "Reads a request.").
				Must(conf.OneOf("JSON", "org.apache.flume.source.http.JSONHandler"))
		}},
		{"syslogtcp", "SyslogTcpSource", func(k *conf.Keys) {
			f := new(fields)
			texts(k, "host")
			port(k, "port")
			k.Int(&f.n[0], "eventSize", 2500, "Longest event.").Unit("bytes")
		}},
		{"syslogudp", "SyslogUDPSource", func(k *conf.Keys) {
			texts(k, "host", "keepFields")
			port(k, "port")
		}},
		{"spooldir", "SpoolDirectorySource", func(k *conf.Keys) {
			f := new(fields)
			texts(k, "spoolDir!", "fileSuffix")
			flags(k, "fileHeader", "basenameHeader")
			k.String(&f.s[0], "deletePolicy", "never", "When a finished file goes.").Must(conf.OneOf("never", "immediate"))
			k.Regexp(&f.r, "ignorePattern", "^$", "Files to leave alone.")
			k.Batch(&f.n[0], "batchSize", 100, "Events put in one transaction.")
		}},
		{"taildir", "TaildirSource", func(k *conf.Keys) {
			f := new(fields)
			texts(k, "positionFile")
			flags(k, "fileHeader")
			k.Words(&f.w[0], "filegroups", "Names of groups of files.").Required()
			k.Map(&f.m[0], "filegroups.", "The files of a group.").As("filegroups.<group>")
			k.Map(&f.m[1], "headers.", "Headers of a group.").As("headers.<group>.<name>")
			k.Batch(&f.n[0], "batchSize", 100, "Events put in one transaction.")
		}},
	},
	conf.KindChannel: {
		{"memory", "MemoryChannel", func(k *conf.Keys) {
			f := new(fields)
			k.Int(&f.n[0], "capacity", 100, "Events it holds.").Must(conf.Min(1)).OrDefault().Unit("events")
			k.Transaction(&f.n[1], "transactionCapacity", 100, "Events of one transaction.").OrDefault()
			k.Seconds(&f.d[0], "keep-alive", 3*time.Second, "Wait for room.").OrDefault()
			k.Int(&f.n[2], "byteCapacityBufferPercentage", 20, "Kept for headers.").Unit("%").OrDefault()
			k.Bytes(&f.l[0], "byteCapacity", 0, "Bytes it holds.").OrDefault()
			k.Check(func(r *conf.Report) {
				if f.n[1] > f.n[0] {
					r.Error("transactionCapacity", "%d is above the capacity of %d", f.n[1], f.n[0])
				}
			})
		}},
		{"file", "FileChannel", func(k *conf.Keys) {
			f := new(fields)
			texts(k, "checkpointDir")
			k.Commas(&f.w[0], "dataDirs", "Where the log is.")
			k.Int(&f.n[0], "capacity", 1000000, "Events it holds.").Must(conf.Min(1))
			k.Transaction(&f.n[1], "transactionCapacity", 10000, "Events of one transaction.")
			k.Inert("checkpointInterval", "There are no checkpoints: the log is the queue.")
		}},
	},
	conf.KindSink: {
		{"null", "NullSink", func(k *conf.Keys) {
			k.Batch(&new(fields).n[0], "batchSize", 100, "Events taken in one transaction.")
		}},
		{"logger", "LoggerSink", func(k *conf.Keys) {
			k.Int(&new(fields).n[0], "maxBytesToLog", 16, "Bytes of a body to show.").OrDefault()
		}},
		{"avro", "AvroSink", func(k *conf.Keys) {
			texts(k, "hostname!")
			port(k, "port")
			k.Batch(&new(fields).n[0], "batch-size", 100, "Events sent at once.")
		}},
		{"file_roll", "RollingFileSink", func(k *conf.Keys) {
			f := new(fields)
			texts(k, "sink.directory!", "sink.serializer", "sink.pathManager", "sink.pathManager.prefix")
			k.Seconds(&f.d[0], "sink.rollInterval", 30*time.Second, "Age of a file.")
			k.Batch(&f.n[0], "sink.batchSize", 100, "Events taken in one transaction.")
		}},
		{"hdfs", "HDFSEventSink", func(k *conf.Keys) {
			f := new(fields)
			texts(k, "hdfs.path!", "hdfs.filePrefix", "hdfs.fileSuffix", "serializer")
			k.String(&f.s[0], "hdfs.fileType", "SequenceFile", "Form of the files.").
				Must(conf.OneOf("SequenceFile", "DataStream", "CompressedStream"))
			texts(k, "hdfs.writeFormat")
			k.Seconds(&f.d[0], "hdfs.rollInterval", 30*time.Second, "Age of a file.")
			k.Bytes(&f.l[0], "hdfs.rollSize", 1024, "Size of a file.")
			k.Int(&f.n[0], "hdfs.rollCount", 10, "Events of a file.")
			k.Batch(&f.n[1], "hdfs.batchSize", 100, "Events taken in one transaction.")
			k.Bool(&f.b[0], "hdfs.useLocalTimeStamp", false, "Use the clock for escapes.")
		}},
		{"kafka", "KafkaSink", func(k *conf.Keys) {
			f := new(fields)
			k.String(&f.s[0], "kafka.bootstrap.servers", "", "Brokers.").Alias("brokerList").Required()
			k.String(&f.s[1], "kafka.topic", "default-flume-topic", "Topic.").Alias("topic")
			k.String(&f.s[2], "kafka.producer.acks", "1", "Answers to wait for.").Alias("requiredAcks")
			k.Batch(&f.n[0], "flumeBatchSize", 100, "Events sent at once.").Alias("batchSize")
			k.Map(&f.m[0], "kafka.producer.", "Settings of the producer.").As("kafka.producer.<name>")
		}},
	},
	conf.KindSelector: {
		{"replicating", "ReplicatingChannelSelector", func(k *conf.Keys) {
			k.Words(&new(fields).w[0], "optional", "Channels that may fail.")
		}},
		{"multiplexing", "MultiplexingChannelSelector", func(k *conf.Keys) {
			f := new(fields)
			k.String(&f.s[0], "header", "flume.selector.header", "The header to go by.")
			k.Words(&f.w[0], "default", "Channels for all other events.")
			k.Map(&f.m[0], "mapping.", "Channels for a value.").As("mapping.<value>")
			k.Map(&f.m[1], "optional.", "Optional channels for a value.").As("optional.<value>")
			k.Check(func(r *conf.Report) {
				known := strings.Join(r.Members(), " ")
				for value, channels := range f.m[0] {
					for name := range strings.FieldsSeq(channels) {
						if !strings.Contains(known, name) {
							r.Error("mapping."+value, "the source has no channel %q", name)
						}
					}
				}
				for _, name := range f.w[0] {
					if !strings.Contains(known, name) {
						r.Error("default", "the source has no channel %q", name)
					}
				}
			})
		}},
		{"load_balancing", "LoadBalancingChannelSelector", func(k *conf.Keys) { texts(k, "policy") }},
	},
	conf.KindInterceptor: {
		{"timestamp", "TimestampInterceptor$Builder", func(k *conf.Keys) {
			texts(k, "headerName")
			flags(k, "preserveExisting")
		}},
		{"host", "HostInterceptor$Builder", func(k *conf.Keys) {
			texts(k, "hostHeader")
			flags(k, "preserveExisting", "useIP")
		}},
		{"static", "StaticInterceptor$Builder", func(k *conf.Keys) { texts(k, "key", "value") }},
		{"regex_filter", "RegexFilteringInterceptor$Builder", func(k *conf.Keys) {
			k.Regexp(&new(fields).r, "regex", ".*", "What to find.")
			flags(k, "excludeEvents")
		}},
	},
	conf.KindGroup: {
		{"default", "DefaultSinkProcessor", nil},
		{"failover", "FailoverSinkProcessor", func(k *conf.Keys) {
			f := new(fields)
			k.Map(&f.m[0], "priority.", "Larger is preferred.").As("priority.<sink>")
			k.Millis(&f.d[0], "maxpenalty", 30*time.Second, "Longest rest of a failed sink.").OrDefault()
		}},
		{"load_balance", "LoadBalancingSinkProcessor", func(k *conf.Keys) {
			texts(k, "selector", "selector.maxTimeOut")
			flags(k, "backoff")
			k.Check(func(r *conf.Report) {
				if len(r.Members()) < 2 {
					r.Error("", "load_balance takes two sinks or more")
				}
			})
		}},
	},
}
