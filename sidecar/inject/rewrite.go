package inject

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// rewrite brings the change from the tree was, which text was read as, to the
// tree now into the text. now is a changed clone of was: nodes that stayed have
// their positions, new ones none.
func rewrite(text []byte, was, now *yaml.Node) ([]byte, error) {
	closed, end := text, "" // a last line without an end stays so
	if len(text) > 0 && text[len(text)-1] != '\n' {
		end = lineBreak(text)
		closed = append(slices.Clip(text), end...)
	}
	if out, ok := splice(closed, was, now); ok {
		out = bytes.TrimSuffix(out, []byte(end))
		if again, err := parse(out); err == nil && same(again, now) {
			return out, nil
		}
	}
	out, err := anew(text, now)
	if err != nil {
		return nil, err
	}
	out = bytes.TrimSuffix(out, []byte(end))
	again, err := parse(out)
	if err != nil {
		return nil, fmt.Errorf("write document: %w", err)
	}
	if !same(again, now) {
		return nil, errors.New("this document cannot be written without changing what it says")
	}
	return out, nil
}

// parse reads one document; nil without an error where there is none.
func parse(text []byte) (*yaml.Node, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	if doc.Kind == 0 {
		return nil, nil
	}
	return &doc, nil
}

// anew writes the whole document, with the comments that its nodes have.
func anew(text []byte, doc *yaml.Node) ([]byte, error) {
	body, err := render(doc)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(text, []byte("---")) {
		body = "---\n" + body
	}
	if n := endMark(text); n < len(text) {
		body += "...\n"
	}
	if bytes.Contains(text, []byte("\r\n")) {
		body = strings.ReplaceAll(strings.ReplaceAll(body, "\r\n", "\n"), "\n", "\r\n")
	}
	return []byte(body), nil
}

// render writes a node as kubectl does: two blanks, lists not indented.
func render(n *yaml.Node) (string, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	e.CompactSeqIndent()
	if err := e.Encode(n); err != nil {
		return "", fmt.Errorf("write document: %w", err)
	}
	if err := e.Close(); err != nil {
		return "", fmt.Errorf("write document: %w", err)
	}
	return b.String(), nil
}

// endMark is where a document's text ends: before its line of three dots.
func endMark(text []byte) int {
	i := bytes.LastIndex(text, []byte("\n..."))
	if i < 0 || len(bytes.TrimSpace(text[i+4:])) > 0 && !isComment(text[i+4:]) {
		return len(text)
	}
	return i + 1
}

func isComment(line []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(line), []byte("#")) }

// splicer collects edits of a text whose lines are those that the parser counts.
type splicer struct {
	text  []byte
	start []int // of each line; one more for the end
	edits []edit
	crlf  bool
}

type edit struct {
	from, to int
	text     string
}

func splice(text []byte, was, now *yaml.Node) ([]byte, bool) {
	if was.Kind != yaml.DocumentNode || len(was.Content) != 1 || len(now.Content) != 1 || oddBreaks(text) {
		return nil, false
	}
	s := &splicer{text: text, start: []int{0}, crlf: bytes.Contains(text, []byte("\r\n"))}
	end := endMark(text)
	for i := range end {
		if text[i] == '\n' && i+1 < end {
			s.start = append(s.start, i+1)
		}
	}
	s.start = append(s.start, end)
	if !s.node(was.Content[0], now.Content[0], len(s.start), 0) {
		return nil, false
	}
	slices.SortStableFunc(s.edits, func(a, b edit) int { return a.from - b.from })
	var out []byte
	at := 0
	for _, e := range s.edits {
		if e.from < at {
			return nil, false
		}
		out = append(append(out, text[at:e.from]...), e.text...)
		at = e.to
	}
	return append(out, text[at:]...), true
}

