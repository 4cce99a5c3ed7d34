package avroschema

import "testing"

const record = `{"type":"record","name":"test.R","fields":[{"name":"foo","type":"string"}]}`

func FuzzSchema(f *testing.F) {
	f.Add([]byte(record), []byte("\x02a"))
	f.Add([]byte(`["null",{"type":"map","values":{"type":"array","items":"int"}}]`), []byte("\x02\x02\x02k\x02\x02\x00\x00"))
	f.Fuzz(func(t *testing.T, schema, value []byte) {
		s, literal, err := Parse(schema)
		if err != nil {
			return
		}
		again, _, err := Parse([]byte(literal))
		if err != nil || again.Fingerprint() != s.Fingerprint() {
			t.Fatalf("%s: %v", literal, err)
		}
		canonical := s.canonical(nil, make(map[string]bool))
		if third, _, err := Parse(canonical); err == nil && third.Fingerprint() != s.Fingerprint() {
			t.Fatalf("canonical form %s is not one", canonical)
		}
		if n, err := s.Skip(value); err == nil && (n < 0 || n > len(value)) {
			t.Fatalf("a value of %d bytes in %d", n, len(value))
		}
	})
}
