package lines

import (
	"errors"
	"strings"
	"time"

	"github.com/millrace/millrace/connectors/internal/charset"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// Pipe is what the sources have in common that read lines from something that
// cannot be read again: their keys, and how it is read.
type Pipe struct {
	batch     int
	timeout   time.Duration
	maxEvent  int64
	longLines string
	lines     Options

	env           core.Env
	splits, drops *metric.Extra
	counters      *Counters // nil where lines are not joined
}

// Values of the key longLines.
const (
	split = "split"
	drop  = "drop"
)

// Keys binds the keys, for a source's own Keys.
func (p *Pipe) Keys(k *conf.Keys) {
	k.Batch(&p.batch, "batchSize", 20, "Lines put in one transaction at most.")
	k.Millis(&p.timeout, "batchTimeout", 3*time.Second, "How long a line waits for others before it is put.").Must(conf.Min(0))
	k.Func("charset", "charset", "UTF-8", "Encoding of the lines: any in which a newline is one byte. Bodies are the bytes as they are.", knownCharset)
	k.Bytes(&p.maxEvent, "maxEventBytes", 1<<20, "The longest line that becomes one event.").Must(conf.Range(1, 256<<20)).Since("1.0")
	k.String(&p.longLines, "longLines", split, "What becomes of a longer line: several events (split), or none (drop). Both are counted.").Must(conf.OneOf(split, drop)).Since("1.0")
	p.lines.Keys(k)
}

// asian are the encodings that package charset cannot convert, and that need no
// converting: their second bytes are never a newline.
const asian = " gbk gb2312 gb18030 big5 big5-hkscs shift_jis sjis windows-31j euc-jp euc-kr euc-tw "

func knownCharset(name string) error {
	if strings.Contains(asian, " "+strings.ToLower(name)+" ") {
		return nil
	}
	c, err := charset.Lookup(name)
	if err == nil && strings.HasPrefix(c.String(), "UTF-") && !c.IsUTF8() {
		err = errors.New("is an encoding in which a newline has several bytes: convert with iconv before")
	}
	return err
}

// Open makes the counters, in a source's own Open.
func (p *Pipe) Open(env core.Env) {
	p.env = env
	p.splits = env.Metrics.Counter("lines_split_total", "Lines longer than maxEventBytes that became several events.")
	p.drops = env.Metrics.Counter("lines_dropped_total", "Lines longer than maxEventBytes that were dropped.")
	if !p.lines.Plain() {
		p.counters = NewCounters(env.Metrics)
	}
}
