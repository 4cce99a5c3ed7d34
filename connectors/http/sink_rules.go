package http

import (
	"strconv"
	"strings"

	"github.com/millrace/millrace/core/conf"
)

// rule is what the status of an answer means.
type rule struct {
	rollback bool // the events are sent again
	backoff  bool // and then, or else, the sink pauses
	count    bool // the events count as delivered
}

// rules are Flume's keys for it. Each of the three is looked up by the code,
// then by its group (4XX), and then there is what stands for all:
//
//	2xx             delivered
//	400, 413, 422   refused: the fault is in the events, sending them again will not help
//	others          what defaultRollback, defaultBackoff, defaultIncrementMetrics say
//
// Flume has the last line only, so that without a rule for 2xx it sends an
// event that was accepted again for ever.
type rules struct {
	standard                 rule
	rollback, backoff, count map[string]string

	table [600]rule // by status
}

func (r *rules) keys(k *conf.Keys) {
	k.Bool(&r.standard.backoff, "defaultBackoff", true, "Pause after answers that no other rule is for. 2xx, and 400, 413, 422 have their own: see Answers.")
	k.Bool(&r.standard.rollback, "defaultRollback", true, "Send again after such answers; false: the events are refused.")
	k.Bool(&r.standard.count, "defaultIncrementMetrics", false, "Count events as delivered after such answers; those that are not sent again then are not refused either.")
	k.Map(&r.backoff, "backoff.", "Pause after an answer with this status, such as 503, or of this group, such as 5XX.").As("backoff.<code>")
	k.Map(&r.rollback, "rollback.", "Send again after an answer with this status or of this group.").As("rollback.<code>")
	k.Map(&r.count, "incrementMetrics.", "Count events as delivered after an answer with this status or of this group.").As("incrementMetrics.<code>")
}

// check reads the maps and makes the table.
func (r *rules) check(rep *conf.Report) {
	rollback, backoff, count := readRules(rep, "rollback.", r.rollback), readRules(rep, "backoff.", r.backoff), readRules(rep, "incrementMetrics.", r.count)
	for status := range r.table {
		std, own := r.standard, status/100 == 2 || aboutEvents(status)
		if own {
			std.rollback, std.count = false, status/100 == 2
		}
		again := find(rollback, status, std.rollback)
		std.backoff = std.backoff && (again || !own)
		r.table[status] = rule{again, find(backoff, status, std.backoff), find(count, status, std.count)}
	}
	if r.table[200].rollback {
		rep.Warn("rollback.", "an event that was accepted with 200 is sent again for ever: set rollback.200 = false")
	}
}

// aboutEvents reports whether a status says that something is wrong with what
// was sent, so that another event may fare better.
func aboutEvents(status int) bool { return status == 400 || status == 413 || status == 422 }

// readRules reads the members of a map: a code, or a group as its first digit.
func readRules(rep *conf.Report, prefix string, members map[string]string) map[int]bool {
	all := make(map[int]bool, len(members))
	for code, text := range members {
		digits, group := strings.CutSuffix(strings.ToUpper(code), "XX")
		n, err := strconv.Atoi(digits)
		if err != nil || group && (n < 1 || n > 5) || !group && (n < 100 || n > 599) {
			rep.Warn(prefix+code, "%q is neither a status, such as 503, nor a group of them, such as 5XX", code)
			continue
		}
		yes := strings.EqualFold(text, "true")
		if !yes && !strings.EqualFold(text, "false") {
			rep.Warn(prefix+code, "%q is false: only the word true is true", text)
		}
		all[n] = yes
	}
	return all
}

func find(members map[int]bool, status int, standard bool) bool {
	if yes, ok := members[status]; ok {
		return yes
	}
	if yes, ok := members[status/100]; ok {
		return yes
	}
	return standard
}

// of returns what a status means. One that HTTP does not have is a failure.
func (r *rules) of(status int) rule {
	if status < 100 || status >= len(r.table) {
		return rule{rollback: true, backoff: true}
	}
	return r.table[status]
}
