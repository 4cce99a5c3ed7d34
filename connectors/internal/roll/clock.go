package roll

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // images without a zone database know the zones too

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Clock says which time escapes show.
type Clock struct {
	zone    *time.Location
	round   bool
	unit    string
	value   int
	local   bool
	unknown string // the name of a zone that there is none of
}

// Keys binds c to the keys round, roundUnit, roundValue, timeZone and
// useLocalTimeStamp below prefix.
func (c *Clock) Keys(k *conf.Keys, prefix string) {
	*c = Clock{zone: time.Local}
	k.Bool(&c.round, prefix+"round", false, "Round the time in escapes down (all but %t).")
	k.String(&c.unit, prefix+"roundUnit", "second", "What is rounded: second, minute or hour.")
	k.Int(&c.value, prefix+"roundValue", 1, "To multiples of this: 1 to 60, or 1 to 24 hours.")
	k.Func(prefix+"timeZone", "Java zone id", "", "Zone of the time in escapes, such as Europe/Berlin, UTC or GMT+08:00; the local one by default.", func(text string) error {
		zone, err := Zone(text)
		if err != nil {
			zone, c.unknown = time.UTC, text // as Java does
		}
		c.zone = zone
		return nil
	})
	k.Bool(&c.local, prefix+"useLocalTimeStamp", false, "Escapes show the time of delivery and not the header timestamp.")
	k.Check(func(r *conf.Report) { c.check(r, prefix) })
}

func (c *Clock) check(r *conf.Report, prefix string) {
	if c.unknown != "" {
		r.Warn(prefix+"timeZone", "%q is not a zone: it means GMT, as in Flume", c.unknown)
	}
	if !c.round {
		for _, key := range [...]string{"roundUnit", "roundValue"} {
			if r.IsSet(prefix + key) {
				r.Warn(prefix+key, "has no effect without %sround = true", prefix)
			}
		}
		return
	}
	most := 60
	switch c.unit = strings.ToLower(c.unit); c.unit {
	case "second", "minute":
	case "hour":
		most = 24
	default:
		r.Warn(prefix+"roundUnit", "%q is not second, minute or hour: nothing is rounded", c.unit)
		c.round = false
	}
	if c.value < 1 || c.value > most {
		r.Error(prefix+"roundValue", "%d must be between 1 and %d", c.value, most)
	}
}

// Local reports whether escapes show the time of delivery.
func (c *Clock) Local() bool { return c.local }

// ErrNoTime says that an event lacks the header timestamp, or that it is not a
// positive number of milliseconds.
var ErrNoTime = errors.New("header timestamp is not a time in milliseconds")

// Of returns the moment that escapes show for an event: that of its header
// timestamp, or now. With ErrNoTime comes now.
func (c *Clock) Of(h core.Headers, now time.Time) (Moment, error) {
	if c.local {
		return c.at(strconv.FormatInt(now.UnixMilli(), 10), now), nil
	}
	text := h.Value("timestamp")
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil || ms <= 0 || ms > lastMillis {
		return c.at(strconv.FormatInt(now.UnixMilli(), 10), now), ErrNoTime
	}
	return c.at(text, time.UnixMilli(ms)), nil
}

// lastMillis is the end of the year 9999.
const lastMillis = 253402300799999

func (c *Clock) at(text string, t time.Time) Moment {
	t = t.In(c.zone)
	if c.round {
		t = c.down(t)
	}
	return Moment{text, t}
}

// down sets the field of the unit to a multiple of the value, and those below it to 0.
func (c *Clock) down(t time.Time) time.Time {
	part := time.Duration(t.Nanosecond())
	switch c.unit {
	case "second":
		return t.Add(-part - time.Duration(t.Second()%c.value)*time.Second)
	case "minute":
		return t.Add(-part - time.Duration(t.Second())*time.Second - time.Duration(t.Minute()%c.value)*time.Minute)
	}
	if t.Hour()%c.value == 0 { // exact in the hour that a clock has twice
		return t.Add(-part - time.Duration(t.Second())*time.Second - time.Duration(t.Minute())*time.Minute)
	}
	y, m, d := t.Date()
	return time.Date(y, m, d, t.Hour()-t.Hour()%c.value, 0, 0, 0, c.zone)
}

var offset = regexp.MustCompile(`^GMT([+-])(\d{1,2})(?::?([0-5]\d))?$`)

// short are the zones that Java knows by three letters and the database does not.
var short = map[string]string{
	"ACT": "Australia/Darwin", "AET": "Australia/Sydney", "AGT": "America/Argentina/Buenos_Aires", "ART": "Africa/Cairo", "AST": "America/Anchorage",
	"BET": "America/Sao_Paulo", "BST": "Asia/Dhaka", "CAT": "Africa/Harare", "CNT": "America/St_Johns", "CST": "America/Chicago", "CTT": "Asia/Shanghai",
	"EAT": "Africa/Addis_Ababa", "ECT": "Europe/Paris", "IET": "America/Indiana/Indianapolis", "IST": "Asia/Kolkata", "JST": "Asia/Tokyo",
	"MIT": "Pacific/Apia", "NET": "Asia/Yerevan", "NST": "Pacific/Auckland", "PLT": "Asia/Karachi", "PNT": "America/Phoenix", "PRT": "America/Puerto_Rico",
	"PST": "America/Los_Angeles", "SST": "Pacific/Guadalcanal", "VST": "Asia/Ho_Chi_Minh",
}

// Zone returns the zone of a Java id: a name of the zone database, one of the
// old three letters, or GMT+h, GMT+hh:mm.
func Zone(id string) (*time.Location, error) {
	if m := offset.FindStringSubmatch(id); m != nil {
		hours, _ := strconv.Atoi(m[2])
		minutes, _ := strconv.Atoi("0" + m[3])
		if hours > 23 {
			return nil, fmt.Errorf("zone %s: more than 23 hours", id)
		}
		seconds := hours*3600 + minutes*60
		if m[1] == "-" {
			seconds = -seconds
		}
		return time.FixedZone(id, seconds), nil
	}
	if long, ok := short[id]; ok {
		id = long
	}
	if id == "" || id == "Local" {
		return nil, errors.New("no zone is named")
	}
	return time.LoadLocation(id)
}
