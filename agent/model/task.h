// SPDX-License-Identifier: Apache-2.0
// A task: an ECS task definition with its networkConfiguration and loadBalancers in one
// document, as parsed by model_parse() (model.h). Normalised: defaults are filled in, names are
// resolved to indexes, times are seconds. Absent strings are "" unless said otherwise.
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
	TASK_CONTAINERS_MAX = 10,
	TASK_VOLUMES_MAX = 20,
	TASK_SUBNETS_MAX = 16,
	TASK_SECURITY_GROUPS_MAX = 5,
	TASK_LOAD_BALANCERS_MAX = 5,
	TASK_TAGS_MAX = 50,
	CONTAINER_NAME_MAX = 255,      // characters
	CONTAINER_ARGUMENTS_MAX = 128, // entryPoint, and command, and a health check's
	CONTAINER_ENVIRONMENT_MAX = 256,
	CONTAINER_MOUNTS_MAX = 20,
	CONTAINER_PORTS_MAX = 50,
	EPHEMERAL_DEFAULT_GIB = 20,
};

enum container_condition {
	CONDITION_START,
	CONDITION_COMPLETE,
	CONDITION_SUCCESS,
	CONDITION_HEALTHY
};

struct container_dependency {
	const char *container_name;
	uint32_t container; // its index
	enum container_condition condition;
};

struct name_value {
	const char *name, *value;
};

enum port_protocol { PORT_TCP };

struct port_mapping {
	uint32_t first_port, last_port; // one port: the same
	enum port_protocol protocol;
	uint32_t container_port;          // as in the document: 0 when there is a range
	uint32_t host_port;               // always 0: containers have an address of their own
	const char *container_port_range; // "8000-8010", or ""
};

struct mount_point {
	const char *source_volume;
	uint32_t volume;            // its index
	const char *container_path; // absolute, normal form
	bool read_only;
};

struct container_health_check {
	const char **command; // as in the document: CMD or CMD-SHELL first
	uint32_t command_count;
	bool shell;             // CMD-SHELL: one argument, to run by /bin/sh -c
	const char **arguments; // the command without its first word
	uint32_t argument_count;
	uint32_t interval_seconds, timeout_seconds, retries, start_period_seconds;
};

struct container_spec {
	const char *name; // unique in the task
	const char *image;
	bool essential;
	const char **entry_point; // count 0: the image's
	uint32_t entry_point_count;
	const char **command; // count 0: the image's
	uint32_t command_count;
	struct name_value *environment; // unique names; redacted for readers
	uint32_t environment_count;
	const char *user;              // "" the image's; else name or uid, with or without :group
	const char *working_directory; // "" the image's
	bool read_only_root;
	struct port_mapping *ports;
	uint32_t port_count;
	struct mount_point *mounts;
	uint32_t mount_count;
	struct container_dependency *depends_on;
	uint32_t depends_on_count;
	struct container_health_check *health_check; // NULL: none
	uint32_t start_timeout_seconds, stop_timeout_seconds;
	uint32_t memory_mib; // hard limit; 0: the task's alone
};

enum volume_kind { VOLUME_EPHEMERAL, VOLUME_FILE_SYSTEM };

// efsVolumeConfiguration
struct efs_volume {
	const char *file_system_id;
	const char *root_directory; // absolute, normal form, "/" by default
};

struct task_volume {
	const char *name;
	enum volume_kind kind;
	struct efs_volume *efs; // NULL for a directory of the ephemeral disk
};

struct task_target {
	const char *target_group;
	const char *container_name;
	uint32_t container; // its index
	uint32_t container_port;
};

struct task_spec {
	const char *family; // the task's id when absent
	uint32_t cpu_units; // 1024 is one vCPU
	uint32_t memory_mib;
	uint32_t ephemeral_storage_gib;
	struct container_spec *containers;
	uint32_t container_count;
	uint32_t *start_order; // the indexes of all containers, each after what it depends on
	struct task_volume *volumes;
	uint32_t volume_count;
	const char **subnets; // the first with room wins
	uint32_t subnet_count;
	const char **security_groups;
	uint32_t security_group_count;
	struct task_target *targets; // loadBalancers
	uint32_t target_count;
	struct name_value *tags; // key and value
	uint32_t tag_count;
};
