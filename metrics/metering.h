// SPDX-License-Identifier: Apache-2.0
// Metering: what a task used, one JSON line per task in a file that is only appended to.
//
// Billing as in Fargate: per second of configured vCPU and memory, from the start of
// the image preparation to the end, rounded up, at least 60 s; storage above 20 GiB extra.
//
//     {"version":1,"task":"t-1","startedAt":"2026-01-31T09:08:07.654Z","stoppedAt":"...",
//      "family":"web","cpu":256,"memory":512,"extraStorageGiB":0,"billedSeconds":60,
//      "vcpuSeconds":15,"memoryMibSeconds":30720,"storageGibSeconds":0}
//
// Written once: task and startedAt are a record's key, and metering_append() of a key
// that is among the last METERING_TAIL_MAX bytes (of this file and, at opening, of the
// one rotated last, `<path>.1`) is success without writing. So a caller appends, calls
// metering_sync(), commits "metered" to its own records, and after a crash in between
// simply does it again. A line torn by a crash is cut off when the file is opened.
//
// Rotation: rename the file (to `<path>.1`); the next append makes a new one.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "agent/base/buffer.h"
#include "agent/base/error.h"

enum { METERING_TAIL_MAX = 4 << 20, METERING_MINIMUM_SECONDS = 60 };

struct metering_record {
	const char *task_id;
	const char *family;
	unsigned cpu_units; // 1024 are one vCPU
	unsigned memory_mib;
	unsigned extra_storage_gib; // above 20
	// Of the wall clock, which may have been set in between: labels, and part of the key.
	int64_t started_wall_ms; // image preparation start
	int64_t stopped_wall_ms;
	uint64_t ran_ms; // what is billed, from a clock that nobody sets
};

struct metering_bill {
	uint64_t billed_seconds;
	double vcpu_seconds;
	uint64_t memory_mib_seconds;
	uint64_t storage_gib_seconds;
};

// Pure.
void metering_bill(const struct metering_record *record, struct metering_bill *ret_bill);
// Pure: appends the record's line, with its newline.
void metering_format(const struct metering_record *record, struct buffer *text);

struct metering; // the open file

// Opens or makes `path` (mode 0640) and repairs its end. Reads at most 2 * METERING_TAIL_MAX bytes.
int metering_open(const char *path, struct metering **ret_metering, struct error *err);
void metering_close(struct metering *metering);

// Appends the record unless it is there. Not durable before metering_sync().
int metering_append(struct metering *metering, const struct metering_record *record,
		    struct error *err);
// fdatasync: once per turn, before the caller commits that the records are written. After a failure
// those since the last success have to be appended again: rather twice than not at all.
int metering_sync(struct metering *metering, struct error *err);
