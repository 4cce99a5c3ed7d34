package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// imageConfig is what the last stage of a Dockerfile says, in the form that image configurations have it.
type imageConfig struct {
	User        string              `json:",omitempty"`
	Env         []string            `json:",omitempty"`
	Entrypoint  []string            `json:",omitempty"`
	Cmd         []string            `json:",omitempty"`
	Volumes     map[string]struct{} `json:",omitempty"`
	Labels      map[string]string   `json:",omitempty"`
	Healthcheck *healthcheck        `json:",omitempty"`
}

type healthcheck struct {
	Test                           []string
	Interval, Timeout, StartPeriod time.Duration `json:",omitempty"` // nanoseconds
}

// parse reads the last stage. An instruction that it does not know is an error:
// leaving it out would make another image.
func parse(text string) (imageConfig, error) {
	c := imageConfig{Labels: map[string]string{}, Volumes: map[string]struct{}{}}
	var err error
	for _, line := range logicalLines(text) {
		word, rest, _ := strings.Cut(line, " ")
		rest = strings.TrimSpace(rest)
		switch word {
		case "FROM":
			c = imageConfig{Labels: map[string]string{}, Volumes: map[string]struct{}{}}
			err = nil
		case "LABEL":
			for key, value := range pairs(rest) {
				c.Labels[key] = value
			}
		case "ENV":
			for key, value := range pairs(rest) {
				c.Env = append(c.Env, key+"="+value)
			}
		case "USER":
			c.User = rest
		case "VOLUME":
			var all []string
			err = errors.Join(err, json.Unmarshal([]byte(rest), &all))
			for _, v := range all {
				c.Volumes[v] = struct{}{}
			}
		case "ENTRYPOINT":
			err = errors.Join(err, json.Unmarshal([]byte(rest), &c.Entrypoint))
		case "CMD":
			err = errors.Join(err, json.Unmarshal([]byte(rest), &c.Cmd))
		case "HEALTHCHECK":
			h, e := parseHealthcheck(rest)
			c.Healthcheck, err = &h, errors.Join(err, e)
		case "COPY", "ARG": // the files are known, and arguments are for other stages
		default:
			err = errors.Join(err, fmt.Errorf("%s is not known here", word))
		}
	}
	return c, err
}

func parseHealthcheck(text string) (h healthcheck, err error) {
	options, command, _ := strings.Cut(text, "CMD ")
	for _, o := range strings.Fields(options) {
		key, value, _ := strings.Cut(strings.TrimPrefix(o, "--"), "=")
		d, e := time.ParseDuration(value)
		switch key {
		case "interval":
			h.Interval = d
		case "timeout":
			h.Timeout = d
		case "start-period":
			h.StartPeriod = d
		default:
			e = fmt.Errorf("HEALTHCHECK --%s is not known here", key)
		}
		err = errors.Join(err, e)
	}
	err = errors.Join(err, json.Unmarshal([]byte(command), &h.Test))
	h.Test = append([]string{"CMD"}, h.Test...)
	return h, err
}

// logicalLines are the lines without comments, continued ones as one.
func logicalLines(text string) (lines []string) {
	open := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		line, more := strings.CutSuffix(line, `\`)
		line = strings.TrimSpace(line)
		if open {
			lines[len(lines)-1] += " " + line
		} else {
			lines = append(lines, line)
		}
		open = more
	}
	return lines
}

// pairs reads KEY=value KEY="a value", in order.
func pairs(text string) func(yield func(key, value string) bool) {
	return func(yield func(key, value string) bool) {
		for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
			key, rest, _ := strings.Cut(text, "=")
			value := ""
			if quoted, ok := strings.CutPrefix(rest, `"`); ok {
				value, text, _ = strings.Cut(quoted, `"`)
			} else {
				value, text, _ = strings.Cut(rest, " ")
			}
			if !yield(key, value) {
				return
			}
		}
	}
}
