package conf

import "strings"

// nearest is the candidate that name most likely was meant to be, or "". Upper and lower case do not matter; a
// candidate may have a prefix that name lacks (fileType for hdfs.fileType), or lack one that name has.
func nearest(name string, candidates []string) string {
	best, least := "", 1<<30
	for _, c := range candidates {
		if d, ok := distance(name, c); ok && d < least {
			best, least = c, d
		}
	}
	return best
}

// distance ranks a candidate: smaller is nearer; not ok is too far.
func distance(name, candidate string) (int, bool) {
	name, candidate = strings.ToLower(name), strings.ToLower(candidate)
	if d, ok := edits(name, candidate); ok {
		return 2 * d, true
	}
	if strings.HasPrefix(candidate, name+".") {
		return 9, true
	}
	if i := strings.LastIndexByte(candidate, '.'); i >= 0 {
		if d, ok := edits(name, candidate[i+1:]); ok {
			return 2*d + 3, true
		}
	}
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		rest := name[i+1:]
		if j := strings.LastIndexByte(candidate, '.'); j >= 0 {
			candidate = candidate[j+1:]
		}
		if d, ok := edits(rest, candidate); ok {
			return 2*d + 3, true
		}
	}
	return 0, false
}

// edits counts insertions, deletions, replacements and swaps of neighbours. It is not ok when there are too many of
// them for a slip of the hand: about one in four characters, and never all of a short word.
func edits(a, b string) (int, bool) {
	limit := (max(len(a), len(b)) + 2) / 4
	if len(a)-len(b) > limit || len(b)-len(a) > limit || len(a) > 100 {
		return 0, a == b
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)], last[len(b)] <= limit
}
