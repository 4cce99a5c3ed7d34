// Package conf reads a Flume configuration and binds it to components.
//
// The way of a configuration:
//
//	files ──ParseProperties──> []Property ──Load──> *Text ──Build──> *Agent
//	        java.util.Properties           merged,          every component of one agent,
//	        to the letter                  ${...} resolved  its fields set, all faults at once
//
// A component names its keys once, in the shape of package flag: the pointer gives the type, the value the default, and
// the last argument is the documentation. That one list parses, checks, completes, suggests and documents:
//
//	func (s *source) Keys(k *conf.Keys) {
//		k.Int64(&s.total, "totalEvents", math.MaxInt64, "Events to emit before stopping.")
//		k.Batch(&s.batch, "batchSize", 1, "Events put in one transaction.")
//	}
//
// Faults have a file, a line, a full key and, where one is known, a hint:
//
//	agent.conf:4: a1.sources.r1.batchSize: "0" must be at least 1
//	agent.conf:5: a1.sources.r1.batchsize: unknown key (did you mean batchSize?)
//
// What Flume drops a component for, or dies of, is an [Error]; what Flume ignores, or replaces by a default, is a
// [Warning]. [Options].Strict makes errors of warnings; [Options].Lenient does as Flume does: it leaves the faulty
// component out, with all that hangs on it, and says so in warnings.
//
// The value of a key marked [Key.Secret] is in no fault, no documentation and no [Component.Redacted] property.
//
// The package imports the standard library only, and uses neither reflection nor struct tags.
package conf
