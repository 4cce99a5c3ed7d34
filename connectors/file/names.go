package file

import (
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/core/conf"
)

// namer makes the names of files, as Flume's path managers do.
type namer struct {
	dir, prefix, ext string
	rollTime         bool

	series string // start time, or second of the newest name
	n      int
}

func (n *namer) keys(k *conf.Keys) {
	k.String(&n.dir, "sink.directory", "", "Directory for the files; made if it is missing.").Required()
	n.rollTime = false
	k.Func("sink.pathManager", "path manager", "DEFAULT", "How files are named: DEFAULT (start time in ms, then a number) or ROLLTIME (time of the roll as yyyyMMddHHmmss, then a number).", n.choose)
	k.String(&n.prefix, "sink.pathManager.prefix", "", "What the names begin with.")
	k.String(&n.ext, "sink.pathManager.extension", "", "What the names end with, after a dot.")
}

const managers = "org.apache.flume.formatter.output."

func (n *namer) choose(text string) error {
	switch {
	case strings.EqualFold(text, "DEFAULT"), text == managers+"DefaultPathManager$Builder":
		n.rollTime = false
	case strings.EqualFold(text, "ROLLTIME"), text == managers+"RollTimePathManager$Builder":
		n.rollTime = true
	default:
		return errors.New("is not a path manager: there are DEFAULT and ROLLTIME (Java classes cannot run here)")
	}
	return nil
}

// begin starts the series of names.
func (n *namer) begin(now time.Time) {
	n.n, n.series = 0, strconv.FormatInt(now.UnixMilli(), 10)
}

// next returns another path.
func (n *namer) next(now time.Time) string {
	if n.rollTime {
		if second := now.Local().Format("20060102150405"); second != n.series {
			n.series, n.n = second, 0
		}
	}
	n.n++
	name := n.prefix + n.series + "-" + strconv.Itoa(n.n)
	if n.ext != "" {
		name += "." + n.ext
	}
	return filepath.Join(n.dir, name)
}
