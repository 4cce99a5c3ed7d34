package avroschema

import (
	"encoding/binary"
	"errors"
	"fmt"
)

var (
	errShort = errors.New("value ends too early")
	errDeep  = fmt.Errorf("value has more than %d levels", maxDepth)
	errValue = errors.New("value does not fit its schema")
)

// Skip returns the length of the value that data begins with.
func (s *Schema) Skip(data []byte) (int, error) {
	rest, err := s.over(data, 0)
	return len(data) - len(rest), err
}

// over returns what follows the value.
func (s *Schema) over(data []byte, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, errDeep
	}
	switch s.kind {
	case avroNull:
		return data, nil
	case avroBoolean:
		return after(data, 1)
	case avroFloat:
		return after(data, 4)
	case avroDouble:
		return after(data, 8)
	case avroFixed:
		return after(data, int64(s.size))
	case avroInt, avroLong:
		_, rest, err := varint(data)
		return rest, err
	case avroBytes, avroString:
		n, rest, err := varint(data)
		if err != nil {
			return nil, err
		}
		return after(rest, n)
	case avroEnum:
		n, rest, err := varint(data)
		if err == nil && (n < 0 || n >= int64(len(s.fields))) {
			err = errValue
		}
		return rest, err
	case avroUnion:
		n, rest, err := varint(data)
		if err != nil || n < 0 || n >= int64(len(s.items)) {
			return nil, errors.Join(err, errValue)
		}
		return s.items[n].over(rest, depth+1)
	case avroRecord:
		if s.nothing {
			return data, nil
		}
		var err error
		for _, f := range s.items {
			if data, err = f.over(data, depth+1); err != nil {
				return nil, err
			}
		}
		return data, nil
	}
	return s.blocks(data, depth)
}

// blocks is over for an array or a map: blocks of a count and so many items,
// until a count of 0. After a negative count comes the block's size.
func (s *Schema) blocks(data []byte, depth int) ([]byte, error) {
	item := s.items[0]
	for {
		n, rest, err := varint(data)
		if err != nil || n == 0 {
			return rest, err
		}
		data = rest
		if n < 0 {
			size, rest, err := varint(data)
			if err == nil {
				data, err = after(rest, size)
			}
			if err != nil {
				return nil, err
			}
			continue
		}
		if item.nothing && s.kind == avroArray {
			continue
		}
		for range n {
			if s.kind == avroMap {
				size, rest, err := varint(data)
				if err == nil {
					data, err = after(rest, size)
				}
				if err != nil {
					return nil, err
				}
			}
			if data, err = item.over(data, depth+1); err != nil {
				return nil, err
			}
		}
	}
}

func after(data []byte, n int64) ([]byte, error) {
	if n < 0 || n > int64(len(data)) {
		return nil, errShort
	}
	return data[n:], nil
}

func varint(data []byte) (int64, []byte, error) {
	n, size := binary.Varint(data)
	if size <= 0 {
		return 0, nil, errShort
	}
	return n, data[size:], nil
}
