// Package stdout is a sink that writes events to standard output, a JSON object
// on a line each, for pipes and for containers whose platform collects output.
//
//	{"headers":{"host":"web-1"},"body":"text"}
//	{"headers":{},"base64":"/w=="}            a body that is not UTF-8
package stdout
