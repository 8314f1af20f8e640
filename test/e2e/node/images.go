// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"fmt"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"

	"berth/test/e2e/image"
)

// criNamespace is the containerd namespace of CRI.
const criNamespace = "k8s.io"

// loadImages loads those that every node has.
func (n *Node) loadImages(ctx context.Context) error {
	busybox, err := image.FindBusybox()
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	if err := image.Write(&archive, busybox); err != nil {
		return err
	}
	return n.LoadImages(ctx, archive.Bytes())
}

// LoadImages imports an archive of images for clients and for CRI, and unpacks
// them.
func (n *Node) LoadImages(ctx context.Context, archive []byte) error {
	for _, namespace := range []string{n.id, criNamespace} {
		ctx := namespaces.WithNamespace(ctx, namespace)
		images, err := n.client.Import(ctx, bytes.NewReader(archive))
		if err != nil {
			return fmt.Errorf("import images to %s: %w", namespace, err)
		}
		for _, i := range images {
			if err := containerd.NewImage(n.client, i).Unpack(ctx, n.snapshotter); err != nil {
				return fmt.Errorf("unpack %s: %w", i.Name, err)
			}
		}
	}
	return nil
}
