// SPDX-License-Identifier: Apache-2.0
// What the agent keeps about its objects, as JSON.
#include "agent/model/status.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/model/fields.h"

// ---------------------------------------------------------------- words

static const char *const task_states[] = {
	[TASK_PROVISIONING] = "PROVISIONING",
	[TASK_PENDING] = "PENDING",
	[TASK_ACTIVATING] = "ACTIVATING",
	[TASK_RUNNING] = "RUNNING",
	[TASK_DEACTIVATING] = "DEACTIVATING",
	[TASK_STOPPING] = "STOPPING",
	[TASK_DEPROVISIONING] = "DEPROVISIONING",
	[TASK_STOPPED] = "STOPPED",
	[TASK_STATE_COUNT] = NULL,
};

static const char *const stop_codes[] = {
	[STOP_CODE_NONE] = "",
	[STOP_CODE_TASK_FAILED_TO_START] = "TaskFailedToStart",
	[STOP_CODE_ESSENTIAL_CONTAINER_EXITED] = "EssentialContainerExited",
	[STOP_CODE_USER_INITIATED] = "UserInitiated",
	[STOP_CODE_SERVICE_SCHEDULER_INITIATED] = "ServiceSchedulerInitiated",
	[STOP_CODE_SPOT_INTERRUPTION] = "SpotInterruption",
	[STOP_CODE_TERMINATION_NOTICE] = "TerminationNotice",
	[STOP_CODE_INFRASTRUCTURE_HEALTH] = "InfrastructureHealth",
	[STOP_CODE_COUNT] = NULL,
};

static const char *const health_states[] = {
	[HEALTH_UNKNOWN] = "UNKNOWN",
	[HEALTH_HEALTHY] = "HEALTHY",
	[HEALTH_UNHEALTHY] = "UNHEALTHY",
	[HEALTH_STATE_COUNT] = NULL,
};

static const char *const container_states[] = {
	[CONTAINER_PENDING] = "PENDING",
	[CONTAINER_RUNNING] = "RUNNING",
	[CONTAINER_STOPPED] = "STOPPED",
	[CONTAINER_STATE_COUNT] = NULL,
};

static const char *const task_steps[] = {
	[STEP_IMAGE] = "image",     [STEP_CELL] = "cell",     [STEP_DISK] = "disk",
	[STEP_ENI] = "eni",         [STEP_POLICY] = "policy", [STEP_LINK] = "link",
	[STEP_VOLUMES] = "volumes", [STEP_VMM] = "vmm",       [STEP_GUEST] = "guest",
	[STEP_TARGETS] = "targets",
};

const char *task_state_name(enum task_state state)
{
	return state < TASK_STATE_COUNT ? task_states[state] : "UNKNOWN";
}

const char *stop_code_name(enum stop_code code)
{
	return code < STOP_CODE_COUNT ? stop_codes[code] : "";
}

const char *health_state_name(enum health_state state)
{
	return state < HEALTH_STATE_COUNT ? health_states[state] : "UNKNOWN";
}

const char *container_state_name(enum container_state state)
{
	return state < CONTAINER_STATE_COUNT ? container_states[state] : "UNKNOWN";
}

const char *task_step_name(enum task_step step)
{
	return step < TASK_STEP_COUNT ? task_steps[step] : "unknown";
}

int task_state_from_name(const char *name, enum task_state *ret_state)
{
	for (unsigned i = 0; i < TASK_STATE_COUNT; i++) {
		if (strcmp(task_states[i], name) == 0) {
			*ret_state = (enum task_state)i;
			return 0;
		}
	}
	return -EINVAL;
}

void container_docker_id(const char *task_id, int64_t created_ms, uint32_t index,
			 char ret_id[DOCKER_ID_SIZE])
{
	char run[48], again[64];

	snprintf(run, sizeof(run), "%" PRId64 " %" PRIu32, created_ms, index);
	snprintf(again, sizeof(again), "again %s", run);
	snprintf(ret_id, DOCKER_ID_SIZE, "%016" PRIx64 "%016" PRIx64 "-%010" PRIu64,
		 hash_pair(task_id, run), hash_pair(task_id, again),
		 hash_pair(run, task_id) % UINT64_C(10000000000));
}

// ---------------------------------------------------------------- fields

#define TIME_FIELD(member_name, structure, member)                                                 \
	{                                                                                          \
		.name = (member_name), .type = FIELD_TIME, FIELD_AT(structure, member)             \
	}
#define TEXT_FIELD(member_name, structure, member)                                                 \
	{                                                                                          \
		.name = (member_name), .type = FIELD_TEXT, FIELD_AT(structure, member)             \
	}
#define BUFFER_FIELD(member_name, structure, member)                                               \
	{                                                                                          \
		.name = (member_name), .type = FIELD_BUFFER,                                       \
		.max = sizeof(((struct structure *)0)->member), FIELD_AT(structure, member)        \
	}
