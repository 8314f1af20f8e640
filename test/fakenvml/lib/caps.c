/* SPDX-License-Identifier: Apache-2.0
 *
 * What the kernel shows of instances: /proc/driver/nvidia/capabilities, with the numbers of the
 * driver's table (nv-caps.c of NVIDIA's open kernel modules).
 */
#include "fake.h"
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FIRST_MINOR = 3 };

/* Of a GPU instance's capability; those of its compute instances follow. */
unsigned cap_minor(const struct gpu *g, unsigned gi)
{
	return FIRST_MINOR + (g->minor * GI_IDS + gi) * (CI_IDS + 1);
}

/* One capability: a directory with one file. It is made, or taken away. */
static void capability(const char *dir, bool there, unsigned minor)
{
	char file[600];
	snprintf(file, sizeof file, "%s/access", dir);
	if (!there) {
		unlink(file);
		rmdir(dir);
		return;
	}
	mkdir(dir, 0755);
	if (access(file, F_OK) == 0)
		return;
	FILE *f = fopen(file, "w");
	if (!f) {
		perror("fakenvml: write a capability");
		return;
	}
	fprintf(f, "DeviceFileMinor: %u\nDeviceFileMode: 292\nDeviceFileModify: 1\n", minor);
	fclose(f);
}

static const struct gi *gi_of(const struct gpu *g, unsigned id)
{
	for (const struct gi *gi = g->gi; gi < g->gi + g->gis; gi++)
		if (gi->id == id)
			return gi;
	return NULL;
}

static bool has_ci(const struct gi *gi, unsigned id)
{
	for (const struct ci *ci = gi->ci; ci < gi->ci + gi->cis; ci++)
		if (ci->id == id)
			return true;
	return false;
}

void caps_show(const struct state *s, const struct gpu *g)
{
	if (s->caps[0] == 0)
		return;
	for (unsigned i = 0; i < GI_IDS; i++) {
		const struct gi *gi = gi_of(g, i);
		unsigned minor = cap_minor(g, i);
		char dir[400], sub[500];
		snprintf(dir, sizeof dir, "%s/gpu%u/mig/gi%u", s->caps, g->minor, i);
		if (gi)
			capability(dir, true, minor);
		for (unsigned k = 0; k < CI_IDS; k++) {
			snprintf(sub, sizeof sub, "%s/ci%u", dir, k);
			capability(sub, gi && has_ci(gi, k), minor + 1 + k);
		}
		if (!gi)
			capability(dir, false, minor);
	}
}
