package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/vfs"
	"github.com/millrace/millrace/core/wal"
)

// Channel is the catalogue entry.
var Channel = core.Type[core.Channel]{
	Name: "file", Doc: "Keeps events on disk: what it has accepted survives a crash.",
	Aliases: []string{"org.apache.flume.channel.file.FileChannel"},
	New:     func() core.Channel { return new(channel) },
}

type settings struct {
	checkpointDir         string
	dataDirs              []string
	capacity, transaction int
	keepAlive             time.Duration
	segmentBytes          int64
	minSpace              int64
	memoryBytes           int64
	fsync                 bool
	fsyncInterval         time.Duration
	encryption            map[string]string
}

const (
	flumeMaxFile = 1623195647
	leastSpace   = 1 << 20
)

// Keys implements core.Component.
func (c *channel) Keys(k *conf.Keys) {
	s := &c.settings
	k.String(&s.checkpointDir, "checkpointDir", "", "Directory of the lock that keeps a second agent out. Default: <state directory>/<channel>, or ~/.flume/file-channel/checkpoint where there is no state directory.")
	k.Commas(&s.dataDirs, "dataDirs", "Directories of the log; its segments take turns among them. Default: <state directory>/<channel>, or ~/.flume/file-channel/data.")
	k.Int(&s.capacity, "capacity", 1000000, "Events the channel holds at most.").Must(conf.Min(1)).OrDefault()
	k.Transaction(&s.transaction, "transactionCapacity", 10000, "Events put or taken in one transaction at most.").OrDefault()
	k.Seconds(&s.keepAlive, "keep-alive", 3*time.Second, "How long a put waits for room.").OrDefault()
	k.Bytes(&s.segmentBytes, "maxFileSize", 128<<20, "Size at which a new segment is begun. Flume's default is 1623195647; smaller segments give their space back sooner.").
		Must(conf.Range(4096, flumeMaxFile)).OrDefault()
	k.Bytes(&s.minSpace, "minimumRequiredSpace", 524288000, "Free space on the volume below which the channel is full. At least 1048576.").OrDefault()
	k.Bytes(&s.memoryBytes, "memoryBytes", 16<<20, "Memory for events that a sink has not taken yet; beyond it they are read back from disk. Also the limit of what waits to be written.").
		Must(conf.Min(65536))
	k.Bool(&s.fsync, "fsyncPerTransaction", true, "Answer a put only when it is synced to disk. false: a crash of the machine loses up to fsyncInterval.").OrDefault()
	k.Seconds(&s.fsyncInterval, "fsyncInterval", 5*time.Second, "How often to sync with fsyncPerTransaction = false.").OrDefault()
	k.Map(&s.encryption, "encryption.", "Encryption at rest; not supported yet.")
	const noCheckpoint = "the log needs no checkpoints: it starts as fast without"
	for _, name := range []string{"checkpointInterval", "useDualCheckpoints", "backupCheckpointDir", "compressBackupCheckpoint", "use-log-replay-v1", "use-fast-replay", "checkpointOnClose"} {
		k.Inert(name, noCheckpoint)
	}
	k.Check(func(r *conf.Report) {
		if s.transaction > s.capacity {
			r.Error("transactionCapacity", "transactionCapacity %d is more than capacity %d: raise capacity or lower transactionCapacity", s.transaction, s.capacity)
		}
		if len(s.encryption) > 0 {
			r.Error("encryption.", "encryption of the file channel is not supported yet: remove the encryption keys, and put the directories on an encrypted volume instead")
		}
	})
}

// Open implements core.Component. It recovers the log, which takes as long as
// reading one segment.
func (c *channel) Open(_ context.Context, env core.Env) (err error) {
	if err := c.place(env); err != nil {
		return err
	}
	c.fs, c.slog, c.now = env.FS, env.Log, env.Now
	c.minSpace = max(c.minSpace, leastSpace)
	defer func() {
		if err != nil {
			c.unlock()
		}
	}()
	if err := c.lock(); err != nil {
		return err
	}
	if err := c.checkVolumes(); err != nil {
		return err
	}
	opt := wal.Options{
		FS: env.FS, Dirs: c.dataDirs, SegmentBytes: c.segmentBytes, Log: env.Log, Now: env.Now,
		AckDelay: ackDelay, Retry: retryPause,
	}
	if !c.fsync {
		opt.SyncEvery = max(c.fsyncInterval, time.Millisecond)
	}
	if c.log, err = wal.Open(opt); err != nil {
		return err
	}
	c.begin()
	c.measure(env.Metrics)
	return nil
}

