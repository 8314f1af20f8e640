// SPDX-License-Identifier: Apache-2.0

// Package vfio finds out which PCI devices the VFIO devices of a container are,
// and whether they can be handed to a virtual machine.
//
// It reads sysfs (Documentation/driver-api/vfio.rst) and opens no device. A
// group of the IOMMU is what can be handed over: [Find] wants every device of it,
// but for bridges, bound to vfio-pci, because the kernel gives none of them to
// anybody otherwise, and hands over all of them.
//
// What does not belong here: binding devices to drivers, which is the business of
// whoever offers them to containers, and what QEMU is told of them.
package vfio
