// SPDX-License-Identifier: Apache-2.0

package hooks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// write puts an edited spec into the bundle; a spec that no hook changed is left alone.
func (s *Spec) write() error {
	if !s.changed {
		return nil
	}
	raw, err := s.patched()
	if err != nil {
		return fmt.Errorf("encode edited spec: %w", err)
	}
	if raw != nil {
		if err := s.replace(raw); err != nil {
			return fmt.Errorf("write edited spec: %w", err)
		}
		s.raw = raw
	}
	s.changed = false
	return nil
}

// patched is config.json with what the hooks changed, or nil if that is nothing.
func (s *Spec) patched() ([]byte, error) {
	if s.oci == nil {
		return nil, nil
	}
	var orig specs.Spec
	if err := json.Unmarshal(s.raw, &orig); err != nil {
		return nil, err
	}
	before, err := tree(&orig)
	if err != nil {
		return nil, err
	}
	after, err := tree(s.oci)
	if err != nil {
		return nil, err
	}
	if reflect.DeepEqual(before, after) {
		return nil, nil
	}
	doc, err := decode(s.raw)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(merge(doc, before, after)); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// merge carries the difference between before and after over to doc, which before was
// decoded from, so that what the types of before do not know stays in doc.
func merge(doc, before, after any) any {
	if reflect.DeepEqual(before, after) {
		return doc
	}
	switch after := after.(type) {
	case map[string]any:
		d, ok1 := doc.(map[string]any)
		b, ok2 := before.(map[string]any)
		if ok1 && ok2 {
			mergeMap(d, b, after)
			return d
		}
	case []any:
		d, ok1 := doc.([]any)
		b, ok2 := before.([]any)
		if ok1 && ok2 && len(d) == len(b) {
			return mergeList(d, b, after)
		}
	}
	return after
}

func mergeMap(doc, before, after map[string]any) {
	for k := range before {
		if _, ok := after[k]; !ok {
			delete(doc, k)
		}
	}
	for k, v := range after {
		if !reflect.DeepEqual(before[k], v) {
			doc[k] = merge(doc[k], before[k], v)
		}
	}
}

// mergeList keeps the elements that a hook did not touch, wherever it moved them. One that
// was edited in place is recognised by its position if the length is the same; else it is
// taken as new.
func mergeList(doc, before, after []any) []any {
	out := make([]any, len(after))
	for i, v := range after {
		out[i] = v
		if len(before) == len(after) {
			out[i] = merge(doc[i], before[i], v)
			continue
		}
		for j := range before {
			if reflect.DeepEqual(before[j], v) {
				out[i] = doc[j]
				break
			}
		}
	}
	return out
}

// tree is v as generic JSON.
func tree(v any) (any, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return decode(raw)
}

// decode keeps numbers as they are written: a 64-bit limit does not fit a float64.
func decode(raw []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	err := dec.Decode(&v)
	return v, err
}

// replace exchanges config.json in one step, keeping its mode and owner. There is no fsync: a
// machine that crashes takes the container with it, and containerd writes the bundle anew.
func (s *Spec) replace(raw []byte) (retErr error) {
	f, err := os.CreateTemp(s.bundle, "."+configFile+"-*")
	if err != nil {
		return err
	}
	defer func() {
		_ = f.Close()
		if retErr != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if st, ok := s.info.Sys().(*syscall.Stat_t); ok {
		if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	if err := f.Chmod(s.info.Mode().Perm()); err != nil {
		return err
	}
	if _, err := f.Write(raw); err != nil {
		return err
	}
	return os.Rename(f.Name(), s.path())
}
