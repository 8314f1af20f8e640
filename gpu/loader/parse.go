// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
)

// The two formats (sysdeps/generic/dl-cache.h of glibc). A file of the older one
// has, since glibc 2.2, the newer one behind its table. Numbers are those of the
// machine, which is little endian wherever the driver is.
//
//	older: magic 11, pad 1, count 4; per entry: flags, soname, path, 4 each; strings
//	newer: magic 17, version 3, count 4, length of strings 4, byte order 1, pad 3,
//	       extensions 4, unused 12; per entry: the same, os version 4, hwcap 8; strings
//	extensions: magic 4, count 4; per section: tag, flags, offset, size, 4 each
//
// Strings end with NUL; their offsets count from the end of the older table in the
// older format, from the newer magic in the newer. Offsets of extensions and
// sections count from the beginning of the file.
const (
	magicOld   = "ld.so-1.7.0"
	magicNew   = "glibc-ld.so.cache"
	version    = "1.1"
	magicExt   = 0xeaa42174
	headerOld  = 16
	headerNew  = 48
	sizeOld    = 12
	sizeNew    = 24
	sizeExt    = 8
	sizeSect   = 16
	littleFlag = 2
	tagHwcaps  = 1
)

// What a cache may have: a large distribution has 5,000 entries in 400 KiB.
const (
	MaxCache    = 16 << 20 // bytes of a file
	maxEntries  = 200_000
	maxSections = 64
	maxHwcaps   = 1024
	maxString   = 4096 // PATH_MAX
)

// cacheFile is the bytes of a cache file; as a string, parts of it share its memory.
type cacheFile string

// isCache says whether the loader takes this file for a cache at all.
func isCache(data []byte) bool {
	return strings.HasPrefix(string(data[:min(len(data), len(magicNew))]), magicNew) ||
		strings.HasPrefix(string(data[:min(len(data), len(magicOld))]), magicOld)
}

// Parse reads an ld.so.cache of either format.
func Parse(data []byte) (*Cache, error) {
	if len(data) > MaxCache {
		return nil, cacheError("%d bytes, more than %d", len(data), MaxCache)
	}
	if !isCache(data) {
		return nil, cacheError("it begins with neither %q nor %q", magicNew, magicOld)
	}
	f := cacheFile(data)
	if !strings.HasPrefix(string(f), magicOld) {
		return f.parseNew(0)
	}
	count, err := f.count(headerOld-4, headerOld, sizeOld)
	if err != nil {
		return nil, err
	}
	end := headerOld + count*sizeOld
	// The newer header is aligned as its writer's C compiler does it: 8, or 4 (i386).
	for _, align := range []int{8, 4} {
		at := (end + align - 1) &^ (align - 1)
		if at <= len(f) && strings.HasPrefix(string(f[at:]), magicNew) {
			return f.parseNew(at)
		}
	}
	c := &Cache{Entries: make([]Entry, 0, count)}
	return c, f.entries(c, count, headerOld, sizeOld, end)
}

func (f cacheFile) parseNew(at int) (*Cache, error) {
	if len(f) < at+headerNew {
		return nil, cacheError("the header is cut off")
	}
	if v := f[at+len(magicNew):][:len(version)]; v != version {
		return nil, cacheError("version %q, only %q is known", string(v), version)
	}
	if order := f[at+28] & 3; order != 0 && order != littleFlag {
		return nil, cacheError("it is of a big-endian machine, or marked invalid")
	}
	count, err := f.count(at+20, at+headerNew, sizeNew)
	if err != nil {
		return nil, err
	}
	c := &Cache{Entries: make([]Entry, 0, count)}
	if err := f.entries(c, count, at+headerNew, sizeNew, at); err != nil {
		return nil, err
	}
	if ext := int(f.u32(at + 32)); ext != 0 {
		c.sections, err = f.sections(ext, at)
	}
	return c, err
}

// count reads the number of entries of a size in a table, all of which are there.
func (f cacheFile) count(at, table, size int) (int, error) {
	if len(f) < table {
		return 0, cacheError("the header is cut off")
	}
	n := int(f.u32(at))
	if n > maxEntries || n*size > len(f)-table {
		return 0, cacheError("it claims %d entries, in %d bytes", n, len(f))
	}
	return n, nil
}

func (f cacheFile) entries(c *Cache, count, table, size, base int) error {
	for i := range count {
		at := table + i*size
		soname, ok1 := f.text(base, f.u32(at+4))
		path, ok2 := f.text(base, f.u32(at+8))
		if !ok1 || !ok2 {
			return cacheError("a string of entry %d is too long or beyond the end", i)
		}
		e := Entry{Soname: soname, Path: path, ABI: ABI(f.u32(at))}
		if size == sizeNew {
			e.OSVersion, e.Hwcap = f.u32(at+12), uint64(f.u32(at+20))<<32|uint64(f.u32(at+16))
		}
		c.Entries = append(c.Entries, e)
	}
	return nil
}

func (f cacheFile) sections(at, base int) ([]section, error) {
	if at%4 != 0 || len(f)-at < sizeExt || f.u32(at) != magicExt {
		return nil, cacheError("no extensions at offset %d", at)
	}
	count := int(f.u32(at + 4))
	if count > maxSections || count*sizeSect > len(f)-at-sizeExt {
		return nil, cacheError("it claims %d extensions", count)
	}
	var sections []section
	for i := range count {
		h := at + sizeExt + i*sizeSect
		s := section{tag: f.u32(h), flags: f.u32(h + 4)}
		offset, size := int(f.u32(h+8)), int(f.u32(h+12))
		if offset > len(f) || size > len(f)-offset {
			return nil, cacheError("extension %d is beyond the end", i)
		}
		s.data = string(f[offset : offset+size])
		if s.tag == tagHwcaps {
			if size%4 != 0 || size/4 > maxHwcaps {
				return nil, cacheError("%d bytes of hwcaps", size)
			}
			for j := offset; j < offset+size; j += 4 {
				name, ok := f.text(base, f.u32(j))
				if !ok {
					return nil, cacheError("a hwcaps name is too long or beyond the end")
				}
				s.names = append(s.names, name)
			}
		}
		sections = append(sections, s)
	}
	return sections, nil
}

func (f cacheFile) u32(at int) uint32 { return binary.LittleEndian.Uint32([]byte(f[at : at+4])) }

// text is the string at an offset from base.
func (f cacheFile) text(base int, offset uint32) (string, bool) {
	at := base + int(offset)
	if at >= len(f) {
		return "", false
	}
	s := string(f[at:min(len(f), at+maxString+1)])
	end := strings.IndexByte(s, 0)
	return s[:max(end, 0)], end >= 0
}

func cacheError(format string, args ...any) error {
	return fmt.Errorf("read ld.so.cache: %s: %w", fmt.Sprintf(format, args...), errdefs.ErrInvalidArgument)
}
