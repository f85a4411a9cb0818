// SPDX-License-Identifier: Apache-2.0
#include "agent/model/task_check.h"

#include <string.h>

#include "agent/base/scope.h"

enum {
	NOT_FOUND = UINT32_MAX,
	// All texts of a task travel to the guest in one manifest of at most 1 MiB. There a byte
	// may take three, and every text has some words around it.
	MANIFEST_BUDGET = 900 * 1024,
	MANIFEST_BYTES_PER_BYTE = 3,
	MANIFEST_BYTES_PER_TEXT = 64,
};

// ---------------------------------------------------------------- CPU and memory

// AWS Fargate's table: for each CPU the memory from first to last, in steps.
static const struct {
	uint32_t cpu_units, first_mib, last_mib, step_mib;
} configurations[] = {
	{256, 512, 512, 512},       {256, 1024, 2048, 1024},      {512, 1024, 4096, 1024},
	{1024, 2048, 8192, 1024},   {2048, 4096, 16384, 1024},    {4096, 8192, 30720, 1024},
	{8192, 16384, 61440, 4096}, {16384, 32768, 122880, 8192},
};

static bool configuration_exists(uint32_t cpu_units, uint32_t memory_mib)
{
	for (size_t i = 0; i < ARRAY_LENGTH(configurations); i++)
		if (configurations[i].cpu_units == cpu_units &&
		    memory_mib >= configurations[i].first_mib &&
		    memory_mib <= configurations[i].last_mib &&
		    (memory_mib - configurations[i].first_mib) % configurations[i].step_mib == 0)
			return true;
	return false;
}

static void check_size(struct parse *parse, const struct place *place, const struct task_spec *task)
{
	if (task->cpu_units == 0 || task->memory_mib == 0)
		return; // has its fault already
	if (!configuration_exists(task->cpu_units, task->memory_mib))
		parse_fault(parse, PLACE_MEMBER(place, "cpu"),
			    "No Fargate configuration exists for given values.");
}

// ---------------------------------------------------------------- names to indexes

static uint32_t container_find(const struct task_spec *task, const char *name)
{
	for (uint32_t i = 0; i < task->container_count; i++)
		if (*name && strcmp(task->containers[i].name, name) == 0)
			return i;
	return NOT_FOUND;
}

static uint32_t volume_find(const struct task_spec *task, const char *name)
{
	for (uint32_t i = 0; i < task->volume_count; i++)
		if (*name && strcmp(task->volumes[i].name, name) == 0)
			return i;
	return NOT_FOUND;
}

// An index to keep: 0 after a fault.
static uint32_t resolved(struct parse *parse, const struct place *place, uint32_t index,
			 const char *what, const char *name)
{
	if (index != NOT_FOUND)
		return index;
	if (*name)
		parse_fault(parse, place, "there is no %s \"%.200s\" in this task", what, name);
	return 0;
}

static void resolve_mounts(struct parse *parse, const struct place *place,
			   const struct task_spec *task, const struct container_spec *container)
{
	const struct place *mounts = PLACE_MEMBER(place, "mountPoints");

	for (uint32_t i = 0; i < container->mount_count; i++) {
		struct mount_point *mount = &container->mounts[i];

		mount->volume = resolved(
			parse, PLACE_MEMBER(PLACE_INDEX(mounts, i), "sourceVolume"),
			volume_find(task, mount->source_volume), "volume", mount->source_volume);
	}
}

static void check_dependency(struct parse *parse, const struct place *place,
			     const struct container_dependency *dependency,
			     const struct container_spec *needed)
{
	const struct place *condition = PLACE_MEMBER(place, "condition");

	if (needed->essential && (dependency->condition == CONDITION_COMPLETE ||
				  dependency->condition == CONDITION_SUCCESS))
		parse_fault(
			parse, condition,
			"COMPLETE and SUCCESS cannot be asked of an essential container: when it "
			"ends, the task ends");
	if (dependency->condition == CONDITION_HEALTHY && !needed->health_check)
		parse_fault(parse, condition, "container \"%.200s\" has no healthCheck",
			    needed->name);
}

static void resolve_dependencies(struct parse *parse, const struct place *place,
				 const struct task_spec *task,
				 const struct container_spec *container)
{
	const struct place *dependencies = PLACE_MEMBER(place, "dependsOn");

	for (uint32_t i = 0; i < container->depends_on_count; i++) {
		struct container_dependency *dependency = &container->depends_on[i];
		const struct place *here = PLACE_INDEX(dependencies, i);
		uint32_t index = container_find(task, dependency->container_name);

		dependency->container = resolved(parse, PLACE_MEMBER(here, "containerName"), index,
						 "container", dependency->container_name);
		if (index != NOT_FOUND)
			check_dependency(parse, here, dependency, &task->containers[index]);
	}
}

