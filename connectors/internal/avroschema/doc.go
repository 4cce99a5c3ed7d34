// Package avroschema reads Avro schemas in their JSON form, and steps over values
// in Avro's binary encoding: as much as it takes to cut records out of a
// container file, and to tell whether a text is a value of a schema.
//
// Source: the Avro specification 1.11, "Schema Declaration", "Binary Encoding",
// "Parsing Canonical Form".
package avroschema
