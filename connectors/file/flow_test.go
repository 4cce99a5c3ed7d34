package file

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/millrace/millrace/connectors/internal/resume/resumetest"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/vfs"
)

// The same with the real file channel and the real runner, on one disk that
// crashes under both: a source that goes on where the channel's positions end,
// and after all crashes each event is in the files once, in order.
func TestCrashWithFileChannel(t *testing.T) {
	step := 7
	if testing.Short() {
		step = 29
	}
	for name, keys := range map[string]map[string]string{
		"rolls":     {"sink.rollCount": "25"},
		"published": {"sink.rollCount": "40", "sink.inUseSuffix": ".tmp"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for at := 5; ; at += step {
				mode := vfs.CrashMode(at % vfs.CrashModes)
				f := newFlow(t, keys, at)
				crashes := f.Life(vfs.Rule{At: at, Crash: true})
				for i, crashed := 0, crashes; crashed; i++ {
					f.Crash(mode)
					var rules []vfs.Rule
					if i < 2 {
						rules = append(rules, vfs.Rule{At: 1 + f.Rng.IntN(80), Crash: true})
					}
					crashed = f.Life(rules...)
				}
				if f.check(); t.Failed() {
					t.Fatalf("first crash at operation %d, mode %d", at, mode)
				}
				if !crashes && at > 5 {
					return
				}
			}
		})
	}
}

const flowEvents = 200

// flow is a flow into files in /out.
type flow struct {
	*resumetest.Flow
	keys map[string]string
}

func newFlow(t *testing.T, keys map[string]string, seed int) *flow {
	bound := map[string]string{"sink.directory": "/out", "sink.commitInterval": "1"}
	maps.Copy(bound, keys)
	return &flow{keys: keys, Flow: &resumetest.Flow{
		T: t, Rng: rand.New(rand.NewPCG(uint64(seed), 7)), Disk: vfs.NewMem(), Events: flowEvents,
		Sink: func(*vfs.Fault) core.Sink {
			s := Sink.New()
			if _, faults := conf.Bind(s, bound); faults.HasErrors() {
				t.Fatal(faults)
			}
			return s
		},
	}}
}

func (f *flow) check() {
	var got, want []string
	for _, file := range list(f.T, f.Disk, "/out") {
		events := strings.Fields(file.content)
		if count := f.keys["sink.rollCount"]; len(got)+len(events) < flowEvents && fmt.Sprint(len(events)) != count {
			f.T.Errorf("%s has %d events, want %s", file.name, len(events), count)
		}
		got = append(got, events...)
	}
	for i := range flowEvents {
		want = append(want, resumetest.Event(int64(i)))
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		f.T.Errorf("in the files: %s", strings.Join(got, " "))
	}
}
