// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pierrec/lz4/v4"

	"berth/sandbox/vm/image"
)

// elfFile is an ELF file with one section and one segment of notes or of the
// kind that a program interpreter has.
func elfFile(t *testing.T, segment elf.ProgType, content []byte, section string, data []byte) []byte {
	t.Helper()
	names := "\x00.shstrtab\x00" + section + "\x00"
	const headers = 64 + 56
	var b bytes.Buffer
	put := func(v any) {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	end := uint64(headers + len(content) + len(names) + len(data))
	put(elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1,
		Phoff: 64, Shoff: end, Ehsize: 64, Phentsize: 56, Phnum: 1, Shentsize: 64, Shnum: 3, Shstrndx: 1,
	})
	put(elf.Prog64{Type: uint32(segment), Off: headers, Filesz: uint64(len(content)), Memsz: uint64(len(content))})
	b.Write(content)
	b.WriteString(names)
	b.Write(data)
	put(elf.Section64{})
	at := uint64(headers + len(content))
	put(elf.Section64{Name: 1, Type: uint32(elf.SHT_STRTAB), Off: at, Size: uint64(len(names))})
	put(elf.Section64{Name: 11, Type: uint32(elf.SHT_PROGBITS), Off: at + uint64(len(names)), Size: uint64(len(data))})
	return b.Bytes()
}

// note is one note of an ELF file.
func note(name string, kind uint32, desc []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(name)+1))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(desc)))
	b = binary.LittleEndian.AppendUint32(b, kind)
	b = append(b, name...)
	b = append(b, make([]byte, 4-len(name)%4)...)
	b = append(b, desc...)
	return append(b, make([]byte, (4-len(desc)%4)%4)...)
}

