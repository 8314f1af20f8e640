// SPDX-License-Identifier: Apache-2.0

// Package template has machines begin as copies of one that has booted already.
package template
