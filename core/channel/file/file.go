package file

import (
	"context"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/channel/internal/logdir"
	"github.com/millrace/millrace/core/channel/internal/queue"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// Channel is the catalogue entry.
var Channel = core.Type[core.Channel]{
	Name: "file", Doc: "Keeps events on disk: what it has accepted survives a crash.",
	Aliases: []string{"org.apache.flume.channel.file.FileChannel"},
	New:     func() core.Channel { return new(channel) },
}

type channel struct {
	queue.Channel
	settings
	dir *logdir.Dir
}

type settings struct {
	log                   logdir.Settings
	capacity, transaction int
	keepAlive             time.Duration
	whenFull              queue.Policy
}

// Keys implements core.Component.
func (c *channel) Keys(k *conf.Keys) {
	s := &c.settings
	k.Int(&s.capacity, "capacity", 1000000, "Events the channel holds at most.").Must(conf.Min(1)).OrDefault()
	k.Transaction(&s.transaction, "transactionCapacity", 10000, "Events put or taken in one transaction at most.").OrDefault()
	k.Seconds(&s.keepAlive, "keep-alive", 3*time.Second, "How long a put waits for room.").OrDefault()
	s.whenFull.Keys(k)
	s.log.Keys(k)
	k.Check(func(r *conf.Report) {
		if s.transaction > s.capacity {
			r.Error("transactionCapacity", "transactionCapacity %d is more than capacity %d: raise capacity or lower transactionCapacity", s.transaction, s.capacity)
		}
		s.log.Check(r)
	})
}

// Open implements core.Component. It recovers the log, which takes as long as
// reading one segment.
func (c *channel) Open(_ context.Context, env core.Env) (err error) {
	if c.dir, err = logdir.Open(&c.settings.log, env); err != nil {
		return err
	}
	o := c.options()
	o.Log, o.Now, o.Metrics = env.Log, env.Now, env.Metrics
	c.Start(o)
	c.measure(env.Metrics)
	return nil
}

func (c *channel) options() queue.Options {
	return queue.Options{
		Transaction: c.transaction, KeepAlive: c.keepAlive, WhenFull: c.whenFull,
		Disk: c.dir.Disk(c.capacity),
	}
}

// Fixed implements core.Adjuster.
func (c *channel) Fixed(next core.Channel) string {
	return c.dir.Fixed(&next.(*channel).settings.log)
}

// Adjust implements core.Adjuster.
func (c *channel) Adjust(next core.Channel) {
	c.settings = next.(*channel).settings
	c.dir.Adjust(&c.settings.log)
	c.Channel.Adjust(c.options())
}

// measure registers what Flume's own file channel shows beside the common
// counters. What cannot happen here (there are no checkpoints) stays 0.
func (c *channel) measure(m *metric.Group) {
	if m == nil {
		return
	}
	for _, x := range []struct {
		name, flume, help string
		read              func() int64
	}{
		{"open", "Open", "1 while the channel takes and gives events.", c.IsOpen},
		{"closed", "Closed", "1 while it does not.", func() int64 { return 1 - c.IsOpen() }},
		{"unhealthy", "Unhealthy", "1 while it takes no events because something is wrong.", func() int64 {
			if c.Health() != nil {
				return 1
			}
			return 0
		}},
		{"put_errors", "EventPutErrorCount", "Writes to the log that failed, and were done again.", func() int64 { return c.dir.Stats().Failures }},
		{"take_errors", "EventTakeErrorCount", "Events that could not be read back.", c.Lost},
		{"checkpoint_errors", "CheckpointWriteErrorCount", "Always 0: the log has no checkpoints.", func() int64 { return 0 }},
		{"checkpoint_backup_errors", "CheckpointBackupWriteErrorCount", "Always 0: the log has no checkpoints.", func() int64 { return 0 }},
	} {
		m.FlumeGauge(x.name, x.flume, x.help, x.read)
	}
	c.dir.Measure(m)
}
