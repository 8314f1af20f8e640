// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const (
	cdiHook   = "nvidia-cdi-hook"
	cdiTool   = "nvidia-ctk" // has the hooks in older specs
	cdiPrefix = "cdi.k8s.io/"
	// cdiLibcuda and cdiLibnvml are in any driver that CDI puts into a container.
	cdiLibcuda = "/libcuda.so."
	cdiLibnvml = "/libnvidia-ml.so."
	// mountsBelow is NVIDIA's name for requests by mounts.
	mountsBelow = "/var/run/nvidia-container-devices/"
)

// editedBy says what shows that containerd has resolved CDI devices of NVIDIA's:
// an entry of their hook, or device nodes together with the driver's files.
// Nodes alone do not: a privileged container has all nodes of the host.
func editedBy(spec *specs.Spec) string {
	if h := spec.Hooks; h != nil {
		for _, hooks := range [][]specs.Hook{h.CreateRuntime, h.CreateContainer, h.StartContainer} {
			if i := slices.IndexFunc(hooks, isCDIHook); i >= 0 {
				return "hook " + boundedText(strings.Join(hooks[i].Args, " "))
			}
		}
	}
	if spec.Linux == nil || !slices.ContainsFunc(spec.Linux.Devices, isGPUNode) {
		return ""
	}
	for _, m := range spec.Mounts {
		if strings.Contains(m.Destination, cdiLibcuda) || strings.Contains(m.Destination, cdiLibnvml) {
			return "device nodes, and a mount on " + boundedText(m.Destination)
		}
	}
	return ""
}

// isCDIHook says whether a hook is NVIDIA's: "nvidia-cdi-hook NAME …", or in
// older specs "nvidia-ctk hook NAME …".
func isCDIHook(h specs.Hook) bool {
	switch path.Base(h.Path) {
	case cdiHook:
		return true
	case cdiTool:
		return len(h.Args) > 1 && h.Args[1] == "hook"
	}
	return false
}

// isGPUNode says whether a device is /dev/nvidiaN or one of a MIG device.
func isGPUNode(d specs.LinuxDevice) bool {
	_, gpu := decimalID(strings.TrimPrefix(d.Path, "/dev/nvidia"), maxIndex)
	return gpu || strings.HasPrefix(d.Path, "/dev/nvidia-caps/")
}

// cdiDevice is the device that a CDI name is for, in the form of parseDevices,
// or "" if it is another vendor's. NVIDIA's are those of `nvidia-ctk cdi
// generate`, of its runtime and of its device plugin.
func cdiDevice(vendor, class, name string) (string, error) {
	switch vendor {
	case "nvidia.com", "runtime.nvidia.com", "k8s.device-plugin.nvidia.com":
	default:
		return "", nil
	}
	switch {
	case class == "gpu" && name != "":
		return name, nil
	case class == "mig" && name == "all":
		return "mig:all", nil
	case class == "mig":
		if s, ok := parseSelector(name); ok && (s.Kind == SelectMIGUUID || s.Kind == SelectMIGIndex) {
			return name, nil
		}
	}
	return "", fmt.Errorf("the CDI device %.64q is not supported; known are %s/gpu=… and %[2]s/mig=… with all, a UUID or an index: %w",
		vendor+"/"+class+"="+name, vendor, errdefs.ErrInvalidArgument)
}

// fromCDI reads annotations of CDI that containerd has left unresolved, as it
// does for clients other than CRI and where enable_cdi is off.
func fromCDI(in asking) (*Request, error) {
	var source string
	var devices []string
	for _, key := range slices.Sorted(maps.Keys(in.spec.Annotations)) {
		if !strings.HasPrefix(key, cdiPrefix) {
			continue
		}
		for name := range strings.SplitSeq(in.spec.Annotations[key], ",") {
			kind, device, _ := strings.Cut(name, "=")
			vendor, class, _ := strings.Cut(kind, "/")
			device, err := cdiDevice(vendor, class, device)
			if err != nil {
				return nil, fmt.Errorf("annotation %s: %w", boundedText(key), err)
			}
			if device != "" {
				source = "annotation " + boundedText(key)
				devices = append(devices, device)
			}
		}
	}
	if devices == nil {
		return nil, nil
	}
	return requestOf(source, strings.Join(devices, ","), numbersAreIndexes)
}

// annotation finds an annotation of Berth's, that for the container first.
func (in asking) annotation(name string) (key, value string, ok bool) {
	key = AnnotationPrefix + name
	if container := in.spec.Annotations[criContainerName]; container != "" {
		if value, ok = in.spec.Annotations[key+"."+container]; ok {
			return key + "." + container, value, true
		}
	}
	value, ok = in.spec.Annotations[key]
	return key, value, ok
}

func fromAnnotations(in asking) (*Request, error) {
	key, value, ok := in.annotation("gpu")
	if !ok {
		return nil, nil
	}
	r, err := requestOf("annotation "+boundedText(key), value, numbersAreCounts)
	if r != nil {
		r.NoDevices = false // see AnnotationPrefix
		r.Annotated = true
	}
	return r, err
}

// requests calls f for each mount of /dev/null below mountsBelow, with the
// rest of its destination.
func (in asking) requests(f func(i int, rest string) error) error {
	for i, m := range in.spec.Mounts {
		rest, ok := strings.CutPrefix(m.Destination, mountsBelow)
		if !in.mounts || m.Source != "/dev/null" || !ok {
			continue
		}
		if err := f(i, rest); err != nil {
			return fmt.Errorf("mount on %.128q: %w", m.Destination, err)
		}
	}
	return nil
}

func fromMounts(in asking) (*Request, error) {
	var devices []string
	var remove []int
	err := in.requests(func(i int, rest string) (err error) {
		if strings.HasPrefix(rest, "imex/") {
			return nil // see complete: it asks for no GPU
		}
		if name, ok := strings.CutPrefix(rest, "cdi/"); ok {
			vendor, name, _ := strings.Cut(name, "/")
			class, device, _ := strings.Cut(name, "/")
			rest, err = cdiDevice(vendor, class, device)
		}
		if rest == "" || err != nil {
			return err
		}
		devices, remove = append(devices, rest), append(remove, i)
		return nil
	})
	if devices == nil || err != nil {
		return nil, err
	}
	r, err := requestOf("mounts below "+mountsBelow, strings.Join(devices, ","), numbersAreIndexes)
	if r != nil {
		r.Remove = remove
	}
	return r, err
}
