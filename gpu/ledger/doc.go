// SPDX-License-Identifier: Apache-2.0

// Package ledger is the write-ahead journal of the MIG instances that Berth makes: who has which
// slice of which GPU, on disk before and after each step, so that whoever comes after a crash
// knows what was made and for whom.
//
// There is a directory a GPU, <run>/gpu/mig/<bus id>, with one file a slice, written whole (a
// temporary file, fsync, rename, fsync of the directory), and a lock. Only the holder of the lock
// ([Dir.Lock]) writes, and it holds it for a whole transaction, so to any later holder
//
//	Intent      a creation was begun and abandoned; a GPU instance may be there, without id
//	GICreated   the id of the GPU instance is known; there is nothing in it yet
//	CIIntent    the same, and a compute instance was begun; it may be there, without UUID
//	Ready       the slice is its owner's, as long as a tenant lives
//	Releasing   a destruction was begun; any part of the instance may be gone
//	Zombie      it could not be destroyed, since something uses it
//	Idle        an empty GPU instance, kept for a while for the next owner that wants such a one
//
// and a record that is gone is an instance that is gone.
//
// A [Tenant] is a container that uses slices; it is on disk before they are made, and that it is
// gone is their release. It needs no lock: who is about to use slices is a tenant first, and then
// looks, under the lock, whether they are there.
//
// [Judge] says what is to be done about a
// record. It never says to destroy an instance of which there is no record, nor one that somebody else
// made where ours was, as far as that can be told. A compute instance has a UUID, which tells: what is
// Ready is ours only with it. A GPU instance has none, and its id and place are given anew. So an
// instance without a compute instance is taken for ours if it has the profile, place and id, or in
// Intent was not there before and is in no other record. What remains is a foreigner whose instance
// fits a record that another process left behind, and who made it
//
//   - between our Intent and our call, or where the call was never made: while it is still empty;
//   - in the place of ours, after destroying it, in GICreated, Releasing, Zombie or Idle: while it is empty;
//   - in CIIntent: also with one compute instance in it.
//
// All but Zombie and Idle are of a process that died in the middle, and stand until the next transaction of
// that GPU. Nobody can be using an empty instance.
//
// A record of another boot, or of another loading of the driver, is of an instance that cannot be:
// it is forgotten, unless the very MIG UUID is still there. A file that is torn (its checksum is
// wrong) tells nothing, not even a place: it blocks nothing (an instance without a record may be its,
// and is for nobody a sign of somebody else's), is reported, and is removed once every live instance
// is of some other record, for then it has none.
//
// What does not belong here: calls of NVML (cmd/berth-gpu); the choice of a place (gpu/mig).
package ledger
