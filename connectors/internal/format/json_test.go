package format

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/millrace/millrace/core"
)

func TestJSON(t *testing.T) {
	for _, c := range []struct {
		shape, kv, body, want string
	}{
		{"event", "", "b", `{"headers":{},"body":"b"}`},
		{"event", "k v message m", "a\n\"b\"", `{"headers":{"k":"v","message":"m"},"body":"a\n\"b\""}`},
		{"flat", "", "b", `{"message":"b"}`},
		{"flat", "k v message m n w", "世", `{"k":"v","n":"w","message":"世"}`},
		{"FLAT", "k v", "\xff", `{"k":"v","message":"\uFFFD"}`},
	} {
		s := config(t, "serializer", "json", "serializer.shape", c.shape).New(nil)
		e := event(c.body, strings.Fields(c.kv)...)
		want := strings.ReplaceAll(c.want, `\uFFFD`, "\uFFFD") + "\n"
		if got := string(all(s, []core.Event{e, e})); got != want+want {
			t.Errorf("%+v:\n%s", c, got)
		}
	}
	if s := config(t, "serializer", "json").New(nil); s.Resume("JSON flat") || !s.Resume("JSON event") {
		t.Error("it goes on with a file of the other shape, or not with its own")
	}
	for _, kv := range [][2]string{{"serializer.shape", "flat"}, {"serializer.shape", "round"}} {
		if _, faults := bind(t, map[string]string{kv[0]: kv[1]}); len(faults) == 0 {
			t.Errorf("%s is taken for TEXT", kv)
		}
	}
}

// Whatever is in an event, its line is one object with just that.
func FuzzJSON(f *testing.F) {
	f.Add("k", "v", []byte("body"))
	f.Add("message", "\x00\u2028", []byte("\xff\n"))
	f.Fuzz(func(t *testing.T, key, value string, body []byte) {
		got := all(config(t, "serializer", "json").New(nil), []core.Event{event(string(body), key, value)})
		var o struct {
			Headers map[string]string
			Body    string
		}
		if err := json.Unmarshal(got, &o); err != nil || strings.Count(string(got), "\n") != 1 {
			t.Fatalf("%s: %v", got, err)
		}
		if utf8.Valid(body) && o.Body != string(body) || utf8.ValidString(key+value) && o.Headers[key] != value {
			t.Errorf("%s", got)
		}
	})
}
