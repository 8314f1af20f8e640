// SPDX-License-Identifier: Apache-2.0

package native

import (
	"reflect"
	"strings"
)

// fields are those that were set, by their names in JSON with dots between them.
type fields map[string]bool

func (f fields) add(v reflect.Value, at string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			if !f.isStruct(v.Type().Elem()) { // a pointer to zero says something
				f[at] = true
			}
			f.add(v.Elem(), at)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if name := fieldName(v.Type().Field(i), at); name != "" {
				f.add(v.Field(i), name)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			f.add(v.Index(i), at)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			f.add(v.MapIndex(key), at)
		}
	default:
		if !v.IsZero() {
			f[at] = true
		}
	}
}

func (fields) isStruct(t reflect.Type) bool { return t.Kind() == reflect.Struct }

// allFields are those that there are.
func allFields(t reflect.Type, at string) []string {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return allFields(t.Elem(), at)
	case reflect.Struct:
		var all []string
		for i := range t.NumField() {
			if name := fieldName(t.Field(i), at); name != "" {
				all = append(all, allFields(t.Field(i).Type, name)...)
			}
		}
		return all
	}
	return []string{at}
}

// fieldName is empty for a field of another system.
func fieldName(f reflect.StructField, at string) string {
	if platform := f.Tag.Get("platform"); platform != "" && !strings.Contains(platform, "linux") {
		return ""
	}
	if f.Anonymous {
		return at
	}
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return strings.TrimPrefix(at+"."+name, ".")
}
