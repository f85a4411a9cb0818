// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "agent/base/clock.h"
#include "metrics/metering.h"
#include "metrics/metering_internal.h"

void metering_bill(const struct metering_record *record, struct metering_bill *ret_bill)
{
	uint64_t seconds = METERING_MINIMUM_SECONDS;

	if (record->ran_ms > METERING_MINIMUM_SECONDS * UINT64_C(1000))
		seconds = record->ran_ms / 1000 + (record->ran_ms % 1000 != 0);
	*ret_bill = (struct metering_bill){
		.billed_seconds = seconds,
		.vcpu_seconds = (double)record->cpu_units * (double)seconds / 1024,
		.memory_mib_seconds = record->memory_mib * seconds,
		.storage_gib_seconds = record->extra_storage_gib * seconds,
	};
}

static void add_string(struct buffer *text, const char *value)
{
	buffer_adds(text, "\"");
	for (const unsigned char *byte = (const unsigned char *)value; *byte; byte++) {
		if (*byte == '"' || *byte == '\\')
			buffer_addf(text, "\\%c", *byte);
		else if (*byte < 0x20 || *byte == 0x7f)
			buffer_addf(text, "\\u%04x", *byte);
		else
			buffer_add(text, byte, 1);
	}
	buffer_adds(text, "\"");
}

void metering_format_key(const struct metering_record *record, struct buffer *text)
{
	char started_at[CLOCK_RFC3339_SIZE];

	buffer_adds(text, "{\"version\":1,\"task\":");
	add_string(text, record->task_id);
	buffer_addf(text, ",\"startedAt\":\"%s\",",
		    clock_format_rfc3339(record->started_wall_ms, started_at));
}

void metering_format(const struct metering_record *record, struct buffer *text)
{
	char stopped_at[CLOCK_RFC3339_SIZE];
	struct metering_bill bill;

	metering_bill(record, &bill);
	metering_format_key(record, text);
	buffer_addf(text, "\"stoppedAt\":\"%s\",\"family\":",
		    clock_format_rfc3339(record->stopped_wall_ms, stopped_at));
	add_string(text, record->family);
	buffer_addf(text, ",\"cpu\":%u,\"memory\":%u,\"extraStorageGiB\":%u", record->cpu_units,
		    record->memory_mib, record->extra_storage_gib);
	buffer_addf(text,
		    ",\"billedSeconds\":%llu,\"vcpuSeconds\":%.15g,\"memoryMibSeconds\":%llu,"
		    "\"storageGibSeconds\":%llu}\n",
		    (unsigned long long)bill.billed_seconds, bill.vcpu_seconds,
		    (unsigned long long)bill.memory_mib_seconds,
		    (unsigned long long)bill.storage_gib_seconds);
}
