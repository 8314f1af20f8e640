// SPDX-License-Identifier: Apache-2.0

package configs

// TemplateMode is how machines come to be.
type TemplateMode string

const (
	// NoTemplate has each machine boot.
	NoTemplate TemplateMode = "off"
	// CopiedTemplate has machines begin as copies of one that has booted.
	CopiedTemplate TemplateMode = "copy"
	// SharedTemplate has them begin so, and share the memory that they do not
	// write to.
	SharedTemplate TemplateMode = "cow"
)

// templateMinMiB is the least size of a machine that is made of a template.
const templateMinMiB = 128

// Class is the size of a machine that is to be at least so large. There is one
// template for each: with templates, memory is rounded up to a power of two, or
// to what one may have at most.
func (c VM) Class(memoryMiB int) int {
	if c.Template == NoTemplate {
		return memoryMiB
	}
	class := templateMinMiB
	for class < memoryMiB {
		class *= 2
	}
	return min(class, max(memoryMiB, c.MaxMemoryMiB))
}
