/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the fake share: the machine as the state file has it, and how a call of NVML
 * begins and ends. Prototypes and structures are those of NVIDIA's nvml.h, so that the compiler
 * holds the fake against the real interface.
 */
#ifndef FAKE_H
#define FAKE_H

#define NVML_NO_UNVERSIONED_FUNC_DEFS 1 /* nvmlInit and nvmlInit_v2 are two functions */
#include <nvml.h>
#include <stdbool.h>
#include <stddef.h>

enum { GI_IDS = 15, CI_IDS = 8 }; /* as many as the driver's table of capabilities has */
enum { MAX_GPUS = 16, MAX_GIS = 7, MAX_CIS = 7, MAX_PROCS = 64, MAX_RULES = 64, MAX_PROFILES = 7 };

/* A GPU instance profile (nvidia-smi mig -lgip). */
struct profile {
	unsigned enumerator; /* NVML_GPU_INSTANCE_PROFILE_... */
	unsigned id;         /* what NVML calls the profile id */
	unsigned slices;     /* compute slices, of 7 */
	unsigned memory;     /* memory slices, of 8 */
	unsigned starts;     /* bit N: it may begin at memory slice N */
	unsigned max;        /* instances of it in a whole GPU */
	unsigned ce, dec, jpeg, ofa;
	unsigned gi_low, gi_high; /* the ids that its instances get */
};
extern const struct profile profiles[MAX_PROFILES];

/* A compute instance profile; the id is also NVML_COMPUTE_INSTANCE_PROFILE_... */
struct ci_profile {
	unsigned id, slices;
};

struct model {
	const char *key, *name;
	nvmlBrandType_t brand;
	unsigned arch;
	int major, minor; /* compute capability */
	unsigned pci;     /* device id and vendor */
	unsigned mb;      /* memory in MiB */
	bool mig;
	/* By profile, in the order of profiles: multiprocessors, MiB, and the name. */
	unsigned sm[MAX_PROFILES], gi_mb[MAX_PROFILES];
	const char *gi_name[MAX_PROFILES];
};
const struct model *model_find(const char *key);
const struct profile *profile_by_id(unsigned id);
const struct profile *profile_by_enum(unsigned enumerator);
const struct ci_profile *ci_profile_by_id(const struct profile *gi, unsigned id);

struct ci {
	unsigned id, profile, start;
	char uuid[64];
};

struct gi {
	unsigned id, profile, start;
	unsigned cis;
	struct ci ci[MAX_CIS];
};

struct gpu {
	const struct model *model;
	char uuid[64], bus[32];
	unsigned minor, mig, pending, lost, compute;
	unsigned gis;
	struct gi gi[MAX_GIS];
};

struct proc {
	unsigned gpu;
	int pid, gi, ci; /* gi and ci are -1 outside of MIG */
	unsigned long long bytes;
};

/* What a test asked for: a fault, a lie, a delay, an exit... at one symbol, or at "*". */
struct rule {
	char verb[8], symbol[64];
	int value; /* nvmlReturn_t; microseconds; exit status; number of the call; how often */
	int gpu;   /* -1: any */
};

struct state {
	char driver[80], nvml[80];
	char caps[256]; /* where the kernel shows instances; empty: nowhere */
	int cuda;
	unsigned latency;               /* percent of that of hardware */
	unsigned gpu_major, caps_major; /* of nodes; 0: who has one open is not looked at */
	unsigned gpus, procs, rules;
	struct gpu gpu[MAX_GPUS];
	struct proc proc[MAX_PROCS];
	struct rule rule[MAX_RULES];
};

/* A call of one symbol. It holds the lock of the state file from call_begin to call_end. */
struct call {
	const char *symbol;
	int fd;
	bool changed; /* the state is written back at the end */
	int index;    /* of the GPU, or -1 */
	struct gpu *gpu;
	struct gi *gi;
	struct ci *ci;
	struct state s;
};

/* What a handle may stand for; NOTHING for calls without one. */
enum { NOTHING = 0, GPU = 1, MIG = 2, GI = 4, CI = 8, CREATES = 16 };

void *handle(unsigned kind, unsigned gpu, unsigned gi, unsigned ci);
nvmlReturn_t call_begin(struct call *c, const void *handle, unsigned kinds, int gpu);
void call_end(struct call *c);
bool state_read(struct state *s, int fd);
bool state_write(const struct state *s, int fd);
void caps_show(const struct state *s, const struct gpu *g);
bool library_used(int by); /* by +1, -1 or 0: is it initialised now? */
const struct rule *find_rule(const struct call *c, const char *verb);
nvmlReturn_t copy_text(char *out, unsigned length, const char *text);
const struct proc *gpu_process(const struct call *c, unsigned *from);
bool busy(const struct call *c);
unsigned cap_minor(const struct gpu *g, unsigned gi);
unsigned latency(const struct call *c);
/* What a call that changes something says once it has done so: a lie, if the test asked for one. */
nvmlReturn_t answer(const struct call *c, nvmlReturn_t of_work);

/* Every function begins with one of these; c is its call, ended when the function returns. */
#define CALL_(h, kinds, gpu)                                                                       \
	struct call c __attribute__((cleanup(call_end))) = {.symbol = __func__, .fd = -1};         \
	nvmlReturn_t begun_ = call_begin(&c, h, kinds, gpu);                                       \
	if (begun_ != NVML_SUCCESS)                                                                \
	return begun_
#define CALL(h, kinds) CALL_((h).handle, kinds, -1)
#define CALL_SYSTEM() CALL_(NULL, NOTHING, -1)
#define NEED(condition, otherwise)                                                                 \
	if (!(condition))                                                                          \
	return otherwise

#endif
