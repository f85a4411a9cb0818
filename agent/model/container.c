// SPDX-License-Identifier: Apache-2.0
// The document of one container of a task (containerDefinitions).
#include <stdlib.h>
#include <string.h>

#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/model/fields.h"

enum {
	TEXT_MAX = 32 * 1024,         // bytes of an argument or a value
	CONTAINER_MEMORY_MIN_MIB = 6, // Docker's, and so ECS's
};

// ---------------------------------------------------------------- texts

// Each component becomes a file's name: none is hidden, an option or empty.
static bool has_good_components(const char *text)
{
	for (;;) {
		if (strspn(text, "./:-") > 0 || *text == '\0')
			return false;
		text = strchr(text, '/');
		if (!text)
			return true;
		text++;
	}
}

static const char *complain_image(const char *text)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/:";

	if (strchr(text, '@'))
		return "must be a name with or without a tag: digests are not built yet";
	if (text[strspn(text, allowed)])
		return "must be letters, digits and . _ - / :";
	return has_good_components(text) ? NULL
					 : "must be an image reference such as registry/name:tag";
}

static const char *complain_variable(const char *text)
{
	return strchr(text, '=') ? "must not contain '='" : NULL;
}

// "name", "uid", "name:group", "uid:gid".
static const char *complain_user(const char *text)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t user = strspn(text, allowed);
	size_t group = text[user] == ':' ? strspn(text + user + 1, allowed) : 0;

	if (user == 0 || (text[user] == ':' && (group == 0 || text[user + 1 + group])) ||
	    (text[user] != '\0' && text[user] != ':'))
		return "must be a user or uid, with or without :group or :gid";
	return NULL;
}

// Every container is given these. A volume in their place would hide them, or take from /proc and
// /sys what is covered there; other directories below /dev are free (/dev/shm).
static const struct {
	const char *path;
	bool below; // and everything in it
	const char *complaint;
} given_paths[] = {
	{"/", false, "must not be the root directory"},
	{"/proc", true, "must not be /proc or below it"},
	{"/sys", true, "must not be /sys or below it"},
	{"/dev", false, "must not be /dev itself"},
	{"/etc/hosts", true, "must not be /etc/hosts: that is the task's own"},
	{"/etc/hostname", true, "must not be /etc/hostname: that is the task's own"},
	{"/etc/resolv.conf", true, "must not be /etc/resolv.conf: that is the task's own"},
};

static const char *complain_mount_path(const char *text)
{
	for (size_t i = 0; i < ARRAY_LENGTH(given_paths); i++) {
		size_t length = strlen(given_paths[i].path);

		if (strncmp(text, given_paths[i].path, length) == 0 &&
		    (text[length] == '\0' || (text[length] == '/' && given_paths[i].below)))
			return given_paths[i].complaint;
	}
	return complain_path(text);
}

// ---------------------------------------------------------------- ports

static const char *const port_words[] = {"tcp", NULL};
static const struct refused_word port_refused[] = {{"udp", "udp ports are not built yet"}, {0}};

static const struct field port_fields[] = {
	{.name = "containerPort",
	 .type = FIELD_U32,
	 .flags = FIELD_SPARSE,
	 .min = 1,
	 .max = 65535,
	 FIELD_AT(port_mapping, container_port)},
	{.name = "hostPort",
	 .type = FIELD_U32,
	 .flags = FIELD_SPARSE,
	 .max = 65535,
	 FIELD_AT(port_mapping, host_port)},
	{.name = "containerPortRange",
	 .type = FIELD_TEXT,
	 .min = 1,
	 .max = 11,
	 .text = "",
	 FIELD_AT(port_mapping, container_port_range)},
	{.name = "protocol",
	 .type = FIELD_ENUM,
	 .words = port_words,
	 .refused = port_refused,
	 FIELD_AT(port_mapping, protocol)},
	FIELD_NOT_BUILT("name"),
	FIELD_NOT_BUILT("appProtocol"),
};