#define U32_FIELD(member_name, structure, member)                                                  \
	{                                                                                          \
		.name = (member_name), .type = FIELD_U32, .max = UINT32_MAX,                       \
		FIELD_AT(structure, member)                                                        \
	}
#define U64_FIELD(member_name, structure, member)                                                  \
	{                                                                                          \
		.name = (member_name), .type = FIELD_U64, .max = INT64_C(1) << 53,                 \
		FIELD_AT(structure, member)                                                        \
	}
#define ENUM_FIELD(member_name, structure, member, of_words)                                       \
	{                                                                                          \
		.name = (member_name), .type = FIELD_ENUM, .flags = FIELD_REQUIRED,                \
		.words = (of_words), FIELD_AT(structure, member)                                   \
	}

static const struct field container_status_fields[] = {
	TEXT_FIELD("name", container_status, name),
	BUFFER_FIELD("dockerId", container_status, docker_id),
	U32_FIELD("index", container_status, index),
	TEXT_FIELD("image", container_status, image),
	TEXT_FIELD("imageId", container_status, image_id),
	ENUM_FIELD("lastStatus", container_status, last_status, container_states),
	ENUM_FIELD("healthStatus", container_status, health, health_states),
	{.name = "exitCode",
	 .type = FIELD_I32,
	 .flags = FIELD_SPARSE,
	 .min = INT32_MIN,
	 .max = INT32_MAX,
	 .number = CONTAINER_EXIT_NONE,
	 FIELD_AT(container_status, exit_code)},
	BUFFER_FIELD("reason", container_status, reason),
	TIME_FIELD("startedAt", container_status, started_ms),
	TIME_FIELD("finishedAt", container_status, finished_ms),
};
static const struct field_table container_status_table = {
	FIELD_TABLE(container_status, container_status_fields)};

static const struct field network_status_fields[] = {
	TEXT_FIELD("vpcId", task_network, vpc_id),
	TEXT_FIELD("subnetId", task_network, subnet_id),
	TEXT_FIELD("eniId", task_network, eni_id),
	{.name = "securityGroups",
	 .type = FIELD_LIST,
	 .flags = FIELD_SPARSE,
	 .max = TASK_SECURITY_GROUPS_MAX,
	 .element = &(const struct field){.type = FIELD_TEXT},
	 FIELD_LIST_AT(task_network, security_groups, security_group_count)},
	{.name = "privateIpv4Address",
	 .type = FIELD_ADDRESS,
	 FIELD_AT(task_network, private_ipv4_address)},
	{.name = "gateway", .type = FIELD_ADDRESS, FIELD_AT(task_network, gateway)},
	{.name = "prefix",
	 .type = FIELD_U32,
	 .flags = FIELD_SPARSE,
	 .max = 32,
	 FIELD_AT(task_network, prefix)},
	BUFFER_FIELD("macAddress", task_network, mac_address),
	BUFFER_FIELD("interfaceName", task_network, interface_name),
};
static const struct field_table network_status_table = {
	FIELD_TABLE(task_network, network_status_fields)};

static const struct field shim_fields[] = {
	{.name = "pid", .type = FIELD_I32, .max = INT32_MAX, FIELD_AT(task_shim, pid)},
	U64_FIELD("startTime", task_shim, start_time),
};
static const struct field_table shim_table = {FIELD_TABLE(task_shim, shim_fields)};

static const struct field step_fields[] = {
	{.name = "applied", .type = FIELD_BOOLEAN, FIELD_AT(task_progress, applied)},
	U64_FIELD("startedUs", task_progress, started_us),
	U64_FIELD("durationUs", task_progress, duration_us),
	U64_FIELD("ownUs", task_progress, own_us),
};
static const struct field_table step_table = {FIELD_TABLE(task_progress, step_fields)};

#define STEP_FIELD(member_name, step)                                                              \
	{                                                                                          \
		.name = (member_name), .type = FIELD_OBJECT, .table = &step_table,                 \
		.offset = (step) * sizeof(struct task_progress)                                    \
	}
static const struct field progress_fields[] = {
	STEP_FIELD("image", STEP_IMAGE),     STEP_FIELD("cell", STEP_CELL),
	STEP_FIELD("disk", STEP_DISK),       STEP_FIELD("eni", STEP_ENI),
	STEP_FIELD("policy", STEP_POLICY),   STEP_FIELD("link", STEP_LINK),
	STEP_FIELD("volumes", STEP_VOLUMES), STEP_FIELD("vmm", STEP_VMM),
	STEP_FIELD("guest", STEP_GUEST),     STEP_FIELD("targets", STEP_TARGETS),
};
static const struct field_table progress_table = {FIELD_TABLE(task_progress, progress_fields)};

