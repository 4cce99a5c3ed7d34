package conf_test

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
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

// stubFilter is a config filter of the test catalog: it knows the environment, and dies of one key.
type stubFilter struct{ stub }

func (stubFilter) Value(key string, env func(string) (string, bool)) (string, bool, error) {
	if key == "DIES" {
		return "", false, errors.New("no such luck")
	}
	v, ok := env(key)
	return v, ok, nil
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
		if strings.EqualFold(t.name, typ) || t.class != "" && typ == "org.apache.flume."+t.class {
			if kind == conf.KindFilter {
				return stubFilter{stub{t.keys}}, t.name, "", true
			}
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

// oneOf is a key with some values, of which the first is the default.
func oneOf(k *conf.Keys, name string, values ...string) {
	k.String(&new(fields).s[0], name, values[0], "A choice.").Must(conf.OneOf(values...))
}

func isPort(text string) bool {
	n, err := strconv.Atoi(text)
	return err == nil && n >= 0 && n <= 65535
}

func rpcSink(k *conf.Keys) {
	f := new(fields)
	texts(k, "hostname!", "connect-timeout", "request-timeout", "compression-type", "compression-level", "truststore")
	flags(k, "ssl")
	port(k, "port")
	k.String(&f.s[0], "truststore-password", "", "Opens the trust store.").Secret()
	k.Batch(&f.n[0], "batch-size", 100, "Events sent at once.")
}

// regexExtractor has, as some components do, keys below names that another key lists.
func regexExtractor(k *conf.Keys) {
	const own = "org.apache.flume.interceptor.RegexExtractorInterceptor"
	f := new(fields)
	k.Regexp(&f.r, "regex", "", "What to find.").Required()
	k.Words(&f.w[0], "serializers", "One for each group.").Required()
	k.Map(&f.m[0], "serializers.", "Their settings.").As("serializers.<name>.<key>")
	k.Check(func(r *conf.Report) {
		for _, name := range f.w[0] {
			of := func(key string) string { return f.m[0][name+"."+key] }
			if of("name") == "" {
				r.Error("serializers."+name+".name", "is required")
			}
			switch strings.TrimPrefix(of("type"), own) {
			case "", "DEFAULT", "default", "PassThroughSerializer":
			case "MillisSerializer":
				if pattern := of("pattern"); pattern == "" || strings.Contains(pattern, "bb") {
					r.Error("serializers."+name+".pattern", "is no date pattern")
				}
			default:
				r.Error("serializers."+name+".type", "is unknown")
			}
		}
	})
}

var catalog = stubs{
	conf.KindSource: stubSources,
	conf.KindChannel: {
		{"memory", "channel.MemoryChannel", func(k *conf.Keys) {
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
		{"file", "channel.file.FileChannel", func(k *conf.Keys) {
			f := new(fields)
			texts(k, "checkpointDir", "minimumRequiredSpace")
			k.Commas(&f.w[0], "dataDirs", "Where the log is.")
			k.Int(&f.n[0], "capacity", 1000000, "Events it holds.").Must(conf.Min(1)).OrDefault()
			k.Transaction(&f.n[1], "transactionCapacity", 10000, "Events of one transaction.")
			k.Int64(&f.l[0], "maxFileSize", 1<<31-1, "Size of a file.")
			k.Int(&f.n[2], "keep-alive", 3, "Wait for room.")
			k.Inert("checkpointInterval", "There are no checkpoints: the log is the queue.")
			k.Inert("useDualCheckpoints", "There are no checkpoints: the log is the queue.")
			k.Inert("use-fast-replay", "It is fast.")
			k.Check(func(r *conf.Report) {
				if f.n[1] > f.n[0] {
					r.Error("transactionCapacity", "%d is above the capacity of %d", f.n[1], f.n[0])
				}
			})
		}},
		{"spillablememory", "channel.SpillableMemoryChannel", func(k *conf.Keys) {
			f := new(fields)
			texts(k, "checkpointDir")
			k.Commas(&f.w[0], "dataDirs", "Where the log is.")
			k.Int(&f.n[0], "memoryCapacity", 10000, "Events in memory.").Must(conf.Min(0)).OrDefault()
			k.Int(&f.n[1], "overflowCapacity", 100000000, "Events on disk.").Must(conf.Min(0)).OrDefault()
			k.Seconds(&f.d[0], "overflowTimeout", 3*time.Second, "Wait before it overflows.").OrDefault()
			k.Int(&f.n[2], "overflowDeactivationThreshold", 5, "Memory filled again.").Unit("%").OrDefault()
			k.Int(&f.n[3], "avgEventSize", 500, "Size of an event.").Unit("bytes").OrDefault()
			k.Int(&f.n[4], "byteCapacityBufferPercentage", 20, "Kept for headers.").Unit("%").OrDefault()
			k.Bytes(&f.l[0], "byteCapacity", 0, "Bytes it holds.").OrDefault()
			k.Seconds(&f.d[1], "keep-alive", 3*time.Second, "Wait for room.").OrDefault()
			k.Transaction(&f.n[5], "transactionCapacity", 10000, "Events of one transaction.").OrDefault()
		}},
		{"kafka", "channel.kafka.KafkaChannel", func(k *conf.Keys) {
			f := new(fields)
			k.String(&f.s[0], "kafka.bootstrap.servers", "", "Brokers.").Alias("brokerList").Required()
			k.String(&f.s[1], "kafka.topic", "flume-channel", "Topic.").Alias("topic")
			k.String(&f.s[2], "kafka.consumer.group.id", "flume", "Group.").Alias("groupId")
			k.Bool(&f.b[0], "kafka.consumer.auto.offset.reset", false, "Where to begin.").Alias("readSmallestOffset")
			k.Map(&f.m[0], "kafka.consumer.", "Settings of the consumer.").As("kafka.consumer.<name>")
			flags(k, "parseAsFlumeEvent")
			k.Inert("zookeeperConnect", "Brokers keep the offsets.")
		}},
	},
	conf.KindSink: {
		{"null", "sink.NullSink", func(k *conf.Keys) {
			k.Batch(&new(fields).n[0], "batchSize", 100, "Events taken in one transaction.")
		}},
		{"logger", "sink.LoggerSink", func(k *conf.Keys) {
			k.Int(&new(fields).n[0], "maxBytesToLog", 16, "Bytes of a body to show.").OrDefault()
		}},
		{"avro", "sink.AvroSink", rpcSink},
		{"thrift", "sink.ThriftSink", rpcSink},
		{"file_roll", "sink.RollingFileSink", func(k *conf.Keys) {
			f := new(fields)
			texts(k, "sink.directory!", "sink.pathManager.prefix", "sink.pathManager.extension")
			oneOf(k, "sink.serializer", "TEXT", "HEADER_AND_TEXT", "AVRO_EVENT", "org.apache.flume.serialization.BodyTextEventSerializer$Builder")
			oneOf(k, "sink.pathManager", "DEFAULT", "ROLLTIME")
			k.Map(&f.m[0], "sink.serializer.", "Settings of the serializer.").As("sink.serializer.<name>")
			k.Seconds(&f.d[0], "sink.rollInterval", 30*time.Second, "Age of a file.")
			k.Batch(&f.n[0], "sink.batchSize", 100, "Events taken in one transaction.")
		}},
		{"hdfs", "sink.hdfs.HDFSEventSink", func(k *conf.Keys) {
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
			k.Bool(&f.b[1], "hdfs.round", false, "Round times down.")
			k.Int(&f.n[2], "hdfs.roundValue", 1, "To a multiple of it.").Must(conf.Range(1, 60))
			oneOf(k, "hdfs.roundUnit", "second", "minute", "hour")
			texts(k, "hdfs.inUsePrefix", "hdfs.inUseSuffix", "hdfs.timeZone", "hdfs.idleTimeout", "hdfs.callTimeout", "hdfs.threadsPoolSize")
			codec := ""
			k.String(&codec, "hdfs.codeC", "", "Compression.").Must(conf.OneOf("gzip", "bzip2", "lz4", "snappy", "lzop"))
			k.Check(func(r *conf.Report) {
				if f.s[0] == "CompressedStream" && codec == "" {
					r.Error("hdfs.codeC", "is required with hdfs.fileType = CompressedStream")
				}
			})
		}},
		{"kafka", "sink.kafka.KafkaSink", func(k *conf.Keys) {
			f := new(fields)
			k.String(&f.s[0], "kafka.bootstrap.servers", "", "Brokers.").Alias("brokerList").Required()
			k.String(&f.s[1], "kafka.topic", "default-flume-topic", "Topic.").Alias("topic")
			k.String(&f.s[2], "kafka.producer.acks", "1", "Answers to wait for.").Alias("requiredAcks")
			k.Batch(&f.n[0], "flumeBatchSize", 100, "Events sent at once.").Alias("batchSize").Unread("kafka.flumeBatchSize")
			texts(k, "topicHeader")
			flags(k, "useFlumeEventFormat", "allowTopicOverride")
			k.Map(&f.m[0], "kafka.producer.", "Settings of the producer.").As("kafka.producer.<name>")
		}},
	},
	conf.KindFilter: {
		{"env", "configfilter.EnvironmentVariableConfigFilter", nil},
		{"external", "configfilter.ExternalProcessConfigFilter", func(k *conf.Keys) {
			var s string
			k.String(&s, "command", "", "").Required()
		}},
	},
	conf.KindSelector: {
		{"replicating", "channel.ReplicatingChannelSelector", func(k *conf.Keys) {
			k.Words(&new(fields).w[0], "optional", "Channels that may fail.")
		}},
		{"multiplexing", "channel.MultiplexingChannelSelector", func(k *conf.Keys) {
			f := new(fields)
			k.String(&f.s[0], "header", "flume.selector.header", "The header to go by.")
			k.Words(&f.w[0], "default", "Channels for all other events.")
			k.Map(&f.m[0], "mapping.", "Channels for a value.").As("mapping.<value>")
			k.Map(&f.m[1], "optional.", "Optional channels for a value.").As("optional.<value>")
			k.Check(func(r *conf.Report) {
				known := func(key string, names []string) {
					for _, name := range names {
						if !slices.Contains(r.Members(), name) {
							r.Error(key, "the source has no channel %q", name)
						}
					}
				}
				for value, channels := range f.m[0] {
					known("mapping."+value, strings.Fields(channels))
				}
				for value, channels := range f.m[1] {
					known("optional."+value, strings.Fields(channels))
				}
				known("default", f.w[0])
			})
		}},
		{"load_balancing", "channel.LoadBalancingChannelSelector", func(k *conf.Keys) { texts(k, "policy") }},
	},
	conf.KindInterceptor: {
		{"timestamp", "interceptor.TimestampInterceptor$Builder", func(k *conf.Keys) {
			texts(k, "headerName")
			flags(k, "preserveExisting")
		}},
		{"host", "interceptor.HostInterceptor$Builder", func(k *conf.Keys) {
			texts(k, "hostHeader")
			flags(k, "preserveExisting", "useIP")
		}},
		{"static", "interceptor.StaticInterceptor$Builder", func(k *conf.Keys) { texts(k, "key", "value") }},
		{"regex_filter", "interceptor.RegexFilteringInterceptor$Builder", func(k *conf.Keys) {
			k.Regexp(&new(fields).r, "regex", ".*", "What to find.")
			flags(k, "excludeEvents")
		}},
		{"regex_extractor", "interceptor.RegexExtractorInterceptor$Builder", regexExtractor},
		{"search_replace", "interceptor.SearchAndReplaceInterceptor$Builder", func(k *conf.Keys) {
			k.Regexp(&new(fields).r, "searchPattern", "", "What to find.").Required()
			texts(k, "replaceString", "charset")
		}},
		{"remove_header", "interceptor.RemoveHeaderInterceptor$Builder", func(k *conf.Keys) {
			texts(k, "withName", "fromList", "fromListSeparator", "matching")
		}},
	},
	conf.KindGroup: {
		{"default", "sink.DefaultSinkProcessor", func(k *conf.Keys) {
			k.Check(func(r *conf.Report) {
				if len(r.Members()) != 1 {
					r.Error("", "default takes one sink")
				}
			})
		}},
		{"failover", "sink.FailoverSinkProcessor", func(k *conf.Keys) {
			f := new(fields)
			k.Map(&f.m[0], "priority.", "Larger is preferred.").As("priority.<sink>")
			k.Millis(&f.d[0], "maxpenalty", 30*time.Second, "Longest rest of a failed sink.").OrDefault()
		}},
		{"load_balance", "sink.LoadBalancingSinkProcessor", func(k *conf.Keys) {
			oneOf(k, "selector", "ROUND_ROBIN", "RANDOM")
			k.Int64(new(int64), "selector.maxTimeOut", 30000, "Longest rest of a failed sink.")
			flags(k, "backoff")
			k.Check(func(r *conf.Report) {
				if len(r.Members()) < 2 {
					r.Error("", "load_balance takes two sinks or more")
				}
			})
		}},
	},
}
