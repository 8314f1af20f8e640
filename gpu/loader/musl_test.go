// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"os"
	"slices"
	"testing"
)

// muslProbe needs nothing of musl but its loader, which has set up the C library
// before it jumps to _start.
const muslProbe = `
extern void *dlopen(const char *, int), *dlsym(void *, const char *);
extern int puts(const char *), fflush(void *);
extern void _exit(int);
#ifdef __x86_64__
__attribute__((force_align_arg_pointer))
#endif
void _start(void) {
	void *h = dlopen("libcuda.so.1", 2);
	const char *(*who)(void) = h ? dlsym(h, "who") : 0;
	puts(who ? who() : "missing");
	fflush(0);
	_exit(0);
}`

func TestMuslFindsTheLibraries(t *testing.T) {
	pl := native(t)
	libc := "/lib/ld-musl-" + pl.musl + ".so.1"
	if _, err := os.Stat(libc); err != nil {
		t.Skip("needs musl's loader, " + libc + " (Debian's package musl)")
	}
	path := "/etc/ld-musl-" + pl.musl + ".path"
	for name, c := range map[string]struct{ before, after string }{
		"no path file":        {"", driverDir + "\n/lib\n/usr/local/lib\n/usr/lib\n"},
		"a path file":         {"/opt/lib:/lib\n", driverDir + "\n/opt/lib\n/lib\n"},
		"a path file of ours": {driverDir + "\n/lib\n", driverDir + "\n/lib\n"},
	} {
		t.Run(name, func(t *testing.T) {
			im := newEmptyImage(t)
			im.write("/probe.c", muslProbe)
			im.cc("-nostdlib", "-fno-stack-protector", "-fno-builtin", "-Wl,--dynamic-linker="+libc, "-o", im.at("/probe"), im.at("/probe.c"), libc)
			im.copy(libc, libc)
			// The program was linked with the loader's soname, libc.so or its file name.
			for _, alias := range []string{"/lib/libc.so", "/lib/libc.musl-" + pl.musl + ".so.1"} {
				im.link(libc, alias)
			}
			if c.before != "" {
				im.write(path, c.before)
			}
			im.mounted("1", func() {
				if c.before != c.after {
					im.wants("missing")
				}
				p := im.install(config(t, "1"))
				if !slices.Equal(p.Loaders, []string{"musl " + pl.musl}) {
					t.Errorf("loaders: %v", p.Loaders)
				}
				im.wants("driver-1")
			})
			if data, _ := os.ReadFile(im.at(path)); string(data) != c.after {
				t.Errorf("%s: %q", path, data)
			}
			if p := im.install(config(t, "1")); len(p.Files) != 0 {
				t.Errorf("the second time: %v", p.Lines)
			}
		})
	}
}

// Without a musl loader of the host: which files there would be.
func TestMuslPathFile(t *testing.T) {
	im := newEmptyImage(t)
	im.write("/lib/ld-musl-x86_64.so.1", "loader")
	im.write("/lib/ld-musl-aarch64.so.1", "loader of no library of ours")
	im.write("/etc/ld-musl-x86_64.path", "/a:/usr/local/nvidia/lib64:/b\x00/c")
	p := im.install(Config{Dirs: []Dir{{"/usr/local/nvidia/lib", I386}, {driverDir, X8664}}})
	if len(p.Files) != 1 || string(p.Files[0].Data) != driverDir+"\n/a\n/b\n" {
		t.Errorf("plan of %d files: %q", len(p.Files), p.Lines)
	}
}