static const struct field boot_times_fields[] = {
	U64_FIELD("createdMs", task_boot_times, created.ms),
	U64_FIELD("pullStartedMs", task_boot_times, pull_started.ms),
	U64_FIELD("startedMs", task_boot_times, started.ms),
	U64_FIELD("stopRequestedMs", task_boot_times, stop_requested.ms),
	U64_FIELD("drainStartedMs", task_boot_times, drain_started.ms),
	U64_FIELD("executionStoppedMs", task_boot_times, execution_stopped.ms),
	U64_FIELD("stoppedMs", task_boot_times, stopped.ms),
};
static const struct field_table boot_times_table = {
	FIELD_TABLE(task_boot_times, boot_times_fields)};

static const struct field status_fields[] = {
	ENUM_FIELD("lastStatus", task_status, last_status, task_states),
	ENUM_FIELD("desiredStatus", task_status, desired_status, task_states),
	{.name = "stopCode",
	 .type = FIELD_ENUM,
	 .flags = FIELD_SPARSE,
	 .words = stop_codes,
	 FIELD_AT(task_status, stop_code)},
	BUFFER_FIELD("stoppedReason", task_status, stopped_reason),
	ENUM_FIELD("healthStatus", task_status, health, health_states),
	TIME_FIELD("guestSilentSince", task_status, guest_silent_since_ms),
	TIME_FIELD("createdAt", task_status, created_ms),
	TIME_FIELD("pullStartedAt", task_status, pull_started_ms),
	TIME_FIELD("pullStoppedAt", task_status, pull_stopped_ms),
	TIME_FIELD("startedAt", task_status, started_ms),
	TIME_FIELD("stoppingAt", task_status, stopping_ms),
	TIME_FIELD("executionStoppedAt", task_status, execution_stopped_ms),
	TIME_FIELD("stoppedAt", task_status, stopped_ms),
	{.name = "bootTimes",
	 .type = FIELD_OBJECT,
	 .table = &boot_times_table,
	 FIELD_AT(task_status, boot_times)},
	{.name = "containers",
	 .type = FIELD_LIST,
	 .max = TASK_CONTAINERS_MAX,
	 .element = &(const struct field){.type = FIELD_OBJECT, .table = &container_status_table},
	 FIELD_LIST_AT(task_status, containers, container_count)},
	{.name = "network",
	 .type = FIELD_OBJECT,
	 .table = &network_status_table,
	 FIELD_AT(task_status, network)},
	TEXT_FIELD("driver", task_status, driver),
	TEXT_FIELD("bootId", task_status, boot_id),
	U32_FIELD("uid", task_status, uid),
	TEXT_FIELD("cgroup", task_status, cgroup),
	TEXT_FIELD("cellDirectory", task_status, cell_directory),
	{.name = "shim", .type = FIELD_OBJECT, .table = &shim_table, FIELD_AT(task_status, shim)},
	{.name = "progress",
	 .type = FIELD_OBJECT,
	 .table = &progress_table,
	 FIELD_AT(task_status, progress)},
	U32_FIELD("retries", task_status, retries),
	BUFFER_FIELD("undoError", task_status, undo_error),
	BUFFER_FIELD("shimError", task_status, shim_error),
	{.name = "drainSeconds",
	 .type = FIELD_U32,
	 .flags = FIELD_SPARSE,
	 .max = UINT32_MAX,
	 .number = TASK_DRAIN_DEFAULT,
	 FIELD_AT(task_status, drain_seconds)},
	U64_FIELD("version", task_status, version),
};
static const struct field_table status_table = {FIELD_TABLE(task_status, status_fields)};

// ---------------------------------------------------------------- documents

void task_status_render(const struct task_status *status, struct buffer *out)
{
	struct json_writer writer = {.out = out};

	fields_render(&writer, NULL, &status_table, status, 0);
}

int task_status_parse(const char *text, size_t length, struct arena *arena,
		      struct task_status *ret_status, struct error *err)
{
	return document_parse(&status_table, text, length, arena, ret_status, err);
}

static const struct field object_status_fields[] = {
	{.name = "privateIpv4Address",
	 .type = FIELD_ADDRESS,
	 FIELD_AT(object_status, private_ipv4_address)},
	TEXT_FIELD("error", object_status, error),
};
static const struct field_table object_status_table = {
	FIELD_TABLE(object_status, object_status_fields)};

void object_status_render(const struct object_status *status, struct buffer *out)
{
	struct json_writer writer = {.out = out};

	if (status->private_ipv4_address || (status->error && *status->error))
		fields_render(&writer, NULL, &object_status_table, status, 0);
}

int object_status_parse(const char *text, struct arena *arena, struct object_status *ret_status,
			struct error *err)
{
	*ret_status = (struct object_status){0};
	return text ? document_parse(&object_status_table, text, strlen(text), arena, ret_status,
				     err)
		    : 0;
}
