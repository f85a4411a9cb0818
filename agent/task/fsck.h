// SPDX-License-Identifier: Apache-2.0
// fsck: everything on the host that carries this install's mark – interfaces, namespaces,
// addresses, nft objects, cgroups, mounts, loop devices, disks, directories, processes – each with
// the owner that the records name, or as an orphan; and what a record owns and is not there:
// missing. Works with the agent up or down; reads the store, never writes it.
//
//     struct fsck_report report;
//     fsck_run(&config, true, &arena, &report, err);      // true: orphans are removed
//     for (i ...) report.findings[i] ...
//
// Blocks (dumps, unlinking disks): for command-line tools, not for the agent.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/arena.h"
#include "agent/base/error.h"
#include "agent/model/config.h"

enum { FSCK_TEXT_SIZE = 256 };

struct fsck_finding {
	const char *kind;           // "interface", "cgroup", "disk", ...
	char name[FSCK_TEXT_SIZE];  // as the kernel or the file system calls it
	char owner[FSCK_TEXT_SIZE]; // "task t-42", "vpc prod"; what it claims to be, for an orphan
	bool orphan;                // no record owns it
	bool repaired;              // ... and it was removed
	bool missing;               // a record owns it, and it is not there
	bool unrecorded; // it belongs to a cell that may run and that the database lost: no orphan
	char problem[FSCK_TEXT_SIZE]; // why it could not be removed, or ""
};

struct fsck_report {
	struct fsck_finding *findings; // in the arena, in the order they can be removed
	size_t count;
	size_t orphans; // that are still there
	size_t unrecorded;
	size_t missing;
};

int fsck_run(const struct config *config, bool repair, struct arena *arena,
	     struct fsck_report *ret_report, struct error *err);
