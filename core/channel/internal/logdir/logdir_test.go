package logdir

import (
	"slices"
	"testing"

	"github.com/millrace/millrace/core"
)

func TestDefaultDirectories(t *testing.T) {
	t.Setenv("HOME", "/home/u")
	for _, x := range []struct {
		set        Settings
		env        core.Env
		checkpoint string
		data       []string
	}{
		{Settings{}, core.Env{Name: "ch"}, "/home/u/.flume/file-channel/checkpoint", []string{"/home/u/.flume/file-channel/data"}},
		{Settings{}, core.Env{Name: "ch", Dir: "/s"}, "/s/ch", []string{"/s/ch"}},
		{Settings{dataDirs: []string{"/d"}}, core.Env{Name: "ch", Dir: "/s"}, "/home/u/.flume/file-channel/checkpoint", []string{"/d"}},
		{Settings{checkpointDir: "/c", dataDirs: []string{"/d", "/e", "/d/"}}, core.Env{}, "/c", []string{"/d", "/e"}},
	} {
		d := &Dir{set: x.set}
		if err := d.place(x.env); err != nil || d.checkpointDir != x.checkpoint || !slices.Equal(d.dataDirs, x.data) {
			t.Error(d.checkpointDir, d.dataDirs, err)
		}
	}
}