// oddBreaks tells of ends of lines that YAML 1.1 knows and editors do not.
func oddBreaks(text []byte) bool {
	for _, odd := range []string{"\u0085", "\u2028", "\u2029"} {
		if bytes.Contains(text, []byte(odd)) {
			return true
		}
	}
	return bytes.Count(text, []byte("\r")) != bytes.Count(text, []byte("\r\n"))
}

func isBlock(n *yaml.Node) bool {
	return (n.Kind == yaml.MappingNode || n.Kind == yaml.SequenceNode) && n.Style&yaml.FlowStyle == 0 && len(n.Content) > 0
}

// node brings the change of one block collection into the text. end is the first
// line that is not the node's, and outer the column of the key it belongs to. It
// returns false where the change cannot be made within the node's lines.
func (s *splicer) node(was, now *yaml.Node, end, outer int) bool {
	switch {
	case same(was, now):
		return true
	case was.Kind != now.Kind || was.Line != now.Line || was.Column != now.Column || was.Anchor != now.Anchor || !isBlock(was) || !isBlock(now):
		return false
	case was.Kind == yaml.MappingNode:
		return s.mapping(was, now, end)
	}
	return s.sequence(was, now, end, outer)
}

func (s *splicer) mapping(was, now *yaml.Node, end int) bool {
	left := make(map[*yaml.Node]bool)
	for i := 0; i+1 < len(was.Content); i += 2 {
		key, value := was.Content[i], was.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			return false
		}
		next := end
		if i+2 < len(was.Content) {
			next = was.Content[i+2].Line
		}
		j := slices.IndexFunc(now.Content, func(n *yaml.Node) bool { return n.Line == key.Line && n.Column == key.Column && n.Value == key.Value })
		if j < 0 || j%2 == 1 {
			if !s.cut(key.Line, key.Column, s.trim(key.Line, next, lastColumn(key, value))) {
				return false
			}
			continue
		}
		changed := now.Content[j+1]
		left[now.Content[j]] = true
		mark := len(s.edits)
		if s.node(value, changed, next, key.Column) || s.scalar(value, changed) {
			continue
		}
		s.edits = s.edits[:mark]
		if !s.pair(key, value, changed, next) {
			return false
		}
	}
	added := &yaml.Node{Kind: yaml.MappingNode}
	for j := 0; j+1 < len(now.Content); j += 2 {
		if !left[now.Content[j]] {
			added.Content = append(added.Content, now.Content[j], now.Content[j+1])
		}
	}
	return s.insert(added, was.Column, s.trim(was.Line, end, was.Column-1))
}

func (s *splicer) sequence(was, now *yaml.Node, end, outer int) bool {
	kept := make(map[*yaml.Node]bool)
	for i, item := range was.Content {
		from := s.dash(was, item)
		next := end
		if i+1 < len(was.Content) {
			next = s.dash(was, was.Content[i+1])
		}
		if from == 0 || next == 0 {
			return false
		}
		j := slices.IndexFunc(now.Content, func(n *yaml.Node) bool { return n.Line == item.Line && n.Column == item.Column })
		if j < 0 {
			if !s.cut(from, was.Column, s.trim(from, next, lastColumn(was, item))) {
				return false
			}
			continue
		}
		kept[now.Content[j]] = true
		if !s.node(item, now.Content[j], next, was.Column) {
			return false
		}
	}
	added := &yaml.Node{Kind: yaml.SequenceNode}
	for _, n := range now.Content {
		if !kept[n] {
			added.Content = append(added.Content, n)
		}
	}
	inside := was.Column // comments as far in as this belong to the list
	if was.Column > outer && outer > 0 {
		inside--
	}
	return s.insert(added, was.Column, s.trim(was.Line, end, inside))
}

// dash is the line of an item's dash, 0 if that is not the first on its line.
func (s *splicer) dash(list, item *yaml.Node) int {
	for l := item.Line; l >= list.Line && l > 0; l-- {
		line := s.line(l)
		if at := list.Column - 1; len(line) > at && line[at] == '-' && blank(line[:at]) {
			return l
		}
	}
	return 0
}

