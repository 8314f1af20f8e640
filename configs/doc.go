// SPDX-License-Identifier: Apache-2.0

// Package configs holds the typed configuration of Berth and decodes it
// strictly: a key that is not known is an error that names it and lists the
// known ones, because a misspelt option that is silently ignored is found in
// production.
//
// Values are read once and passed on by value. The files shipped beside the
// package (*.toml, *.yaml) are examples for an operator; no program reads
// them.
//
// What does not belong here: where the bytes come from (protobuf, stdin,
// flags), which is the shim's business.
package configs
