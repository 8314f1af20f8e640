// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"html"
	"time"
)

// The drawing, in pixels.
const (
	left, width, right = 210, 900, 60
	row, gap           = 18, 46
)

// The colours tell what runs: a program, or what was forked and is none yet.
const (
	inCall    = "#4c78a8"
	inProgram = "#f58518"
	inFork    = "#bab0ac"
)

// draw is an SVG with a part for each phase, all to one scale.
func draw(title string, phases []*phase) []byte {
	var longest time.Duration
	rows := 0
	for _, p := range phases {
		longest = max(longest, p.took())
		rows += 1 + len(p.processes)
	}
	height := 60 + rows*row + len(phases)*gap
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">`+"\n",
		left+width+right, height, left+width+right, height)
	fmt.Fprint(&b, `<rect width="100%" height="100%" fill="white"/>`+"\n")
	fmt.Fprintf(&b, `<text x="8" y="20" font-size="14">%s</text>`+"\n", html.EscapeString(title))
	fmt.Fprintf(&b, `<text x="8" y="36"><tspan fill="%s">■</tspan> a call of containerd <tspan fill="%s">■</tspan> a process from exec to exit <tspan fill="%s">■</tspan> from fork to exec; times in ms</text>`+"\n",
		inCall, inProgram, inFork)
	y := 60
	for _, p := range phases {
		y = p.draw(&b, y, longest)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// draw adds a phase at y and returns where the next one begins.
func (p *phase) draw(b *bytes.Buffer, y int, scale time.Duration) int {
	x := func(t time.Duration) float64 {
		t = min(max(t, p.begin()), p.end()) - p.begin()
		return left + float64(width)*float64(t)/float64(scale)
	}
	bar := func(y int, from, to time.Duration, colour, tip string) {
		fmt.Fprintf(b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s" stroke="white" stroke-width="0.5"><title>%s</title></rect>`+"\n",
			x(from), y, max(x(to)-x(from), 0.8), row-4, colour, html.EscapeString(tip))
	}
	label := func(x float64, y int, anchor, text string) {
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="%s">%s</text>`+"\n", x, y+row-8, anchor, html.EscapeString(text))
	}
	label(8, y, "start", fmt.Sprintf("%s: %s", p.name, ms(p.took())))
	for _, s := range p.spans {
		bar(y, s.begin, s.end, inCall, s.name+" "+ms(s.end-s.begin))
		if x(s.end)-x(s.begin) > 60 {
			fmt.Fprintf(b, `<text x="%.1f" y="%d" fill="white">%s %s</text>`+"\n", x(s.begin)+4, y+row-8, html.EscapeString(s.name), ms(s.end-s.begin))
		}
	}
	for _, proc := range p.processes {
		y += row
		end := proc.end
		if end == 0 {
			end = p.end()
		}
		began := end
		if len(proc.execs) > 0 {
			began = proc.execs[0].at
		}
		bar(y, proc.begin, began, inFork, "forked")
		bar(y, began, end, inProgram, proc.label()+" "+ms(end-began))
		label(left-6, y, "end", proc.label())
		if proc.begin >= p.begin() && proc.end != 0 && proc.end <= p.end() {
			label(x(end)+4, y, "start", ms(end-proc.begin))
		}
	}
	return y + gap
}
