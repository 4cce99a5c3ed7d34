package hdfs

import (
	"strings"
	"testing"

	hadoop "github.com/colinmarc/hdfs/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// The library still keeps its connection and Hadoop's messages where they are looked for.
func TestRecoverFindsTheConnection(t *testing.T) {
	if _, err := callerOf(new(hadoop.Client)); err != nil {
		t.Error(err)
	}
	request, err := message(recoverRequest, map[protoreflect.Name]string{"src": "/a", "clientName": "me"})
	if err != nil {
		t.Fatal(err)
	}
	// As Hadoop's ClientNamenodeProtocol.proto has it: src is 1, clientName 2.
	if b, err := proto.Marshal(request); err != nil || string(b) != "\n\x02/a\x12\x02me" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err = message(recoverResponse, nil); err != nil {
		t.Error(err)
	}
	if _, err = message("hadoop.hdfs.NoSuchProto", nil); err == nil || !strings.Contains(err.Error(), errLibrary.Error()) {
		t.Errorf("a message that is not there: %v", err)
	}
}