// "8000-8010".
static bool port_range_parse(const char *text, struct port_mapping *port)
{
	char first[12];
	const char *dash = strchr(text, '-');

	if (!dash || (size_t)(dash - text) >= sizeof(first))
		return false;
	memcpy(first, text, (size_t)(dash - text));
	first[dash - text] = '\0';
	return parse_u32(first, 65535, &port->first_port) == 0 &&
	       parse_u32(dash + 1, 65535, &port->last_port) == 0 && port->first_port > 0 &&
	       port->first_port <= port->last_port;
}

static void finish_port(struct parse *parse, const struct place *place, void *target)
{
	struct port_mapping *port = target;
	bool range = *port->container_port_range != '\0';

	port->first_port = port->last_port = port->container_port;
	if (range && port->container_port != 0)
		parse_fault(parse, place, "has both containerPort and containerPortRange");
	if (range && !port_range_parse(port->container_port_range, port))
		parse_fault(parse, PLACE_MEMBER(place, "containerPortRange"),
			    "must be two ports such as \"8000-8010\"");
	if (!range && port->container_port == 0)
		parse_fault(parse, PLACE_MEMBER(place, "containerPort"), "is required");
	// Without a containerPort, and without a range for it, that one has the fault.
	if (port->host_port != 0 && port->host_port != port->container_port &&
	    (range || port->container_port != 0))
		parse_fault(parse, PLACE_MEMBER(place, "hostPort"),
			    "must be absent or equal to containerPort: a task has its own address");
	port->host_port = 0;
}

static const struct field_table port_table = {FIELD_TABLE(port_mapping, port_fields),
					      .finish = finish_port};

// ---------------------------------------------------------------- small structs

static const struct field environment_fields[] = {
	{.name = "name",
	 .type = FIELD_TEXT,
	 .flags = FIELD_REQUIRED,
	 .min = 1,
	 .max = 255,
	 .text = "",
	 .complaint = complain_variable,
	 FIELD_AT(name_value, name)},
	{.name = "value",
	 .type = FIELD_TEXT,
	 .flags = FIELD_REQUIRED | FIELD_SECRET,
	 .max = TEXT_MAX,
	 .text = "",
	 FIELD_AT(name_value, value)},
};
static const struct field_table environment_table = {FIELD_TABLE(name_value, environment_fields)};

static const struct field mount_fields[] = {
	{.name = "sourceVolume",
	 .type = FIELD_TEXT,
	 .flags = FIELD_REQUIRED,
	 .min = 1,
	 .max = CONTAINER_NAME_MAX,
	 .text = "",
	 FIELD_AT(mount_point, source_volume)},
	{.name = "containerPath",
	 .type = FIELD_TEXT,
	 .flags = FIELD_REQUIRED,
	 .min = 1,
	 .max = 1024,
	 .text = "",
	 .complaint = complain_mount_path,
	 FIELD_AT(mount_point, container_path)},
	{.name = "readOnly", .type = FIELD_BOOLEAN, FIELD_AT(mount_point, read_only)},
};
static const struct field_table mount_table = {FIELD_TABLE(mount_point, mount_fields)};

static const char *const condition_words[] = {"START", "COMPLETE", "SUCCESS", "HEALTHY", NULL};

static const struct field dependency_fields[] = {
	{.name = "containerName",
	 .type = FIELD_TEXT,
	 .flags = FIELD_REQUIRED,
	 .min = 1,
	 .max = CONTAINER_NAME_MAX,
	 .text = "",
	 FIELD_AT(container_dependency, container_name)},
	{.name = "condition",
	 .type = FIELD_ENUM,
	 .flags = FIELD_REQUIRED,
	 .words = condition_words,
	 FIELD_AT(container_dependency, condition)},
};
static const struct field_table dependency_table = {
	FIELD_TABLE(container_dependency, dependency_fields)};

// ---------------------------------------------------------------- health check

// Of entryPoint, command and health checks: secrets are often passed as arguments.
static const struct field argument_element = {
	.type = FIELD_TEXT, .flags = FIELD_SECRET, .max = TEXT_MAX};

