/* SPDX-License-Identifier: Apache-2.0
 *
 * What asking and changing MIG share.
 */
#ifndef MIG_H
#define MIG_H

#include "fake.h"

/* May an instance of the profile begin at this memory slice of the GPU as it is? */
bool gi_fits(const struct gpu *g, const struct profile *p, unsigned start);

#endif