// bzImage wraps a kernel the way that Linux does.
func bzImage(t *testing.T, vmlinux []byte) []byte {
	t.Helper()
	var payload bytes.Buffer
	w := lz4.NewWriter(&payload)
	if err := w.Apply(lz4.LegacyOption(true)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(vmlinux); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	sized := binary.LittleEndian.AppendUint32(payload.Bytes(), uint32(len(vmlinux)))
	b := make([]byte, 2*sector, 2*sector+len(sized))
	b[offSetupSects] = 1
	copy(b[offHeaderMagic:], "HdrS")
	binary.LittleEndian.PutUint16(b[offVersion:], 0x020f)
	binary.LittleEndian.PutUint32(b[offPayloadLength:], uint32(len(sized)))
	return append(b, sized...)
}

// tree is an unpacked package of a kernel that has every option, with what its
// modules depend on.
func tree(t *testing.T, depends map[string]string) string {
	t.Helper()
	root := t.TempDir()
	var config strings.Builder
	for _, r := range requirements {
		config.WriteString(r.option + "=" + map[bool]string{true: "y", false: "m"}[r.module == ""] + "\n")
	}
	pvh := append(note("Linux", 7, []byte{1}), note("Xen", pvhEntry, make([]byte, 8))...)
	vmlinux := append(elfFile(t, elf.PT_NOTE, pvh, ".text", nil), bytes.Repeat([]byte("kernel "), 1<<20)...)
	put(t, root, "boot/vmlinuz-6.1.0", bzImage(t, vmlinux))
	put(t, root, "boot/config-6.1.0", []byte(config.String()))
	put(t, root, "lib/modules/6.1.0/modules.builtin", []byte("kernel/fs/ext4/ext4.ko\n"))
	for name, list := range depends {
		info := "license=GPL\x00depends=" + list + "\x00name=" + name + "\x00"
		put(t, root, "lib/modules/6.1.0/kernel/drivers/"+name+".ko", elfFile(t, elf.PT_NULL, nil, ".modinfo", []byte(info)))
	}
	return root
}

// debian is what Debian's modules depend on.
func debian() map[string]string {
	return map[string]string{
		"virtio_ring": "", "virtio": "", "virtio_mmio": "virtio,virtio_ring", "virtio_console": "virtio,virtio_ring",
		"virtio-rng": "virtio,virtio_ring", "virtio_balloon": "virtio,virtio_ring", "fuse": "", "virtiofs": "virtio,virtio_ring,fuse",
		"overlay": "", "virtio_scsi": "scsi_mod,virtio,virtio_ring", "scsi_mod": "scsi-common", "scsi_common": "",
		"sd_mod": "scsi_mod", "libcrc32c": "", "erofs": "libcrc32c", "virtio_net": "net_failover,virtio", "net_failover": "failover", "failover": "",
		"virtio_pci": "virtio_pci_modern_dev,virtio_pci_legacy_dev,virtio,virtio_ring", "virtio_pci_modern_dev": "", "virtio_pci_legacy_dev": "",
	}
}

func put(t *testing.T, root, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func source(t *testing.T, root string) Source {
	program := put(t, t.TempDir(), "program", elfFile(t, elf.PT_LOAD, nil, ".text", nil))
	return Source{Root: root, Agent: program}
}

func TestBuildIsReproducible(t *testing.T) {
	src := source(t, tree(t, debian()))
	var images []image.Image
	for range 2 {
		img, err := Build(t.TempDir(), src)
		if err != nil {
			t.Fatal(err)
		}
		img.Kernel, img.Initramfs = filepath.Base(img.Kernel), filepath.Base(img.Initramfs)
		images = append(images, img)
	}
	if a, b := images[0], images[1]; a.Kernel != b.Kernel || a.Initramfs != b.Initramfs {
		t.Errorf("the same inputs gave\n%v and\n%v", a, b)
	}
}

func TestBuildLeavesOnlyTheImage(t *testing.T) {
	dir := t.TempDir()
	img, err := Build(dir, source(t, tree(t, debian())))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	want := []string{image.Description, filepath.Base(img.Initramfs), filepath.Base(img.Kernel)}
	if !slices.Equal(names, want) {
		t.Errorf("the directory has %v, want %v", names, want)
	}
}

func TestModulesFollowWhatTheyDependOn(t *testing.T) {
	depends := debian()
	img, err := Build(t.TempDir(), source(t, tree(t, depends)))
	if err != nil {
		t.Fatal(err)
	}
	at := make(map[string]int)
	for i, m := range img.Modules {
		at[m] = i
	}
	if len(at) != len(depends) {
		t.Errorf("%d modules are in the image, the package has %d that are wanted", len(at), len(depends))
	}
	if at["virtio_ring"] > at["virtio"] {
		t.Error("virtio precedes virtio_ring")
	}
	for name, list := range depends {
		for d := range strings.SplitSeq(list, ",") {
			if d != "" && at[moduleName(d)] > at[moduleName(name)] {
				t.Errorf("%s precedes %s, which it depends on", name, d)
			}
		}
	}
}

func TestBuildSaysWhatIsMissing(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, root string, src *Source)
		says  []string
	}{
		"options": {func(t *testing.T, root string, _ *Source) {
			put(t, root, "boot/config-6.1.0", []byte("CONFIG_PVH=m\n# CONFIG_VIRTIO_FS is not set\n"))
		}, []string{"CONFIG_PVH is m and must be y", "CONFIG_VIRTIO_FS is not set (file systems shared", "CONFIG_MEMCG", "linux-image-cloud-amd64"}},
		"a module": {func(t *testing.T, root string, _ *Source) {
			if err := os.Remove(filepath.Join(root, "lib/modules/6.1.0/kernel/drivers/net_failover.ko")); err != nil {
				t.Fatal(err)
			}
		}, []string{"virtio_net", "no module net_failover"}},
		"compressed modules": {func(t *testing.T, root string, _ *Source) {
			old := filepath.Join(root, "lib/modules/6.1.0/kernel/drivers/fuse.ko")
			if err := os.Rename(old, old+".xz"); err != nil {
				t.Fatal(err)
			}
		}, []string{"module fuse is compressed (.xz)"}},
		"no module": {func(t *testing.T, root string, _ *Source) {
			put(t, root, "lib/modules/6.1.0/kernel/drivers/fuse.ko", bytes.Repeat([]byte("#!/bin/sh\n"), 20))
		}, []string{"fuse.ko", "bad magic"}},
		"a kernel": {func(t *testing.T, root string, _ *Source) {
			if err := os.Remove(filepath.Join(root, "boot/vmlinuz-6.1.0")); err != nil {
				t.Fatal(err)
			}
		}, []string{"no boot/vmlinuz-*", "unpack a kernel package"}},
		"one kernel of two": {func(t *testing.T, root string, _ *Source) {
			put(t, root, "boot/vmlinuz-6.2.0", nil)
		}, []string{"6.1.0, 6.2.0", "--release"}},
		"the one asked for": {func(_ *testing.T, _ string, src *Source) { src.Release = "5.0" }, []string{"kernel 5.0", "vmlinuz-5.0"}},
		"a bzImage": {func(t *testing.T, root string, _ *Source) {
			put(t, root, "boot/vmlinuz-6.1.0", []byte("MZ"))
		}, []string{"no bzImage"}},
		"half of a kernel": {func(t *testing.T, root string, _ *Source) {
			path := filepath.Join(root, "boot/vmlinuz-6.1.0")
			if err := os.Truncate(path, 3*sector); err != nil {
				t.Fatal(err)
			}
		}, []string{"not whole"}},
		"PVH": {func(t *testing.T, root string, _ *Source) {
			put(t, root, "boot/vmlinuz-6.1.0", bzImage(t, elfFile(t, elf.PT_NOTE, note("Linux", 7, nil), ".text", nil)))
		}, []string{"no PVH entry"}},
		"a static agent": {func(t *testing.T, _ string, src *Source) {
			src.Agent = put(t, t.TempDir(), "agent", elfFile(t, elf.PT_INTERP, []byte("/lib64/ld-linux-x86-64.so.2\x00"), ".text", nil))
		}, []string{"agent is linked dynamically", "static"}},
	} {
		t.Run(name, func(t *testing.T) {
			root := tree(t, debian())
			src := source(t, root)
			c.spoil(t, root, &src)
			_, err := Build(t.TempDir(), src)
			if err == nil {
				t.Fatal("it was built all the same")
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
		})
	}
}

func FuzzHasNote(f *testing.F) {
	f.Add(append(note("Linux", 7, []byte{1}), note("Xen", pvhEntry, make([]byte, 8))...))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(_ *testing.T, notes []byte) { hasNote(notes, "Xen\x00", pvhEntry) })
}
