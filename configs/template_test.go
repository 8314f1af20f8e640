// SPDX-License-Identifier: Apache-2.0

package configs

import "testing"

func TestClass(t *testing.T) {
	for _, c := range []struct {
		mode               TemplateMode
		most, memory, want int
	}{
		{NoTemplate, 1024, 300, 300}, {CopiedTemplate, 1024, 300, 512}, {SharedTemplate, 1024, 512, 512},
		{CopiedTemplate, 1024, 96, 128}, {CopiedTemplate, 700, 600, 700}, {CopiedTemplate, 100, 100, 100},
	} {
		conf := DefaultVM()
		conf.Template, conf.MaxMemoryMiB = c.mode, c.most
		if got := conf.Class(c.memory); got != c.want {
			t.Errorf("%s: %d MiB of at most %d become %d, want %d", c.mode, c.memory, c.most, got, c.want)
		}
	}
}
