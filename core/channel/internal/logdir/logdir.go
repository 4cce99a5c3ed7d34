// Package logdir is a wal.Log in directories of its own: the keys, the locks and
// the watch over free space that the channels with a log share.
package logdir

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/channel/internal/queue"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/vfs"
	"github.com/millrace/millrace/core/wal"
)

const (
	ackDelay   = 20 * time.Millisecond
	retryPause = 100 * time.Millisecond

	flumeMaxFile = 1623195647
	leastSpace   = 1 << 20
)

// Settings are the keys of the log.
type Settings struct {
	checkpointDir string
	dataDirs      []string
	segmentBytes  int64
	minSpace      int64
	memoryBytes   int64
	fsync         bool
	fsyncInterval time.Duration
	encryption    map[string]string
}

// Keys binds the keys; directories first.
func (s *Settings) Keys(k *conf.Keys) {
	k.String(&s.checkpointDir, "checkpointDir", "", "Directory of the lock that keeps a second agent out. Default: <state directory>/<channel>, or ~/.flume/file-channel/checkpoint where there is no state directory.")
	k.Commas(&s.dataDirs, "dataDirs", "Directories of the log; its segments take turns among them. Default: <state directory>/<channel>, or ~/.flume/file-channel/data.")
	k.Bytes(&s.segmentBytes, "maxFileSize", 128<<20, "Size at which a new segment is begun. Flume's default is 1623195647; smaller segments give their space back sooner.").
		Must(conf.Range(4096, flumeMaxFile)).OrDefault()
	k.Bytes(&s.minSpace, "minimumRequiredSpace", 524288000, "Free space on the volume below which the channel is full. At least 1048576.").OrDefault()
	k.Bytes(&s.memoryBytes, "memoryBytes", 16<<20, "Memory for events on disk that a sink has not taken yet; beyond it they are read back. Also the limit of what waits to be written.").
		Must(conf.Min(65536))
	k.Bool(&s.fsync, "fsyncPerTransaction", true, "Answer a put only when it is synced to disk. false: a crash of the machine loses up to fsyncInterval.").OrDefault()
	k.Seconds(&s.fsyncInterval, "fsyncInterval", 5*time.Second, "How often to sync with fsyncPerTransaction = false.").OrDefault()
	k.Map(&s.encryption, "encryption.", "Encryption at rest; not supported yet.")
	const noCheckpoint = "the log needs no checkpoints: it starts as fast without"
	for _, name := range []string{"checkpointInterval", "useDualCheckpoints", "backupCheckpointDir", "compressBackupCheckpoint", "use-log-replay-v1", "use-fast-replay", "checkpointOnClose"} {
		k.Inert(name, noCheckpoint)
	}
}

// Check is for conf.Keys.Check.
func (s *Settings) Check(r *conf.Report) {
	if len(s.encryption) > 0 {
		r.Error("encryption.", "encryption of the file channel is not supported yet: remove the encryption keys, and put the directories on an encrypted volume instead")
	}
}

func (s *Settings) syncEvery() time.Duration {
	if s.fsync {
		return 0
	}
	return max(s.fsyncInterval, time.Millisecond)
}

// Dir is the open log.
type Dir struct {
	*wal.Log
	set      Settings // as configured; changed by Adjust, which the agent calls one at a time
	minSpace atomic.Int64
	fs       vfs.FS
	slog     *slog.Logger

	checkpointDir string
	dataDirs      []string
	locks         []io.Closer
}

// Open makes the directories, locks them, and recovers the log, which takes as
// long as reading one segment.
func Open(s *Settings, env core.Env) (*Dir, error) {
	d := &Dir{set: *s, fs: env.FS, slog: env.Log}
	d.minSpace.Store(max(s.minSpace, leastSpace))
	if err := d.open(env); err != nil {
		d.unlock()
		return nil, err
	}
	return d, nil
}

func (d *Dir) open(env core.Env) (err error) {
	if err := d.place(env); err != nil {
		return err
	}
	if err := d.lock(); err != nil {
		return err
	}
	for _, dir := range d.dataDirs {
		if err := d.checkVolume(dir, d.minSpace.Load()); err != nil {
			return err
		}
	}
	d.Log, err = wal.Open(wal.Options{
		FS: env.FS, Dirs: d.dataDirs, SegmentBytes: d.set.segmentBytes, SyncEvery: d.set.syncEvery(),
		AckDelay: ackDelay, Retry: retryPause, Log: env.Log, Now: env.Now,
	})
	return err
}

