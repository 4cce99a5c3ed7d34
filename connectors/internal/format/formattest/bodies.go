package formattest

import (
	"strings"

	"github.com/millrace/millrace/core"
)

// Bodies is a batch of events "schema body", whose bodies are Avro data of the schema; a dash: it has none.
func Bodies(events ...string) *core.Batch {
	b := core.NewBatch()
	for _, e := range events {
		literal, body, _ := strings.Cut(e, " ")
		h := core.Headers{}
		if literal != "-" {
			h = core.NewHeaders(core.Header{Key: "flume.avro.schema.literal", Value: literal})
		}
		b.Copy(h, []byte(body))
	}
	return b
}
