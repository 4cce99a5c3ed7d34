package hdfs

import (
	"errors"
	"reflect"
	"unsafe"

	hadoop "github.com/colinmarc/hdfs/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// caller is the library's connection to the name node, as far as it is used here.
type caller interface {
	Execute(method string, request, response proto.Message) error
}

const (
	recoverRequest  = "hadoop.hdfs.RecoverLeaseRequestProto"
	recoverResponse = "hadoop.hdfs.RecoverLeaseResponseProto"
)

var errLibrary = errors.New("the HDFS library has changed: its connection to the name node is not where it was")

// callerOf returns the connection to the name node of c. The library gives it to
// nobody, but can make no call that recovers a lease: it is taken from where the
// library keeps it (docs/decisions/014).
func callerOf(c *hadoop.Client) (caller, error) {
	field := reflect.ValueOf(c).Elem().FieldByName("namenode")
	if !field.IsValid() {
		return nil, errLibrary
	}
	nn, ok := reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem().Interface().(caller)
	if !ok {
		return nil, errLibrary
	}
	return nn, nil
}

// message makes one of Hadoop's messages, whose types the library has for itself.
func message(name protoreflect.FullName, texts map[protoreflect.Name]string) (proto.Message, error) {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(name)
	if err != nil {
		return nil, errors.Join(errLibrary, err)
	}
	m := kind.New()
	for field, text := range texts {
		f := m.Descriptor().Fields().ByName(field)
		if f == nil {
			return nil, errLibrary
		}
		m.Set(f, protoreflect.ValueOfString(text))
	}
	return m.Interface(), nil
}

// Recover is ClientProtocol's recoverLease: the name node takes the lease away at
// once, whoever has it, and has the data nodes agree on the end of the file.
func (f *cluster) Recover(path string) error {
	nn, err := callerOf(f.c)
	if err != nil {
		return err
	}
	request, err := message(recoverRequest, map[protoreflect.Name]string{"src": path, "clientName": "millrace"})
	if err != nil {
		return err
	}
	response, err := message(recoverResponse, nil)
	if err != nil {
		return err
	}
	return nn.Execute("recoverLease", request, response)
}
