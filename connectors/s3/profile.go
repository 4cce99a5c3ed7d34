package s3

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// profile is what AWS's configuration files say of one name.
type profile map[string]string

// maxProfiles is the most that is read of such a file.
const maxProfiles = 1 << 20

// readProfiles reads the files that AWS's own clients read, the credentials
// over the configuration. A profile that nobody named need not be there.
func (a *accessKeys) readProfiles() (profile, error) {
	named := cmp.Or(a.profile, os.Getenv("AWS_PROFILE"), os.Getenv("AWS_DEFAULT_PROFILE"))
	name := cmp.Or(named, "default")
	home, err := os.UserHomeDir()
	if err != nil {
		home = ""
	}
	p := profile{}
	found := false
	for _, f := range [...]struct{ path, section string }{
		{cmp.Or(os.Getenv("AWS_CONFIG_FILE"), filepath.Join(home, ".aws", "config")), "profile " + name},
		{cmp.Or(os.Getenv("AWS_SHARED_CREDENTIALS_FILE"), filepath.Join(home, ".aws", "credentials")), name},
	} {
		file, err := os.Open(filepath.Clean(f.path))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read AWS profile: %w", err)
		}
		has, err := p.read(file, f.section)
		_ = file.Close() // nothing was written
		if err != nil {
			return nil, fmt.Errorf("read AWS profile: %s: %w", f.path, err)
		}
		found = found || has
	}
	if !found && named != "" {
		return nil, fmt.Errorf("read AWS profile: there is none of the name %s", named)
	}
	return p, nil
}

// read adds what a file has below [section]; [default] may stand for [profile
// default]. Lines are name = value; those that are indented belong to the value
// before, which is never one of ours; # and ; begin comments.
func (p profile) read(from io.Reader, section string) (found bool, err error) {
	in := false
	lines := bufio.NewScanner(io.LimitReader(from, maxProfiles))
	lines.Buffer(nil, maxProfiles)
	for lines.Scan() {
		line := lines.Text()
		trimmed := strings.TrimSpace(line)
		if trimmed == "" || trimmed[0] == '#' || trimmed[0] == ';' {
			continue
		}
		if name, ok := strings.CutPrefix(trimmed, "["); ok {
			name, _, _ = strings.Cut(name, "]")
			name = strings.Join(strings.Fields(name), " ")
			in = name == section || name == "default" && section == "profile default"
			found = found || in
			continue
		}
		key, value, ok := strings.Cut(trimmed, "=")
		if !in || !ok || line[0] == ' ' || line[0] == '\t' {
			continue
		}
		value, _, _ = strings.Cut(value, " #")
		value, _, _ = strings.Cut(value, " ;")
		p[strings.ToLower(strings.TrimSpace(key))] = strings.TrimSpace(value)
	}
	return found, lines.Err()
}

// keys are the profile's own.
func (p profile) keys() aws.Credentials {
	return aws.Credentials{
		AccessKeyID: p["aws_access_key_id"], SecretAccessKey: p["aws_secret_access_key"], SessionToken: p["aws_session_token"], Source: "Profile",
	}
}

// elsewhere reports whether the profile logs in by something that is not supported.
func (p profile) elsewhere() bool {
	for _, key := range [...]string{"credential_process", "sso_session", "sso_start_url", "source_profile", "credential_source", "role_arn"} {
		if p[key] != "" {
			return true
		}
	}
	return false
}
