package kafka

import (
	"errors"
	"fmt"
	"strings"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// unsupported reports whether a mechanism of Java's is not spoken here.
func unsupported(mechanism string) bool {
	switch mechanism {
	case "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512":
		return false
	}
	return true
}

// mechanism makes a login of sasl.mechanism and sasl.jaas.config.
func mechanism(name, jaas string) (sasl.Mechanism, error) {
	if unsupported(name) {
		return nil, fmt.Errorf("%q is not supported here: PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512 are", name)
	}
	module, options, err := readJAAS(jaas)
	if err != nil {
		return nil, err
	}
	wants := map[bool]string{true: "PlainLoginModule", false: "ScramLoginModule"}[name == "PLAIN"]
	if !strings.HasSuffix(module, "."+wants) {
		return nil, fmt.Errorf("is for %s, and sasl.mechanism %s wants org.apache.kafka.common.security's %s", module, name, wants)
	}
	user, password := options["username"], options["password"]
	if user == "" || password == "" {
		return nil, errors.New("lacks username or password")
	}
	switch name {
	case "PLAIN":
		return plain.Mechanism{Username: user, Password: password}, nil
	case "SCRAM-SHA-256":
		return scram.Mechanism(scram.SHA256, user, password)
	}
	return scram.Mechanism(scram.SHA512, user, password)
}

// readJAAS reads one login module as in a JAAS file: its class, a flag, options
// as key=value with the value in quotes or not, and a semicolon.
func readJAAS(text string) (module string, options map[string]string, err error) {
	words, err := jaasWords(text)
	if err != nil {
		return "", nil, err
	}
	if len(words) < 3 || words[len(words)-1] != ";" {
		return "", nil, errors.New("is not a login module: class, required, options, and a semicolon at the end")
	}
	module, words = words[0], words[1:len(words)-1]
	switch strings.ToLower(words[0]) {
	case "required", "requisite", "sufficient", "optional":
	default:
		return "", nil, errors.New("has no flag, such as required, behind the class")
	}
	options = make(map[string]string)
	for words = words[1:]; len(words) > 0; words = words[3:] {
		if len(words) < 3 || words[1] != "=" {
			return "", nil, errors.New("has an option that is not key=value")
		}
		options[words[0]] = words[2]
	}
	return module, options, nil
}

// jaasWords cuts a text into words, quoted texts without their quotes, and the
// signs = and ;.
func jaasWords(text string) (words []string, err error) {
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimLeft(text, " \t\r\n") {
		switch q := text[0]; q {
		case '=', ';':
			words, text = append(words, text[:1]), text[1:]
		case '"', '\'':
			var word strings.Builder
			i := 1
			for ; i < len(text) && text[i] != q; i++ {
				if text[i] == '\\' && i+1 < len(text) {
					i++
				}
				word.WriteByte(text[i])
			}
			if i == len(text) {
				return nil, errors.New("has a quotation that does not end")
			}
			words, text = append(words, word.String()), text[i+1:]
		default:
			n := strings.IndexAny(text, "=;\"' \t\r\n")
			if n < 0 {
				n = len(text)
			}
			words, text = append(words, text[:n]), text[n:]
		}
	}
	return words, nil
}