// ---------------------------------------------------------------- order of starts

static bool can_start(const struct task_spec *task, uint32_t index, const bool *placed)
{
	const struct container_spec *container = &task->containers[index];

	if (placed[index])
		return false;
	for (uint32_t i = 0; i < container->depends_on_count; i++) {
		const struct container_dependency *dependency = &container->depends_on[i];

		if (container_find(task, dependency->container_name) != NOT_FOUND &&
		    !placed[dependency->container])
			return false;
	}
	return true;
}

// The first container that waits for nothing unplaced; NOT_FOUND: those left wait for one another.
static uint32_t next_start(const struct task_spec *task, const bool *placed)
{
	for (uint32_t i = 0; i < task->container_count; i++)
		if (can_start(task, i, placed))
			return i;
	return NOT_FOUND;
}

// Whether `from` waits for `to`, directly or over others.
static bool waits_for(const struct task_spec *task, uint32_t from, uint32_t to, bool *seen)
{
	const struct container_spec *container = &task->containers[from];

	for (uint32_t i = 0; i < container->depends_on_count; i++) {
		uint32_t next = container_find(task, container->depends_on[i].container_name);

		if (next == to)
			return true;
		if (next == NOT_FOUND || seen[next])
			continue;
		seen[next] = true;
		if (waits_for(task, next, to, seen))
			return true;
	}
	return false;
}

// Those left over wait for themselves, or only for some that do.
static void check_cycle(struct parse *parse, const struct place *containers,
			const struct task_spec *task, uint32_t index)
{
	bool seen[TASK_CONTAINERS_MAX] = {false};

	if (waits_for(task, index, index, seen))
		parse_fault(parse, PLACE_MEMBER(PLACE_INDEX(containers, index), "dependsOn"),
			    "dependencies form a cycle");
}

static void order_starts(struct parse *parse, const struct place *containers,
			 struct task_spec *task)
{
	bool placed[TASK_CONTAINERS_MAX] = {false};

	task->start_order = arena_array(parse->arena, uint32_t, task->container_count);
	for (uint32_t count = 0; count < task->container_count; count++) {
		uint32_t next = next_start(task, placed);

		if (next == NOT_FOUND)
			break;
		task->start_order[count] = next;
		placed[next] = true;
	}
	for (uint32_t i = 0; i < task->container_count; i++)
		if (!placed[i])
			check_cycle(parse, containers, task, i);
}

// ---------------------------------------------------------------- ports and targets

static bool ports_overlap(const struct port_mapping *one, const struct port_mapping *other)
{
	return one->first_port != 0 && other->first_port != 0 &&
	       one->first_port <= other->last_port && other->first_port <= one->last_port;
}

// Containers share the task's address: a port belongs to one of them, once.
static bool port_is_taken(const struct task_spec *task, uint32_t container, uint32_t port)
{
	const struct port_mapping *mapping = &task->containers[container].ports[port];

	for (uint32_t i = 0; i <= container; i++) {
		uint32_t count = i < container ? task->containers[i].port_count : port;

		for (uint32_t k = 0; k < count; k++)
			if (ports_overlap(&task->containers[i].ports[k], mapping))
				return true;
	}
	return false;
}

static void check_ports(struct parse *parse, const struct place *place,
			const struct task_spec *task, uint32_t container)
{
	const struct place *ports = PLACE_MEMBER(place, "portMappings");

	for (uint32_t i = 0; i < task->containers[container].port_count; i++)
		if (port_is_taken(task, container, i))
			parse_fault(parse, PLACE_INDEX(ports, i),
				    "the port is mapped already: all containers share one address");
}

static bool container_has_port(const struct container_spec *container, uint32_t port)
{
	for (uint32_t i = 0; i < container->port_count; i++)
		if (container->ports[i].first_port <= port && port <= container->ports[i].last_port)
			return true;
	return false;
}

static bool targets_equal(const struct task_target *one, const struct task_target *other)
{
	return strcmp(one->target_group, other->target_group) == 0 &&
	       strcmp(one->container_name, other->container_name) == 0 &&
	       one->container_port == other->container_port;
}

