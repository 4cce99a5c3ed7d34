package hdfs

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/colinmarc/hdfs/v2/hadoopconf"

	"github.com/millrace/millrace/connectors/internal/roll"
)

// location is what hdfs.path says before its escapes: which file system, and
// the path in it.
type location struct {
	scheme    string // hdfs or file; empty: Hadoop's fs.defaultFS
	authority string // host, host:port or name service; empty: Hadoop's
	path      roll.Template
}

// parseLocation reads hdfs://host:port/path, hdfs://nameservice/path,
// file:///path or /path. Escapes are for the path alone.
func parseLocation(text string) (l location, err error) {
	rest := text
	if scheme, after, ok := strings.Cut(text, ":"); ok && !strings.ContainsAny(scheme, "/%") {
		l.scheme, rest = strings.ToLower(scheme), after
		if strings.HasPrefix(rest, "//") {
			l.authority, rest, _ = strings.Cut(rest[2:], "/")
			rest = "/" + rest
		}
	}
	switch l.scheme {
	case "", "hdfs":
	case "file":
		if l.authority != "" && l.authority != "localhost" {
			return l, errors.New("a file: path has no host: file:///path")
		}
	case "s3", "s3a", "s3n":
		bucket, path, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
		if l.authority != "" {
			bucket, path = l.authority, strings.TrimPrefix(rest, "/")
		}
		return l, fmt.Errorf("%s: is the sink s3 here, with the same keys: type = s3, s3.path = s3://%s/%s, and s3. for hdfs. in the other keys", l.scheme, bucket, path)
	default:
		return l, fmt.Errorf("%s: is not supported: there are hdfs: and file:", l.scheme)
	}
	if strings.Contains(l.authority, "%") {
		return l, errors.New("has an escape before its path: a sink writes to one file system")
	}
	if !strings.HasPrefix(rest, "/") {
		return l, errors.New("must begin with /, hdfs:// or file://")
	}
	l.path, err = roll.Parse(rest)
	return l, err
}

const defaultPort = "8020"

// nameNodes returns the addresses behind an authority: those that Hadoop's
// configuration has for the name service, or the host itself.
func nameNodes(authority string, hadoop hadoopconf.HadoopConf) ([]string, error) {
	if authority == "" {
		_, rest, _ := strings.Cut(hadoop["fs.defaultFS"], "://")
		if rest == "" {
			_, rest, _ = strings.Cut(hadoop["fs.default.name"], "://")
		}
		if authority, _, _ = strings.Cut(rest, "/"); authority == "" {
			return nil, errors.New("hdfs.path names no host, and no fs.defaultFS of Hadoop was found: set HADOOP_CONF_DIR, or hdfs.hadoopConfDir")
		}
	}
	var list []string
	for _, node := range strings.Split(hadoop["dfs.ha.namenodes."+authority], ",") {
		if a := hadoop["dfs.namenode.rpc-address."+authority+"."+strings.TrimSpace(node)]; a != "" {
			list = append(list, withPort(a))
		}
	}
	if len(list) == 0 {
		for _, host := range strings.Split(authority, ",") {
			list = append(list, withPort(host))
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

func withPort(host string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), defaultPort)
}

// hadoopConf reads Hadoop's XML files: from dir, or from where HADOOP_CONF_DIR
// and HADOOP_HOME say.
func hadoopConf(dir string) (hadoopconf.HadoopConf, error) {
	dirs := []string{dir}
	if dir == "" {
		dirs = nil
		if d := os.Getenv("HADOOP_CONF_DIR"); d != "" {
			dirs = append(dirs, d)
		}
		if home := os.Getenv("HADOOP_HOME"); home != "" {
			dirs = append(dirs, filepath.Join(home, "etc", "hadoop"), filepath.Join(home, "conf"))
		}
	}
	for _, d := range dirs {
		c, err := hadoopconf.Load(d)
		if err != nil {
			return nil, fmt.Errorf("read Hadoop's configuration: %w", err)
		}
		if c != nil {
			return c, nil
		}
	}
	if dir != "" {
		return nil, fmt.Errorf("read Hadoop's configuration: no core-site.xml or hdfs-site.xml in %s", dir)
	}
	return hadoopconf.HadoopConf{}, nil
}

// join makes of a path and a prefix with headers in them what HDFS takes.
func join(path, prefix string) string { return roll.Join(path, prefix, ":") }
