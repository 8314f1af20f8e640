// SPDX-License-Identifier: Apache-2.0

package main

import "fmt"

// around is how many lines that stay are shown around those that do not.
const around = 3

// diffLines compares two texts by their longest common subsequence. Specs have
// a few thousand lines, most of which stay.
func diffLines(a, b []string) []string {
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	marked := make([]string, 0, len(a)+len(b))
	for _, line := range a[:head] {
		marked = append(marked, "  "+line)
	}
	marked = append(marked, middle(a[head:len(a)-tail], b[head:len(b)-tail])...)
	for _, line := range a[len(a)-tail:] {
		marked = append(marked, "  "+line)
	}
	return hunks(marked)
}

func middle(a, b []string) (out []string) {
	// common[i][j] is the length of what a[i:] and b[j:] have in common.
	common := make([][]int32, len(a)+1)
	for i := range common {
		common[i] = make([]int32, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, "  "+a[i])
			i, j = i+1, j+1
		case i < len(a) && (j == len(b) || common[i+1][j] >= common[i][j+1]):
			out = append(out, "- "+a[i])
			i++
		default:
			out = append(out, "+ "+b[j])
			j++
		}
	}
	return out
}

// hunks leaves out what is far from any change.
func hunks(marked []string) (out []string) {
	last := -1 - around // of a changed line
	shown := -1
	for i, line := range marked {
		if line[0] == ' ' {
			continue
		}
		from := max(shown+1, i-around)
		if last >= 0 && from <= last+1+around {
			from = shown + 1
		}
		if from > shown+1 {
			out = append(out, fmt.Sprintf("@@ line %d @@", from+1))
		}
		out = append(out, marked[from:i+1]...)
		last, shown = i, i
	}
	if last >= 0 {
		out = append(out, marked[shown+1:min(len(marked), last+1+around)]...)
	}
	return out
}
