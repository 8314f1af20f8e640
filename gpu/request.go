// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"bytes"
	"fmt"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// AnnotationPrefix begins the annotations that are Berth's own:
//
//	berth.dev/gpu: "all" | "2" (any two) | "index:0,2" | "GPU-…,MIG-…" | "0:1" | "none"
//	berth.dev/gpu-capabilities: "compute,utility"
//	berth.dev/mig: "3g.71gb" | "1g.18gb:2" (two) | ">=20GiB" | a list of these
//	berth.dev/mig-share: "pod"
//
// Each may end in a dot and a container's name; it then is for that container
// of a pod, and the one without for the others. "none" asks for nothing, and
// keeps mounts and the environment from asking.
const AnnotationPrefix = "berth.dev/"

// Annotations that containerd's CRI plugin sets.
const (
	criContainerType = "io.kubernetes.cri.container-type"
	criContainerName = "io.kubernetes.cri.container-name"
	criSandboxID     = "io.kubernetes.cri.sandbox-id"
)

// Policy says which sources of requests count.
type Policy struct {
	// EnvPlain and EnvKubernetes name the environment variables that may ask
	// for devices in a plain container and in one of a pod. Where
	// NVIDIA_VISIBLE_DEVICES is among them, NVIDIA_IMEX_CHANNELS, NVIDIA_GDS
	// and the like count too; otherwise each only if it is named itself.
	EnvPlain, EnvKubernetes []string
	// VolumeMounts has mounts below /var/run/nvidia-container-devices count.
	VolumeMounts bool
}

// Request is what a container asks for.
type Request struct {
	Source string // where it asks, as in "annotation berth.dev/gpu"
	Asked  string // the text as asked, cut where it is long

	Devices   []Selector // without duplicates; empty with NoDevices and Edited
	NoDevices bool       // the driver's files without a device
	// Annotated says that an annotation of Berth's asks for Devices.
	Annotated bool
	// Slices are MIG devices to be made. Devices is then empty.
	Slices *SliceRequest

	Capabilities Capability
	Require      []Requirement // each must be met by each of the devices
	IMEX         []int         // channels
	AllIMEX      bool
	GDS          bool
	MOFED        bool
	GDRCopy      bool
	NVSwitch     bool

	// Edited says that containerd has put devices into the spec already, by
	// CDI: nothing is to be injected but what entries of nvidia-cdi-hook do.
	// Nothing else of the request is set.
	Edited bool
	// Remove are the indexes in spec.Mounts of the mounts that ask, which are
	// not meant to be mounted.
	Remove []int
}

// Wanted is a cheap look at the bytes of a config.json: if it is false, nothing
// in them can be a request, and the spec need not be decoded. It takes the
// encoding to be that of containerd, which escapes no letter and no slash; in
// another one a request may go unseen, but none comes into being.
func (p Policy) Wanted(config []byte) bool {
	has := func(s string) bool { return bytes.Contains(config, []byte(s)) }
	names := p.EnvPlain
	if has(`"` + criContainerType + `":`) {
		names = p.EnvKubernetes
	}
	for _, name := range names {
		if has(`"` + name + `=`) {
			return true
		}
	}
	if has(`"`+AnnotationPrefix+"gpu") || has(`"`+AnnotationPrefix+"mig") {
		return true
	}
	return has("nvidia") && (has(cdiHook) || has(cdiTool) || has(`"`+cdiPrefix) && has("nvidia.com") ||
		p.VolumeMounts && has(`"`+mountsBelow) || has(`"/dev/nvidia`) && (has(cdiLibcuda) || has(cdiLibnvml)))
}

// asking is a spec that is searched for requests.
type asking struct {
	spec   *specs.Spec
	env    []string
	names  []string // the environment variables that may ask for devices
	mounts bool
}

// ParseRequest reads what a container asks for, from the first source that
// says anything: CDI, annotations, mounts, the environment. It returns nil if
// the container asks for nothing. The error is errdefs.ErrInvalidArgument.
//
// What is not followed, on purpose, is NVIDIA's rule that an image with
// CUDA_VERSION, but without NVIDIA_REQUIRE_CUDA and NVIDIA_VISIBLE_DEVICES, gets
// every GPU: such images are from before 2017, and nobody asked.
func ParseRequest(spec *specs.Spec, p Policy) (*Request, error) {
	kind, pod := spec.Annotations[criContainerType]
	if kind == "sandbox" {
		return nil, nil // pause needs no GPU, whatever its pod is annotated with
	}
	if by := editedBy(spec); by != "" {
		return &Request{Source: "CDI edits by containerd", Asked: by, Edited: true}, nil
	}
	in := asking{spec: spec, names: p.EnvPlain, mounts: p.VolumeMounts}
	if pod {
		in.names = p.EnvKubernetes
	}
	if spec.Process != nil {
		in.env = spec.Process.Env
	}
	for _, source := range [...]func(asking) (*Request, error){fromCDI, fromMIG, fromAnnotations, fromMounts, fromEnv} {
		r, err := source(in)
		if err != nil {
			return nil, err
		}
		if r == nil {
			continue
		}
		if len(r.Devices) == 0 && !r.NoDevices && r.Slices == nil {
			return nil, nil
		}
		if err := r.complete(in); err != nil {
			return nil, err
		}
		return r, nil
	}
	return nil, nil
}

// requestOf is the request that text makes, which says nothing if it is empty.
func requestOf(source, text string, bare numbers) (*Request, error) {
	devices, none, err := parseDevices(text, bare)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	return &Request{Source: source, Asked: boundedText(text), Devices: devices, NoDevices: none}, nil
}

// boundedText is s fit for a message: cut where it is too long, and without
// control characters.
func boundedText(s string) string {
	const most = 256
	cut := ""
	if len(s) > most {
		s, cut = s[:most], "…"
	}
	quoted := strconv.Quote(s)
	return quoted[1:len(quoted)-1] + cut
}