// place settles the directories.
func (d *Dir) place(env core.Env) error {
	d.checkpointDir, d.dataDirs = d.set.checkpointDir, nil
	data := d.set.dataDirs
	switch {
	case d.checkpointDir == "" && len(data) == 0 && env.Dir != "":
		d.checkpointDir = filepath.Join(env.Dir, env.Name)
		data = []string{d.checkpointDir}
	case d.checkpointDir == "" || len(data) == 0:
		home, err := os.UserHomeDir()
		if err != nil {
			return fmt.Errorf("no default directory (%w): set checkpointDir and dataDirs", err)
		}
		base := filepath.Join(home, ".flume", "file-channel")
		if d.checkpointDir == "" {
			d.checkpointDir = filepath.Join(base, "checkpoint")
		}
		if len(data) == 0 {
			data = []string{filepath.Join(base, "data")}
		}
	}
	for _, dir := range data { // one that is named twice is one
		if dir = filepath.Clean(dir); !slices.Contains(d.dataDirs, dir) {
			d.dataDirs = append(d.dataDirs, dir)
		}
	}
	return nil
}

// lock makes the directories and keeps everybody else out of them.
func (d *Dir) lock() error {
	dirs := make([]string, 0, len(d.dataDirs)+1)
	for _, dir := range append([]string{d.checkpointDir}, d.dataDirs...) {
		dir = filepath.Clean(dir)
		if slices.Contains(dirs, dir) {
			continue
		}
		dirs = append(dirs, dir)
		if err := vfs.MakeDir(d.fs, dir, 0o755); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
		l, err := d.fs.Lock(filepath.Join(dir, "in_use.lock"))
		if errors.Is(err, vfs.ErrLocked) {
			return fmt.Errorf("directory %s is in use by another channel or agent: give each file channel checkpointDir and dataDirs of its own", dir)
		}
		if err != nil {
			return err
		}
		d.locks = append(d.locks, l)
	}
	return nil
}

func (d *Dir) unlock() {
	for _, l := range d.locks {
		l.Close() // the lock is gone with the descriptor, whatever it says
	}
	d.locks = nil
}

// checkVolume refuses a volume on which the channel would be full for ever.
func (d *Dir) checkVolume(dir string, least int64) error {
	_, total, err := d.fs.Space(dir)
	if err != nil {
		return err
	}
	if total < least {
		return fmt.Errorf("the volume of %s has %d bytes in all, less than minimumRequiredSpace = %d: the channel would always be full; set minimumRequiredSpace to what should stay free there, for example %d",
			dir, total, least, max(leastSpace, total/10))
	}
	return nil
}

// space says why nothing more may be written.
func (d *Dir) space() (low error) {
	least := d.minSpace.Load()
	for _, dir := range d.dataDirs {
		free, _, err := d.fs.Space(dir)
		switch {
		case err != nil:
			d.slog.Warn("cannot tell the free space", "dir", dir, "error", err)
		case free < least && low == nil:
			low = fmt.Errorf("%d bytes are free on the volume of %s, less than minimumRequiredSpace = %d", free, dir, least)
		}
	}
	return low
}

// Disk is what a queue is to know of d. The queue closes it.
func (d *Dir) Disk(capacity int) queue.Disk {
	return queue.Disk{Log: d.Log, Events: capacity, MemoryBytes: d.set.memoryBytes, Space: d.space, Release: d.unlock}
}

// Fixed returns the key of next that d cannot take while it is open, or "".
func (d *Dir) Fixed(next *Settings) string {
	switch {
	case next.checkpointDir != d.set.checkpointDir:
		return "checkpointDir"
	case !slices.Equal(next.dataDirs, d.set.dataDirs):
		return "dataDirs"
	}
	for _, dir := range d.dataDirs {
		if d.checkVolume(dir, max(next.minSpace, leastSpace)) != nil {
			return "minimumRequiredSpace" // no volume for that: opening says so
		}
	}
	return ""
}

// Adjust takes the settings of next, but for what is fixed.
func (d *Dir) Adjust(next *Settings) {
	d.set = *next
	d.minSpace.Store(max(next.minSpace, leastSpace))
	d.Log.Adjust(next.segmentBytes, next.syncEvery())
}

// Measure registers what there is to know of the log.
func (d *Dir) Measure(m *metric.Group) {
	if m == nil {
		return
	}
	for name, f := range map[string]func(wal.Stats) int64{
		"log_syncs":         func(s wal.Stats) int64 { return s.Syncs },
		"log_failures":      func(s wal.Stats) int64 { return s.Failures },
		"log_torn_tails":    func(s wal.Stats) int64 { return s.Torn },
		"log_damaged":       func(s wal.Stats) int64 { return s.Damaged },
		"log_segments":      func(s wal.Stats) int64 { return int64(s.Segments) },
		"log_segment_bytes": func(s wal.Stats) int64 { return s.DiskBytes },
	} {
		m.GaugeFunc(name, "State of the log; see package wal.", func() int64 { return f(d.Stats()) })
	}
}