// place settles the directories.
func (c *channel) place(env core.Env) error {
	switch {
	case c.checkpointDir == "" && len(c.dataDirs) == 0 && env.Dir != "":
		c.checkpointDir = filepath.Join(env.Dir, env.Name)
		c.dataDirs = []string{c.checkpointDir}
	case c.checkpointDir == "" || len(c.dataDirs) == 0:
		home, err := os.UserHomeDir()
		if err != nil {
			return fmt.Errorf("no default directory (%w): set checkpointDir and dataDirs", err)
		}
		base := filepath.Join(home, ".flume", "file-channel")
		if c.checkpointDir == "" {
			c.checkpointDir = filepath.Join(base, "checkpoint")
		}
		if len(c.dataDirs) == 0 {
			c.dataDirs = []string{filepath.Join(base, "data")}
		}
	}
	var dirs []string
	for _, dir := range c.dataDirs { // one that is named twice is one
		if dir = filepath.Clean(dir); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	c.dataDirs = dirs
	return nil
}

// lock makes the directories and keeps everybody else out of them.
func (c *channel) lock() error {
	dirs := make([]string, 0, len(c.dataDirs)+1)
	for _, dir := range append([]string{c.checkpointDir}, c.dataDirs...) {
		dir = filepath.Clean(dir)
		if slices.Contains(dirs, dir) {
			continue
		}
		dirs = append(dirs, dir)
		if err := vfs.MakeDir(c.fs, dir, 0o755); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
		l, err := c.fs.Lock(filepath.Join(dir, "in_use.lock"))
		if errors.Is(err, vfs.ErrLocked) {
			return fmt.Errorf("directory %s is in use by another channel or agent: give each file channel checkpointDir and dataDirs of its own", dir)
		}
		if err != nil {
			return err
		}
		c.locks = append(c.locks, l)
	}
	return nil
}

func (c *channel) unlock() {
	for _, l := range c.locks {
		l.Close() // the lock is gone with the descriptor, whatever it says
	}
	c.locks = nil
}

// checkVolumes refuses a volume on which the channel would be full for ever.
func (c *channel) checkVolumes() error {
	for _, dir := range c.dataDirs {
		_, total, err := c.fs.Space(dir)
		if err != nil {
			return err
		}
		if total < c.minSpace {
			return fmt.Errorf("the volume of %s has %d bytes in all, less than minimumRequiredSpace = %d: the channel would always be full; set minimumRequiredSpace to what should stay free there, for example %d",
				dir, total, c.minSpace, max(leastSpace, total/10))
		}
	}
	return nil
}

// measure registers the channel's own metrics.
func (c *channel) measure(m *metric.Group) {
	if m == nil {
		return
	}
	c.dropped = m.Counter("events_repeated_total", "Events dropped because the channel held them already (marks).")
	c.lost = m.Counter("events_damaged_total", "Events that could not be read back: their place in the log is damaged. The file is kept.")
	m.GaugeFunc("low_space", "1 while the volume has less than minimumRequiredSpace free.", func() int64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.low {
			return 1
		}
		return 0
	})
	m.GaugeFunc("memory_bytes", "Memory in events kept or waiting to be written.", func() int64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.memory
	})
	// What Flume's own file channel shows beside the common counters. What cannot
	// happen here (there are no checkpoints) stays 0.
	for _, x := range []struct {
		name, flume, help string
		read              func() int64
	}{
		{"open", "Open", "1 while the channel takes and gives events.", func() int64 { return c.isOpen() }},
		{"closed", "Closed", "1 while it does not.", func() int64 { return 1 - c.isOpen() }},
		{"unhealthy", "Unhealthy", "1 while it takes no events because something is wrong.", func() int64 {
			if c.Health() != nil {
				return 1
			}
			return 0
		}},
		{"put_errors", "EventPutErrorCount", "Writes to the log that failed, and were done again.", func() int64 { return c.log.Stats().Failures }},
		{"take_errors", "EventTakeErrorCount", "Events that could not be read back.", c.lost.Load},
		{"checkpoint_errors", "CheckpointWriteErrorCount", "Always 0: the log has no checkpoints.", func() int64 { return 0 }},
		{"checkpoint_backup_errors", "CheckpointBackupWriteErrorCount", "Always 0: the log has no checkpoints.", func() int64 { return 0 }},
	} {
		m.FlumeGauge(x.name, x.flume, x.help, x.read)
	}
	for name, f := range map[string]func(wal.Stats) int64{
		"log_syncs":         func(s wal.Stats) int64 { return s.Syncs },
		"log_failures":      func(s wal.Stats) int64 { return s.Failures },
		"log_torn_tails":    func(s wal.Stats) int64 { return s.Torn },
		"log_damaged":       func(s wal.Stats) int64 { return s.Damaged },
		"log_segments":      func(s wal.Stats) int64 { return int64(s.Segments) },
		"log_segment_bytes": func(s wal.Stats) int64 { return s.DiskBytes },
	} {
		m.GaugeFunc(name, "State of the log; see package wal.", func() int64 { return f(c.log.Stats()) })
	}
}
