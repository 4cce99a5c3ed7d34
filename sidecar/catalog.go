package sidecar

import (
	"github.com/millrace/millrace/connectors/avro"
	"github.com/millrace/millrace/connectors/exec"
	fileroll "github.com/millrace/millrace/connectors/file"
	"github.com/millrace/millrace/connectors/http"
	"github.com/millrace/millrace/connectors/logger"
	"github.com/millrace/millrace/connectors/netcat"
	"github.com/millrace/millrace/connectors/null"
	"github.com/millrace/millrace/connectors/seq"
	"github.com/millrace/millrace/connectors/stdout"
	"github.com/millrace/millrace/connectors/syslog"
	"github.com/millrace/millrace/connectors/tail"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/channel/file"
	"github.com/millrace/millrace/core/channel/memory"
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
			netcat.Source,
			seq.Source,
			syslog.TCP,
			syslog.UDP,
			tail.Source,
		},
		Channels: []core.Type[core.Channel]{
			memory.Channel,
			file.Channel,
		},
		Sinks: []core.Type[core.Sink]{
			avro.Sink,
			fileroll.Sink,
			logger.Sink,
			null.Sink,
			stdout.Sink,
		},
		Selectors: []core.Type[core.Selector]{
			selector.Replicating,
			selector.Multiplexing,
		},
		Processors: []core.Type[core.SinkProcessor]{
			sinkgroup.Default,
			sinkgroup.Failover,
		},
		Interceptors: []core.Type[core.Interceptor]{
			interceptor.Timestamp,
			interceptor.Host,
			interceptor.Static,
		},
		Absent: absent(),
	}
}
