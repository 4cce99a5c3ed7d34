package tailcmd

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

type options struct {
	lines     int64
	fromStart bool // lines counts from the first one, +N
	follow    bool
	reopen    bool // -F
	quiet     bool
	files     []string
}

const defaultLines = 10

// parse reads the options of GNU tail that make sense of lines in files.
func parse(args []string) (options, error) {
	o := options{lines: defaultLines}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		var err error
		switch {
		case arg == "--":
			o.files = append(o.files, args...)
			args = nil
		case strings.HasPrefix(arg, "--"):
			args, err = o.long(arg, args)
		case len(arg) > 1 && arg[0] == '-' && arg[1] >= '0' && arg[1] <= '9':
			err = o.count(arg[1:])
		case len(arg) > 1 && arg[0] == '-':
			args, err = o.short(arg[1:], args)
		case arg == "-":
			err = errors.New("standard input cannot be followed")
		default:
			o.files = append(o.files, arg)
		}
		if err != nil {
			return o, err
		}
	}
	if len(o.files) == 0 {
		return o, errors.New("no file is named")
	}
	return o, nil
}

func (o *options) long(arg string, args []string) ([]string, error) {
	name, value, given := strings.Cut(arg, "=")
	switch {
	case name == "--lines":
		if !given {
			if len(args) == 0 {
				return nil, errors.New("--lines needs a number")
			}
			value, args = args[0], args[1:]
		}
		return args, o.count(value)
	case name == "--follow" && (!given || value == "descriptor"):
		o.follow = true
	case name == "--follow" && value == "name":
		o.follow, o.reopen = true, true
	case arg == "--retry", arg == "--quiet", arg == "--silent":
		o.quiet = o.quiet || arg != "--retry"
	default:
		return nil, fmt.Errorf("%s is not an option here", arg)
	}
	return args, nil
}

// short reads one argument with letters in it, such as -fn5.
func (o *options) short(letters string, args []string) ([]string, error) {
	for i, c := range letters {
		switch c {
		case 'f':
			o.follow = true
		case 'F':
			o.follow, o.reopen = true, true
		case 'q':
			o.quiet = true
		case 'n':
			value := letters[i+1:]
			if value == "" {
				if len(args) == 0 {
					return nil, errors.New("-n needs a number")
				}
				value, args = args[0], args[1:]
			}
			return args, o.count(value)
		default:
			return nil, fmt.Errorf("-%c is not an option here", c)
		}
	}
	return args, nil
}

func (o *options) count(text string) error {
	n, err := strconv.ParseInt(strings.TrimPrefix(strings.TrimPrefix(text, "-"), "+"), 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is not a number of lines", text)
	}
	o.lines, o.fromStart = n, strings.HasPrefix(text, "+")
	return nil
}