static void check_target(struct parse *parse, const struct place *place,
			 const struct task_spec *task, uint32_t index)
{
	struct task_target *target = &task->targets[index];
	uint32_t container = container_find(task, target->container_name);

	target->container = resolved(parse, PLACE_MEMBER(place, "containerName"), container,
				     "container", target->container_name);
	if (container != NOT_FOUND && target->container_port != 0 &&
	    !container_has_port(&task->containers[container], target->container_port))
		parse_fault(parse, PLACE_MEMBER(place, "containerPort"),
			    "container \"%.200s\" has no port mapping for port %u",
			    target->container_name, target->container_port);
	for (uint32_t i = 0; i < index; i++)
		if (*target->target_group && targets_equal(&task->targets[i], target))
			parse_fault(parse, place, "stands twice: first at index %u", i);
}

// ---------------------------------------------------------------- sizes

static size_t text_cost(const char *text)
{
	return strlen(text) * MANIFEST_BYTES_PER_BYTE + MANIFEST_BYTES_PER_TEXT;
}

static size_t list_cost(const char *const *texts, uint32_t count)
{
	size_t cost = 0;

	for (uint32_t i = 0; i < count; i++)
		cost += text_cost(texts[i]);
	return cost;
}

static size_t container_cost(const struct container_spec *container)
{
	size_t cost = list_cost(container->entry_point, container->entry_point_count) +
		      list_cost(container->command, container->command_count);

	for (uint32_t i = 0; i < container->environment_count; i++)
		cost += text_cost(container->environment[i].name) +
			text_cost(container->environment[i].value);
	for (uint32_t i = 0; i < container->mount_count; i++)
		cost += text_cost(container->mounts[i].container_path);
	if (container->health_check)
		cost += list_cost(container->health_check->arguments,
				  container->health_check->argument_count);
	return cost;
}

static void check_manifest(struct parse *parse, const struct place *containers,
			   const struct task_spec *task)
{
	size_t cost = 0;

	for (uint32_t i = 0; i < task->container_count; i++)
		cost += container_cost(&task->containers[i]);
	if (cost > MANIFEST_BUDGET)
		parse_fault(parse, containers,
			    "commands and environments of all containers are too large: "
			    "together they may have about %d KiB",
			    MANIFEST_BUDGET / MANIFEST_BYTES_PER_BYTE / 1024);
}

// ---------------------------------------------------------------- task

static void check_names(struct parse *parse, const struct place *place,
			const struct task_spec *task)
{
	parse_unique(parse, PLACE_MEMBER(place, "containerDefinitions"), "name", task->containers,
		     task->container_count, sizeof(*task->containers),
		     offsetof(struct container_spec, name));
	parse_unique(parse, PLACE_MEMBER(place, "volumes"), "name", task->volumes,
		     task->volume_count, sizeof(*task->volumes),
		     offsetof(struct task_volume, name));
	parse_unique(parse, PLACE_MEMBER(place, "tags"), "key", task->tags, task->tag_count,
		     sizeof(*task->tags), offsetof(struct name_value, name));
}

static void check_essential(struct parse *parse, const struct place *containers,
			    const struct task_spec *task)
{
	for (uint32_t i = 0; i < task->container_count; i++)
		if (task->containers[i].essential)
			return;
	if (task->container_count > 0)
		parse_fault(parse, containers, "at least one container must be essential");
}

static void check_memory(struct parse *parse, const struct place *containers,
			 const struct task_spec *task)
{
	uint64_t total_mib = 0;

	for (uint32_t i = 0; i < task->container_count; i++)
		total_mib += task->containers[i].memory_mib;
	if (task->memory_mib != 0 && total_mib > task->memory_mib)
		parse_fault(parse, containers,
			    "the memory of all containers is more than the task's %u MiB",
			    task->memory_mib);
}

static void check_containers(struct parse *parse, const struct place *containers,
			     struct task_spec *task)
{
	for (uint32_t i = 0; i < task->container_count; i++) {
		const struct place *here = PLACE_INDEX(containers, i);

		resolve_mounts(parse, here, task, &task->containers[i]);
		resolve_dependencies(parse, here, task, &task->containers[i]);
		check_ports(parse, here, task, i);
	}
	check_essential(parse, containers, task);
	check_memory(parse, containers, task);
	order_starts(parse, containers, task);
	check_manifest(parse, containers, task);
}

void task_check(struct parse *parse, const struct place *place, void *target)
{
	struct task_spec *task = target;
	const struct place *targets = PLACE_MEMBER(place, "loadBalancers");

	if (*task->family == '\0')
		task->family = arena_strdup(parse->arena, parse->id);
	check_size(parse, place, task);
	check_names(parse, place, task);
	check_containers(parse, PLACE_MEMBER(place, "containerDefinitions"), task);
	for (uint32_t i = 0; i < task->target_count; i++)
		check_target(parse, PLACE_INDEX(targets, i), task, i);
}