#define CHECK_NUMBER(member_name, member, lowest, highest, default_number)                         \
	{                                                                                          \
		.name = (member_name), .type = FIELD_U32, .min = (lowest), .max = (highest),       \
		.number = (default_number), FIELD_AT(container_health_check, member)               \
	}

static const struct field health_fields[] = {
	{.name = "command",
	 .type = FIELD_LIST,
	 .flags = FIELD_REQUIRED,
	 .min = 2,
	 .max = CONTAINER_ARGUMENTS_MAX,
	 .element = &argument_element,
	 FIELD_LIST_AT(container_health_check, command, command_count)},
	CHECK_NUMBER("interval", interval_seconds, 5, 300, 30),
	CHECK_NUMBER("timeout", timeout_seconds, 2, 60, 5),
	CHECK_NUMBER("retries", retries, 1, 10, 3),
	CHECK_NUMBER("startPeriod", start_period_seconds, 0, 300, 0),
};

static void finish_health(struct parse *parse, const struct place *place, void *target)
{
	struct container_health_check *check = target;
	const struct place *command = PLACE_MEMBER(place, "command");

	if (check->command_count == 0)
		return;
	check->shell = strcmp(check->command[0], "CMD-SHELL") == 0;
	check->arguments = check->command + 1;
	check->argument_count = check->command_count - 1;
	if (!check->shell && strcmp(check->command[0], "CMD") != 0)
		parse_fault(parse, PLACE_INDEX(command, 0), "must be \"CMD\" or \"CMD-SHELL\"");
	if (check->shell && check->argument_count > 1)
		parse_fault(parse, command, "must have one text after \"CMD-SHELL\"");
}

static const struct field_table health_table = {FIELD_TABLE(container_health_check, health_fields),
						.finish = finish_health};

// ---------------------------------------------------------------- container

#define OPTIONAL_LIST(member_name, items, items_count, most, element_field)                        \
	{                                                                                          \
		.name = (member_name), .type = FIELD_LIST, .flags = FIELD_SPARSE, .max = (most),   \
		.element = (element_field), FIELD_LIST_AT(container_spec, items, items_count)      \
	}
// Variables have unique names, and mounts are made in the order of their paths (manifest.c).
#define OPTIONAL_SET(member_name, items, items_count, most, element_table)                         \
	{                                                                                          \
		.name = (member_name), .type = FIELD_LIST, .flags = FIELD_SPARSE | FIELD_SET,      \
		.max = (most), .element = OBJECT_ELEMENT(element_table),                           \
		FIELD_LIST_AT(container_spec, items, items_count)                                  \
	}
#define OBJECT_ELEMENT(of_table) (&(const struct field){.type = FIELD_OBJECT, .table = (of_table)})

