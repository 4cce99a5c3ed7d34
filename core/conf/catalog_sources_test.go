package conf_test

import (
	"math"
	"strings"
	"time"

	"github.com/millrace/millrace/core/conf"
)

// stubSources are the sources of the test catalog.
var stubSources = []stubType{
	{"seq", "source.SequenceGeneratorSource", func(k *conf.Keys) {
		f := new(fields)
		k.Int64(&f.l[0], "totalEvents", math.MaxInt64, "Events to emit before stopping.")
		k.Batch(&f.n[0], "batchSize", 1, "Events put in one transaction.")
	}},
	{"netcat", "source.NetcatSource", func(k *conf.Keys) {
		f := new(fields)
		texts(k, "bind!")
		port(k, "port")
		k.Bool(&f.b[0], "ack-every-event", true, "Answer OK to every line.")
		k.Int(&f.n[0], "max-line-length", 512, "Longest line.").Unit("bytes")
	}},
	{"exec", "source.ExecSource", func(k *conf.Keys) {
		f := new(fields)
		texts(k, "command!", "shell", "charset")
		k.Bool(&f.b[0], "restart", false, "Start the command again when it ends.")
		k.Bool(&f.b[1], "logStdErr", false, "Log what the command complains of.")
		k.Millis(&f.d[0], "restartThrottle", 10*time.Second, "Rest before a restart.")
		k.Millis(&f.d[1], "batchTimeout", 3*time.Second, "Longest wait for a full batch.")
		k.Batch(&f.n[0], "batchSize", 20, "Events put in one transaction.")
	}},
	{"avro", "source.AvroSource", func(k *conf.Keys) {
		f := new(fields)
		texts(k, "bind!", "compression-type", "threads")
		port(k, "port")
		flags(k, "ipFilter")
		k.Bool(&f.b[0], "ssl", false, "Speak TLS.")
		k.String(&f.s[0], "keystore", "", "The server's key.")
		k.String(&f.s[1], "keystore-password", "", "Opens the key store.").Secret()
		k.Commas(&f.w[0], "ipFilterRules", "Who may connect.").Must(conf.That("allow:ip:... and the like", func(s string) bool {
			return strings.HasPrefix(s, "allow:") || strings.HasPrefix(s, "deny:")
		}))
		k.Check(func(r *conf.Report) {
			if f.b[0] && f.s[0] == "" {
				r.Error("keystore", "is required with ssl")
			}
		})
	}},
	{"http", "source.http.HTTPSource", func(k *conf.Keys) {
		f := new(fields)
		texts(k, "bind")
		port(k, "port")
		k.String(&f.s[0], "handler", "JSON", "Reads a request.").
			Must(conf.OneOf("JSON", "org.apache.flume.source.http.JSONHandler", "org.apache.flume.source.http.BLOBHandler"))
		k.Map(&f.m[0], "handler.", "Settings of the handler.").As("handler.<name>")
		k.Inert("HttpConfiguration.", "There is no Jetty.")
		k.Inert("QueuedThreadPool.", "There is no Jetty.")
	}},
	{"syslogtcp", "source.SyslogTcpSource", func(k *conf.Keys) {
		f := new(fields)
		texts(k, "host", "keepFields", "clientIPHeader", "clientHostnameHeader")
		port(k, "port")
		k.Int(&f.n[0], "eventSize", 2500, "Longest event.").Unit("bytes")
	}},
	{"syslogudp", "source.SyslogUDPSource", func(k *conf.Keys) {
		texts(k, "host", "keepFields")
		port(k, "port")
	}},
	{"spooldir", "source.SpoolDirectorySource", func(k *conf.Keys) {
		f := new(fields)
		texts(k, "spoolDir!", "fileSuffix", "fileHeaderKey", "basenameHeaderKey", "trackerDir", "inputCharset", "deserializer")
		flags(k, "fileHeader", "basenameHeader", "recursiveDirectorySearch")
		oneOf(k, "deletePolicy", "never", "immediate")
		oneOf(k, "trackingPolicy", "rename", "tracker_dir")
		oneOf(k, "consumeOrder", "oldest", "youngest", "random")
		oneOf(k, "decodeErrorPolicy", "FAIL", "REPLACE", "IGNORE")
		k.Regexp(&f.r, "ignorePattern", "^$", "Files to leave alone.")
		k.Regexp(&f.r, "includePattern", "^.*$", "Files to read.")
		k.Millis(&f.d[0], "maxBackoff", 4*time.Second, "Longest rest.")
		k.Millis(&f.d[1], "pollDelay", 500*time.Millisecond, "Rest between looks.")
		k.Map(&f.m[0], "deserializer.", "Settings of the deserializer.").As("deserializer.<name>")
		k.Batch(&f.n[0], "batchSize", 100, "Events put in one transaction.")
	}},
	{"taildir", "source.taildir.TaildirSource", func(k *conf.Keys) {
		f := new(fields)
		texts(k, "positionFile")
		texts(k, "fileHeaderKey", "idleTimeout", "writePosInterval")
		flags(k, "fileHeader", "byteOffsetHeader", "skipToEnd", "cachePatternMatching")
		k.Words(&f.w[0], "filegroups", "Names of groups of files.").Required()
		k.Map(&f.m[0], "filegroups.", "The files of a group.").As("filegroups.<group>")
		k.Map(&f.m[1], "headers.", "Headers of a group.").As("headers.<group>.<name>")
		k.Int64(&f.l[0], "maxBatchCount", math.MaxInt64, "Batches of one file at a time.").Must(conf.Min(1)).OrDefault()
		k.Batch(&f.n[0], "batchSize", 100, "Events put in one transaction.")
	}},
	{"multiport_syslogtcp", "source.MultiportSyslogTCPSource", func(k *conf.Keys) {
		f := new(fields)
		texts(k, "host", "portHeader", "keepFields", "clientIPHeader", "clientHostnameHeader")
		k.Words(&f.w[0], "ports", "The ports.").Required().Must(conf.That("ports", isPort))
		k.Map(&f.m[0], "charset.", "Charsets.").Must(conf.That("a charset", func(s string) bool { return s != "EBCDIC-XX" }))
		k.Int(&f.n[1], "eventSize", 2500, "Longest event.").Unit("bytes")
		k.Inert("readBufferSize", "It reads what there is.")
		k.Inert("numProcessors", "There is a goroutine for each connection.")
		k.Batch(&f.n[0], "batchSize", 100, "Events put in one transaction.")
	}},
	{"netcatudp", "source.NetcatUdpSource", func(k *conf.Keys) {
		texts(k, "bind", "remoteAddressHeader")
		port(k, "port")
	}},
	{"stress", "source.StressSource", func(k *conf.Keys) {
		f := new(fields)
		k.Int(&f.n[1], "size", 500, "Size of an event.").Unit("bytes")
		k.Int64(&f.l[0], "maxTotalEvents", -1, "Events to emit before stopping.")
		k.Int64(&f.l[1], "maxSuccessfulEvents", -1, "Events stored before stopping.")
		k.Batch(&f.n[0], "batchSize", 1, "Events put in one transaction.")
	}},
	{"thrift", "source.ThriftSource", func(k *conf.Keys) {
		texts(k, "bind!", "threads")
		port(k, "port")
	}},
	{"kafka", "source.kafka.KafkaSource", func(k *conf.Keys) {
		f := new(fields)
		k.String(&f.s[0], "kafka.bootstrap.servers", "", "Brokers.").Required()
		k.String(&f.s[1], "kafka.topics", "", "Topics.").Alias("topic").Required()
		k.String(&f.s[2], "kafka.consumer.group.id", "flume", "Group.").Alias("groupId")
		k.Map(&f.m[0], "kafka.consumer.", "Settings of the consumer.").As("kafka.consumer.<name>")
		k.Inert("zookeeperConnect", "Brokers keep the offsets.")
		k.Int(&f.n[0], "batchSize", 1000, "Events put in one transaction.")
		k.Millis(&f.d[0], "batchDurationMillis", time.Second, "Longest wait for a full batch.")
	}},
}
