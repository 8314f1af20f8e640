// SPDX-License-Identifier: Apache-2.0

package oracle

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// row is one explanation. In its patterns * is any text, and – that the side does not have it.
type row struct {
	difference
	where string // a case of TestParity, or "any"
	line  int    // in the document
	used  bool
}

type table []*row

// readTable reads the rows of a document's only table with five columns.
func readTable(t *testing.T, path string) table {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var rows table
	for i, line := range strings.Split(string(text), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 7 || strings.HasPrefix(line, "|---") || strings.HasPrefix(line, "| what ") {
			continue
		}
		for i := range cells {
			cells[i] = strings.Trim(strings.TrimSpace(cells[i]), "`")
		}
		r := &row{difference: difference{cells[1], cells[2], cells[3]}, where: cells[4], line: i + 1}
		if r.what == "" || r.nvcdi == r.berth || r.where == "" || cells[5] == "" {
			t.Errorf("%s:%d: a row says what differs, how on both sides, where and why", path, r.line)
		}
		rows = append(rows, r)
	}
	if len(rows) == 0 {
		t.Fatalf("%s has no table", path)
	}
	return rows
}

// unexplained are the differences without a row. All rows that match one are in use.
func (rows table) unexplained(where string, found []difference) (out []difference) {
	for _, d := range found {
		explained := false
		for _, r := range rows {
			if (r.where == "any" || r.where == where) && glob(r.what, d.what) && side(r.nvcdi, d.nvcdi) && side(r.berth, d.berth) {
				r.used, explained = true, true
			}
		}
		if !explained {
			out = append(out, d)
		}
	}
	return out
}

// side matches what one side has: * is not nothing.
func side(pattern, value string) bool {
	return (pattern == absent) == (value == absent) && glob(pattern, value)
}

func TestTable(t *testing.T) {
	doc := filepath.Join(t.TempDir(), "doc.md")
	write(t, doc, "words\n\n| what | nvcdi | Berth | where | why |\n|---|---|---|---|---|\n"+
		"| `file /run/*` | `at *` | – | any | policy |\n| `env A` | `1` | `2` | here | taste |\n| `file /gone` | – | `at *` | any | history |\n")
	run, env := difference{"file /run/x", "at /run/x", absent}, difference{"env A", "1", "2"}
	for _, c := range []struct {
		name, where string
		found       []difference
		unexplained []difference
		unused      []string
	}{
		{"all explained", "here", []difference{run, env, {"file /gone", absent, "at /gone"}}, nil, nil},
		{"a row too many", "here", []difference{run, env}, nil, []string{"file /gone"}},
		{"another file", "here", []difference{{"file /runx", "at /runx", absent}}, []difference{{"file /runx", "at /runx", absent}},
			[]string{"file /run/*", "env A", "file /gone"}},
		{"the other side", "here", []difference{{"file /run/x", absent, "at /run/x"}}, []difference{{"file /run/x", absent, "at /run/x"}},
			[]string{"file /run/*", "env A", "file /gone"}},
		{"elsewhere", "there", []difference{run, env}, []difference{env}, []string{"env A", "file /gone"}},
		{"another value", "here", []difference{run, {"env A", "1", "3"}}, []difference{{"env A", "1", "3"}}, []string{"env A", "file /gone"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			rows := readTable(t, doc)
			if got := rows.unexplained(c.where, c.found); !slices.Equal(got, c.unexplained) {
				t.Errorf("unexplained %v, want %v", got, c.unexplained)
			}
			var unused []string
			for _, r := range rows {
				if !r.used {
					unused = append(unused, r.what)
				}
			}
			if !slices.Equal(unused, c.unused) {
				t.Errorf("unused %q, want %q", unused, c.unused)
			}
		})
	}
}
