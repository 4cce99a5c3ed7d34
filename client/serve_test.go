package client_test

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/millrace/millrace/connectors/avro"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/vfs"
)

// serve runs an agent's source until the tests end, and returns its address.
func serve() (addr string) {
	src := avro.Source.New()
	if _, faults := conf.Bind(src, map[string]string{"bind": "127.0.0.1", "port": "0"}); faults.HasErrors() {
		panic(faults)
	}
	err := src.Open(context.Background(), core.Env{
		Log: slog.New(slog.DiscardHandler), Metrics: new(metric.Group), FS: vfs.OS(), Now: time.Now,
		Listen: func(network, a string) (net.Listener, error) {
			l, err := net.Listen(network, a)
			if err == nil {
				addr = l.Addr().String()
			}
			return l, err
		},
	})
	if err != nil {
		panic(err)
	}
	go func() { _ = src.Run(context.Background(), sourcetest.NewOutlet()) }()
	return addr
}