static const struct field container_fields[] = {
	{.name = "name",
	 .type = FIELD_TEXT,
	 .flags = FIELD_REQUIRED,
	 .min = 1,
	 .max = CONTAINER_NAME_MAX,
	 .text = "",
	 .complaint = complain_name,
	 FIELD_AT(container_spec, name)},
	{.name = "image",
	 .type = FIELD_TEXT,
	 .flags = FIELD_REQUIRED,
	 .min = 1,
	 .max = 255,
	 .text = "",
	 .complaint = complain_image,
	 FIELD_AT(container_spec, image)},
	{.name = "essential",
	 .type = FIELD_BOOLEAN,
	 .number = 1,
	 FIELD_AT(container_spec, essential)},
	OPTIONAL_LIST("entryPoint", entry_point, entry_point_count, CONTAINER_ARGUMENTS_MAX,
		      &argument_element),
	OPTIONAL_LIST("command", command, command_count, CONTAINER_ARGUMENTS_MAX,
		      &argument_element),
	OPTIONAL_SET("environment", environment, environment_count, CONTAINER_ENVIRONMENT_MAX,
		     &environment_table),
	{.name = "user",
	 .type = FIELD_TEXT,
	 .min = 1,
	 .max = 255,
	 .text = "",
	 .complaint = complain_user,
	 FIELD_AT(container_spec, user)},
	{.name = "workingDirectory",
	 .type = FIELD_TEXT,
	 .min = 1,
	 .max = 1024,
	 .text = "",
	 .complaint = complain_path,
	 FIELD_AT(container_spec, working_directory)},
	{.name = "readonlyRootFilesystem",
	 .type = FIELD_BOOLEAN,
	 FIELD_AT(container_spec, read_only_root)},
	OPTIONAL_SET("portMappings", ports, port_count, CONTAINER_PORTS_MAX, &port_table),
	OPTIONAL_SET("mountPoints", mounts, mount_count, CONTAINER_MOUNTS_MAX, &mount_table),
	OPTIONAL_SET("dependsOn", depends_on, depends_on_count, TASK_CONTAINERS_MAX,
		     &dependency_table),
	{.name = "healthCheck",
	 .type = FIELD_POINTER,
	 .table = &health_table,
	 FIELD_AT(container_spec, health_check)},
	{.name = "startTimeout",
	 .type = FIELD_U32,
	 .min = 1,
	 .max = 600,
	 .number = 180,
	 FIELD_AT(container_spec, start_timeout_seconds)},
	{.name = "stopTimeout",
	 .type = FIELD_U32,
	 .min = 1,
	 .max = 120,
	 .number = 30,
	 FIELD_AT(container_spec, stop_timeout_seconds)},
	{.name = "memory",
	 .type = FIELD_U32,
	 .flags = FIELD_SPARSE,
	 .min = CONTAINER_MEMORY_MIN_MIB,
	 .max = 122880,
	 FIELD_AT(container_spec, memory_mib)},
	FIELD_NOT_BUILT("secrets"),
	FIELD_NOT_BUILT("ulimits"),
	FIELD_NOT_BUILT("cpu"),
	FIELD_NOT_BUILT("memoryReservation"),
	FIELD_NOT_BUILT("dockerLabels"),
	FIELD_NOT_BUILT("environmentFiles"),
	FIELD_NOT_BUILT("firelensConfiguration"),
	FIELD_NOT_BUILT("interactive"),
	FIELD_NOT_BUILT("linuxParameters"),
	FIELD_NOT_BUILT("logConfiguration"),
	FIELD_NOT_BUILT("pseudoTerminal"),
	FIELD_NOT_BUILT("repositoryCredentials"),
	FIELD_NOT_BUILT("restartPolicy"),
	FIELD_NOT_BUILT("systemControls"),
	FIELD_NOT_BUILT("versionConsistency"),
	FIELD_NOT_BUILT("volumesFrom"),
	FIELD_FARGATE_REFUSES("credentialSpecs"),
	FIELD_FARGATE_REFUSES("disableNetworking"),
	FIELD_FARGATE_REFUSES("dnsSearchDomains"),
	FIELD_FARGATE_REFUSES("dnsServers"),
	FIELD_FARGATE_REFUSES("dockerSecurityOptions"),
	FIELD_FARGATE_REFUSES("extraHosts"),
	FIELD_FARGATE_REFUSES("hostname"),
	FIELD_FARGATE_REFUSES("links"),
	FIELD_FARGATE_REFUSES("privileged"),
	FIELD_FARGATE_REFUSES("resourceRequirements"),
};

static void finish_container(struct parse *parse, const struct place *place, void *target)
{
	const struct container_spec *container = target;

	parse_unique(parse, PLACE_MEMBER(place, "environment"), "name", container->environment,
		     container->environment_count, sizeof(*container->environment),
		     offsetof(struct name_value, name));
	parse_unique(parse, PLACE_MEMBER(place, "mountPoints"), "containerPath", container->mounts,
		     container->mount_count, sizeof(*container->mounts),
		     offsetof(struct mount_point, container_path));
	parse_unique(parse, PLACE_MEMBER(place, "dependsOn"), "containerName",
		     container->depends_on, container->depends_on_count,
		     sizeof(*container->depends_on),
		     offsetof(struct container_dependency, container_name));
}

const struct field_table container_table = {FIELD_TABLE(container_spec, container_fields),
					    .finish = finish_container};
