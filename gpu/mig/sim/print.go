// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

// table is in Markdown.
func table(rows []row) string {
	var b strings.Builder
	fmt.Fprintln(&b, "| pods | load | | placed | of half a GPU or more | refused with enough slices free | slices used | GPUs left whole |")
	fmt.Fprintln(&b, "|---|---|---|---|---|---|---|---|")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %.1f | %s | %.1f %% | %.1f %% | %.1f %% | %.1f %% | %.2f |\n",
			r.mix, r.load, r.chooser, 100*r.accepted, 100*r.large, 100*r.split, 100*r.used, r.whole)
	}
	return b.String()
}

// plot has a pair of bars for each mix and load: how many of the pods that ask
// for half a GPU or more were placed.
func plot(rows []row) string {
	const left, top, height, bar, gap, apart = 60, 60, 240, 26, 22, 26
	var bars, labels strings.Builder
	x := left + gap
	for i := 0; i < len(rows); i += len(choosers) {
		if i > 0 && rows[i].mix != rows[i-1].mix {
			x += apart
		}
		for k := range choosers {
			r := rows[i+k]
			h := r.large * height
			fmt.Fprintf(&bars, "  <rect x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%.1f\" fill=\"%s\"><title>%s, load %.1f, %s: %.1f %%</title></rect>\n",
				x+k*bar, top+height-h, bar-3, h, []string{"#9a9a9a", "#2f7ed8"}[k], r.mix, r.load, r.chooser, 100*r.large)
		}
		fmt.Fprintf(&labels, "  <text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%.1f</text>\n", x+bar-1, top+height+16, rows[i].load)
		if rows[i].load == loads[len(loads)/2] {
			fmt.Fprintf(&labels, "  <text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", x+bar-1, top+height+34, rows[i].mix)
		}
		x += 2*bar + gap
	}
	width := x + 10
	var axis strings.Builder
	for p := 0; p <= 100; p += 20 {
		y := top + height - p*height/100
		fmt.Fprintf(&axis, "  <line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" stroke=\"#888\" stroke-opacity=\"0.4\"/>\n", left, y, width-10, y)
		fmt.Fprintf(&axis, "  <text x=\"%d\" y=\"%d\" text-anchor=\"end\">%d %%</text>\n", left-8, y+4, p)
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" fill="#777">
  <title>Pods that ask for half a GPU or more, and were placed</title>
  <text x="%d" y="20" font-size="14">Pods that ask for half a GPU or more, and were placed</text>
  <rect x="%d" y="32" width="12" height="12" fill="#9a9a9a"/><text x="%d" y="42">first fit</text>
  <rect x="%d" y="32" width="12" height="12" fill="#2f7ed8"/><text x="%d" y="42">berth</text>
%s%s%s  <text x="%d" y="%d" text-anchor="middle">load: memory slices asked for, as a share of all, and the mix of pods</text>
</svg>
`, width, top+height+64, left, left, left+18, left+90, left+108, axis.String(), bars.String(), labels.String(), width/2, top+height+56)
}
