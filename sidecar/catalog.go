package sidecar

import (
	"github.com/millrace/millrace/connectors/avro"
	"github.com/millrace/millrace/connectors/exec"
	fileroll "github.com/millrace/millrace/connectors/file"
	"github.com/millrace/millrace/connectors/hdfs"
	"github.com/millrace/millrace/connectors/http"
	"github.com/millrace/millrace/connectors/json"
	"github.com/millrace/millrace/connectors/kafka"
	"github.com/millrace/millrace/connectors/logger"
	"github.com/millrace/millrace/connectors/netcat"
	"github.com/millrace/millrace/connectors/null"
	"github.com/millrace/millrace/connectors/regex"
	"github.com/millrace/millrace/connectors/s3"
	"github.com/millrace/millrace/connectors/seq"
	"github.com/millrace/millrace/connectors/spooldir"
	"github.com/millrace/millrace/connectors/stdin"
	"github.com/millrace/millrace/connectors/stdout"
	"github.com/millrace/millrace/connectors/stress"
	"github.com/millrace/millrace/connectors/syslog"
	"github.com/millrace/millrace/connectors/tail"
	"github.com/millrace/millrace/connectors/thrift"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/channel/file"
	"github.com/millrace/millrace/core/channel/memory"
	"github.com/millrace/millrace/core/channel/spillable"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/configfilter"
	"github.com/millrace/millrace/core/interceptor"
	"github.com/millrace/millrace/core/selector"
	"github.com/millrace/millrace/core/sinkgroup"
)

// Catalog is the one list of what this program has. A build of one's own is a
// shorter list, or a longer one.
func Catalog() *core.Catalog {
	return &core.Catalog{
		Sources: []core.Type[core.Source]{
			avro.Source,
			exec.Source,
			http.Source,
			kafka.Source,
			netcat.Source,
			netcat.UDP,
			seq.Source,
			spooldir.Source,
			stdin.Source,
			stress.Source,
			syslog.TCP,
			syslog.Multiport,
			syslog.UDP,
			tail.Source,
			thrift.Source,
		},
		Channels: []core.Type[core.Channel]{
			memory.Channel,
			file.Channel,
			spillable.Channel,
			kafka.Channel,
		},
		Sinks: []core.Type[core.Sink]{
			avro.Sink,
			fileroll.Sink,
			hdfs.Sink,
			http.Sink,
			kafka.Sink,
			logger.Sink,
			null.Sink,
			s3.Sink,
			stdout.Sink,
			thrift.Sink,
		},
		Selectors: []core.Type[core.Selector]{
			selector.Replicating,
			selector.Multiplexing,
			selector.LoadBalancing,
		},
		Processors: []core.Type[core.SinkProcessor]{
			sinkgroup.Default,
			sinkgroup.Failover,
			sinkgroup.LoadBalance,
		},
		Interceptors: []core.Type[core.Interceptor]{
			interceptor.Timestamp,
			interceptor.Host,
			interceptor.Static,
			interceptor.UUID,
			regex.Filter,
			regex.Extractor,
			regex.SearchReplace,
			regex.RemoveHeader,
			json.Interceptor,
		},
		Filters: []core.Type[conf.Filter]{
			configfilter.Env,
			configfilter.External,
			configfilter.File,
		},
		Absent: absent(),
	}
}
