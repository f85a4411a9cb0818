// SPDX-License-Identifier: Apache-2.0
// Between fsck.c (the records), fsck_collect.c and fsck_network.c (what is there).
#pragma once

#include "agent/base/process.h"
#include "agent/cell/cgroup.h"
#include "agent/model/model.h"
#include "agent/model/status.h"
#include "agent/task/fsck.h"
#include "ephemeral/ephemeral.h"
#include "netif/netif.h"

struct name {
	struct name *next;
	const char *text;
	const char *of; // of a place: whose it is; of a subnet: its VPC
};

// What the records own.
struct owned {
	struct name *kinds[MODEL_KIND_COUNT]; // ids; of tasks: those that are not STOPPED
	struct name *records;                 // ids of all tasks
	struct name *enis;                    // of tasks that are not STOPPED
	struct name *interfaces;              // attached ones
	struct name *unrecorded; // ids of tasks whose cells may run and that no record speaks of
	struct name *unrecorded_enis; // of those, where a copy of the record says it
	struct name *subnets;
	struct name *places; // "<vpc> <block of a subnet or address of a load balancer>"
};

struct expected;
struct expected_eni;
struct expected_vpc;
struct expected_subnet;

struct check {
	const struct config *config;
	struct arena *arena;
	struct owned owned;
	struct cgroup_tree tree;
	struct netif *netif;
	struct ephemeral pool;
	bool repair, agent_runs;
	pid_t agent_pid;        // 0: it does not run, or not where we can see it
	bool installed;         // there is a store: the install itself owns what is not a task's
	const char *unreadable; // a record that cannot be read, "task t-42", or NULL
	char boot_id[BOOT_ID_SIZE];
	// What must be there; see fsck_missing.c.
	struct expected *expected;
	struct expected_eni *expected_enis;
	struct expected_vpc *expected_vpcs;
	struct expected_subnet *expected_subnets;
	struct fsck_report *report;
	const struct fsck_report *before; // the pass before this one; NULL: this is the first
	size_t capacity;
};

bool fsck_owns(const struct name *list, const char *text);
// "subnet web", "load-balancer front"; NULL when no record has this block or address of the VPC.
const char *fsck_owner_of_place(const struct check *check, const char *vpc_id, const char *place);

// A new finding, not yet an orphan.
__attribute__((format(printf, 4, 5))) struct fsck_finding *
fsck_find(struct check *check, const char *kind, const char *name, const char *owner, ...);

// Whether this orphan is to be removed now. A running agent may just have made it: a record is
// always committed before its effects, so only what the records of a second look do not own either
// may go.
bool fsck_is_to_go(struct check *check, struct fsck_finding *finding, bool owned);
// True, with the finding marked, when it belongs to a cell that the database lost: `name` is in the
// list of those. Such a thing is never removed.
bool fsck_is_unrecorded(struct fsck_finding *finding, const struct name *unrecorded,
			const char *name);
// What became of it: `result` negative with the error.
void fsck_removed(struct fsck_finding *finding, int result, const struct error *err);

// One per kind of thing, in the order in which things can be removed: processes before
// cgroups, interfaces before namespaces.
typedef int fsck_collector(struct check *check, struct error *err);
fsck_collector fsck_collect_network, fsck_collect_host_table, fsck_collect_policy; // fsck_network.c
// fsck_missing.c: what records expect to be found, noted while they are read; and after all
// collectors what of it was not. `object` lives in the arena of the check.
void fsck_expect_object(struct check *check, const struct model_object *object);
void fsck_expect_balancer(struct check *check, const char *id, const char *vpc_id,
			  uint32_t address);
void fsck_expect_task(struct check *check, const char *id, const struct task_status *status);
fsck_collector fsck_collect_missing;
extern fsck_collector *const fsck_collectors[];
extern const size_t fsck_collector_count;