func (s *splicer) line(l int) []byte {
	if l < 1 || l >= len(s.start) {
		return nil
	}
	return bytes.TrimRight(s.text[s.start[l-1]:s.start[l]], "\r\n")
}

func blank(line []byte) bool { return len(bytes.TrimSpace(line)) == 0 }

// lastColumn is the column of the key or dash to which the last value below n belongs: what is further in is that value.
func lastColumn(owner, n *yaml.Node) int {
	for isBlock(n) {
		owner = n
		if n.Kind == yaml.MappingNode {
			owner = n.Content[len(n.Content)-2]
		}
		n = n.Content[len(n.Content)-1]
	}
	return owner.Column
}

// trim is the line after the last one of what starts at line from, when the next thing starts at line end, and
// comments at least inside blanks in belong to it.
func (s *splicer) trim(from, end, inside int) int {
	for end-1 > from {
		line := s.line(end - 1)
		if !blank(line) && (!isComment(line) || len(line)-len(bytes.TrimLeft(line, " ")) >= inside) {
			break
		}
		end--
	}
	return end
}

// cut removes whole lines.
func (s *splicer) cut(from, column, to int) bool {
	line := s.line(from)
	if to <= from || len(line) < column-1 || !blank(line[:column-1]) {
		return false
	}
	s.edits = append(s.edits, edit{from: s.start[from-1], to: s.start[to-1]})
	return true
}

// insert adds what is in a collection of new nodes before a line.
func (s *splicer) insert(added *yaml.Node, column, line int) bool {
	if len(added.Content) == 0 {
		return true
	}
	text, ok := s.indented(added, column)
	if !ok {
		return false
	}
	at := s.start[line-1]
	s.edits = append(s.edits, edit{at, at, s.breaks(text)})
	return true
}

func (s *splicer) breaks(text string) string {
	if s.crlf {
		return strings.ReplaceAll(text, "\n", "\r\n")
	}
	return text
}

func (s *splicer) indented(n *yaml.Node, column int) (string, bool) {
	text, err := render(n)
	if err != nil {
		return "", false
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line != "\n" {
			b.WriteString(strings.Repeat(" ", column-1))
		}
		b.WriteString(line)
	}
	return b.String(), true
}

// offset is where a node stands in the text; columns count characters.
func (s *splicer) offset(n *yaml.Node) int {
	line, at := s.line(n.Line), 0
	for range n.Column - 1 {
		if at >= len(line) {
			return -1
		}
		_, size := utf8.DecodeRune(line[at:])
		at += size
	}
	return s.start[n.Line-1] + at
}

// scalar puts one plain value in another's place on its line.
func (s *splicer) scalar(was, now *yaml.Node) bool {
	if was.Kind != yaml.ScalarNode || now.Kind != yaml.ScalarNode || was.Style != 0 || was.Anchor != "" || was.Value == "" {
		return false
	}
	at := s.offset(was)
	bare := *now
	bare.HeadComment, bare.LineComment, bare.FootComment = "", "", "" // they are there
	text, err := render(&bare)
	text = strings.TrimSuffix(text, "\n")
	if at < 0 || err != nil || strings.Contains(text, "\n") || !bytes.HasPrefix(s.text[at:], []byte(was.Value)) {
		return false
	}
	s.edits = append(s.edits, edit{at, at + len(was.Value), text})
	return true
}

// pair writes a key with its value anew, in the lines that it has.
func (s *splicer) pair(key, was, now *yaml.Node, next int) bool {
	at := s.offset(key)
	if at < 0 || key.Column < 1 {
		return false
	}
	k := *key
	k.HeadComment, k.FootComment = "", "" // they stand outside of these lines
	text, ok := s.indented(&yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{&k, now}}, key.Column)
	if !ok {
		return false
	}
	text = strings.TrimLeft(text, " ")
	to := s.start[s.trim(key.Line, next, lastColumn(key, was))-1]
	s.edits = append(s.edits, edit{at, to, s.breaks(text)})
	return true
}
