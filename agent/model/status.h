// SPDX-License-Identifier: Apache-2.0
// What the agent keeps about an object beside its spec: of a task its states, identities and
// progress, of the others what they were given and why they are not effective. It is committed
// with every change (JSON text in the store) and is what the API shows.
//
// Strings that are chosen once are pointers into the record's arena (NULL: not chosen yet);
// those that change are arrays in the struct. Times are the wall clock in ms since 1970,
// 0: not yet; in JSON RFC 3339.
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/arena.h"
#include "agent/base/buffer.h"
#include "agent/base/clock.h"
#include "agent/base/error.h"

enum task_state {
	TASK_PROVISIONING,
	TASK_PENDING,
	TASK_ACTIVATING,
	TASK_RUNNING,
	TASK_DEACTIVATING,
	TASK_STOPPING,
	TASK_DEPROVISIONING,
	TASK_STOPPED,
	TASK_STATE_COUNT,
};

enum stop_code {
	STOP_CODE_NONE,
	STOP_CODE_TASK_FAILED_TO_START,
	STOP_CODE_ESSENTIAL_CONTAINER_EXITED,
	STOP_CODE_USER_INITIATED,
	STOP_CODE_SERVICE_SCHEDULER_INITIATED,
	STOP_CODE_SPOT_INTERRUPTION,
	STOP_CODE_TERMINATION_NOTICE,
	STOP_CODE_INFRASTRUCTURE_HEALTH,
	STOP_CODE_COUNT,
};

enum health_state { HEALTH_UNKNOWN, HEALTH_HEALTHY, HEALTH_UNHEALTHY, HEALTH_STATE_COUNT };

enum container_state {
	CONTAINER_PENDING,
	CONTAINER_RUNNING,
	CONTAINER_STOPPED,
	CONTAINER_STATE_COUNT
};

// The rows of the task engine's table, in order.
enum task_step {
	STEP_IMAGE,
	STEP_CELL,
	STEP_DISK,
	STEP_ENI,
	STEP_POLICY,
	STEP_LINK,
	STEP_VOLUMES,
	STEP_VMM,
	STEP_GUEST,
	STEP_TARGETS,
	TASK_STEP_COUNT,
};

// Words as in the API ("RUNNING", "EssentialContainerExited", "image"); never NULL.
const char *task_state_name(enum task_state state);
const char *stop_code_name(enum stop_code code); // "" for STOP_CODE_NONE
const char *health_state_name(enum health_state state);
const char *container_state_name(enum container_state state);
const char *task_step_name(enum task_step step);
// -EINVAL when there is no such state.
int task_state_from_name(const char *name, enum task_state *ret_state);

#define TASK_DRAIN_DEFAULT UINT32_MAX

enum {
	CONTAINER_EXIT_NONE = -1,
	CONTAINER_REASON_SIZE = 256,
	STOPPED_REASON_SIZE = 1024,
	DOCKER_ID_SIZE = 48, // 32 hex digits, '-', up to 10 digits
};

struct container_status {
	const char *name;
	const char *image;
	const char *image_id;           // NULL: not known yet
	char docker_id[DOCKER_ID_SIZE]; // "0f3c…-1234567890", as ECS's on Fargate
	uint32_t index;                 // in the spec
	enum container_state last_status;
	enum health_state health;
	int32_t exit_code; // CONTAINER_EXIT_NONE: has not ended
	char reason[CONTAINER_REASON_SIZE];
	int64_t started_ms, finished_ms;
};

struct task_network {
	const char *vpc_id, *subnet_id, *eni_id; // NULL: no network was chosen
	const char **security_groups;
	uint32_t security_group_count;
	uint32_t private_ipv4_address, gateway; // host byte order
	uint32_t prefix;                        // of the subnet
	char mac_address[18];
	char interface_name[IFNAMSIZ];
};

struct task_shim {
	int32_t pid; // 0: none
	uint64_t start_time;
};

struct task_progress {
	bool applied;        // a hint: `check` asks the kernel
	uint64_t started_us; // after created_ms
	uint64_t duration_us;
	uint64_t own_us; // of that: the agent's own work, without what it waited for
};

// The boot time of the events that durations are computed from, while the wall clock's times in
// `task_status` label the same events. All are of the boot `boot_id`, but those of the stop of
// a task that a reboot ended. Records of older agents lack them.
struct task_boot_times {
	struct boot_time created, pull_started, started;
	struct boot_time stop_requested; // the first time
	struct boot_time drain_started;  // when a stop last set the time that it may take
	struct boot_time execution_stopped, stopped;
};

struct task_status {
	enum task_state last_status, desired_status; // desired: RUNNING or STOPPED
	enum stop_code stop_code;
	char stopped_reason[STOPPED_REASON_SIZE];
	enum health_state health;
	int64_t guest_silent_since_ms; // when its guest spoke last, if that is too long ago

	int64_t created_ms, pull_started_ms, pull_stopped_ms, started_ms, stopping_ms;
	int64_t execution_stopped_ms, stopped_ms;
	struct task_boot_times boot_times;

	struct container_status *containers; // in the order of the spec
	uint32_t container_count;
	struct task_network network;

	const char *driver;         // "qemu", "netns"
	const char *boot_id;        // of the host, when the task began
	uint32_t uid;               // uid and gid of the cell
	const char *cgroup;         // "penstock-<install>/<task>"
	const char *cell_directory; // absolute
	struct task_shim shim;
	struct task_progress progress[TASK_STEP_COUNT];
	uint32_t retries;                     // failed undos that were tried again
	char shim_error[256];                 // why it is not adopted yet, "" when it is
	char undo_error[STOPPED_REASON_SIZE]; // the last failed undo, "" when none is open
	uint32_t drain_seconds; // of the stop call; TASK_DRAIN_DEFAULT: the target groups'
	uint64_t version;       // one more with every change
};

// Appends the JSON of a status.
void task_status_render(const struct task_status *status, struct buffer *out);

// Reads what task_status_render() wrote; strings live in the arena. -EBADMSG with the place.
int task_status_parse(const char *text, size_t length, struct arena *arena,
		      struct task_status *ret_status, struct error *err);

// Of every kind but tasks.
struct object_status {
	uint32_t private_ipv4_address; // of a load balancer
	const char *error;             // why it is not effective on the host; NULL or "": it is
};

// Appends the JSON, or nothing when there is nothing to say.
void object_status_render(const struct object_status *status, struct buffer *out);
// `text` NULL: nothing was said. The error lives in the arena. -EBADMSG with the place.
int object_status_parse(const char *text, struct arena *arena, struct object_status *ret_status,
			struct error *err);

// A docker id from a task's id, its creation time and a container's index: stable, unique per run.
void container_docker_id(const char *task_id, int64_t created_ms, uint32_t index,
			 char ret_id[DOCKER_ID_SIZE]);
