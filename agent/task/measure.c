// SPDX-License-Identifier: Apache-2.0
// Metrics. What the host counts is measured when asked for, never in between, a slice at a time:
// some tasks' cgroups and disks, ten system calls each, or the dumps of one VPC.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/base/scope.h"
#include "agent/task/internal.h"

enum { TASKS_PER_SLICE = 32 };

// --- A task's life ---

void task_expose_state(const struct task *task, enum task_state state)
{
	struct metrics *metrics = task->engine->metrics;
	const char *labels[] = {task->id, task->status.network.eni_id,
				task_state_name(task->status.last_status)};

	metrics_remove(metrics, METRIC_TASK_STATE, labels);
	labels[2] = task_state_name(state);
	metrics_set(metrics, METRIC_TASK_STATE, 1, labels);
}

void task_observe_start(const struct task *task)
{
	metrics_observe(task->engine->metrics, METRIC_TASK_START_DURATION_SECONDS,
			(double)(clock_monotonic_us() - task->created_us) / 1e6,
			(const char *[]){"total"});
}

void task_observe_stop(const struct task *task)
{
	if (task->stop_us)
		metrics_observe(task->engine->metrics, METRIC_TASK_STOP_DURATION_SECONDS,
				(double)(clock_monotonic_us() - task->stop_us) / 1e6,
				(const char *[]){"total"});
}

// --- Its use of the host ---

static bool is_live(const struct task *task)
{
	return task->status.last_status != TASK_STOPPED;
}

// What its record says.
static void measure_record(struct task *task, const char *const *labels)
{
	struct metrics *metrics = task->engine->metrics;

	metrics_set(metrics, METRIC_TASK_METADATA_INFO, 1,
		    (const char *[]){labels[0], labels[1], task->spec->family});
	metrics_set(metrics, METRIC_TASK_GUEST_SILENT, task->status.guest_silent_since_ms != 0,
		    labels);
	metrics_set(metrics, METRIC_TASK_CPU_LIMIT_VCPUS, (double)task->spec->cpu_units / 1024,
		    labels);
	metrics_set(metrics, METRIC_TASK_MEMORY_LIMIT_BYTES,
		    (double)((uint64_t)task->spec->memory_mib << 20), labels);
	metrics_set(metrics, METRIC_TASK_STORAGE_ALLOCATED_BYTES,
		    (double)((uint64_t)task->spec->ephemeral_storage_gib << 30), labels);
}

// What the guest says of its containers, some seconds old; the host sees the VMM's memory alone,
// with all that the guest's kernel has ever touched. The netns driver has no cgroup for each
// container: there the cell is the task (container "").
static void measure_containers(struct task *task, const char *const *task_labels)
{
	struct metrics *metrics = task->engine->metrics;

	for (uint32_t i = 0; i < task->spec->container_count; i++) {
		const char *labels[] = {task_labels[0], task_labels[1],
					task->spec->containers[i].name};
		uint64_t used = task->cell.guest.containers[i].memory_bytes;

		if (used)
			metrics_set(metrics, METRIC_CONTAINER_MEMORY_USED_BYTES, (double)used,
				    labels);
		else
			metrics_remove(metrics, METRIC_CONTAINER_MEMORY_USED_BYTES, labels);
	}
}

static void measure_cell(struct task *task, const char *const *labels)
{
	struct metrics *metrics = task->engine->metrics;
	struct cgroup_usage usage;
	struct error ignored = {0};
	uint64_t disk_bytes;

	if (ephemeral_disk_used(&task->engine->pool, task->id, &disk_bytes, &ignored) == 0)
		metrics_set(metrics, METRIC_TASK_STORAGE_USED_BYTES, (double)disk_bytes, labels);
	if (cgroup_usage_read(&task->engine->tree, task->id, &usage, &ignored) < 0)
		return;
	if (usage.has_cpu)
		metrics_set(metrics, METRIC_TASK_CPU_USAGE_SECONDS, (double)usage.cpu_usec / 1e6,
			    labels);
	if (usage.has_memory)
		metrics_set(metrics, METRIC_CELL_MEMORY_USED_BYTES,
			    (double)usage.memory_working_set_bytes, labels);
	metrics_set(metrics, METRIC_CELL_MEMORY_LIMIT_BYTES, (double)cell_memory_bytes(task),
		    labels);
	if (usage.has_memory && task->vmm->link == VMM_LINK_NETNS)
		metrics_set(metrics, METRIC_CONTAINER_MEMORY_USED_BYTES,
			    (double)usage.memory_working_set_bytes,
			    (const char *[]){labels[0], labels[1], ""});
	if (usage.has_io) {
		metrics_set(metrics, METRIC_TASK_STORAGE_READ_BYTES, (double)usage.io_read_bytes,
			    labels);
		metrics_set(metrics, METRIC_TASK_STORAGE_WRITE_BYTES, (double)usage.io_write_bytes,
			    labels);
	}
}

// The live tasks of a VPC in the order of their ENI ids, for one slice.
struct eni_index {
	struct task **tasks;
	size_t count;
};

static int compare_enis(const void *one, const void *other)
{
	const struct task *const *first = one, *const *second = other;

	return strcmp((*first)->status.network.eni_id, (*second)->status.network.eni_id);
}

static void index_tasks(const struct network_vpc *vpc, struct arena *arena,
			struct eni_index *ret_index)
{
	struct task *tasks = vpc->engine->tasks;
	struct eni_index index = {0};

	for (const struct task *task = tasks; task; task = task->next)
		index.count += task_is_of_vpc(task, vpc);
	index.tasks = arena_array(arena, struct task *, index.count + 1);
	index.count = 0;
	for (struct task *task = tasks; task; task = task->next)
		if (task_is_of_vpc(task, vpc))
			index.tasks[index.count++] = task;
	qsort(index.tasks, index.count, sizeof(*index.tasks), compare_enis);
	*ret_index = index;
}

static struct task *task_of_eni(const struct eni_index *index, const char *eni_id)
{
	struct task wanted = {.status.network.eni_id = eni_id}, *key = &wanted;
	struct task **found =
		bsearch(&key, index->tasks, index->count, sizeof(*index->tasks), compare_enis);

	return found ? *found : NULL;
}

static void measure_network(struct network_vpc *vpc, const struct eni_index *index)
{
	struct engine *engine = vpc->engine;
	scoped_free struct netif_counters *counters = NULL;
	struct error ignored = {0};
	size_t count = 0;

	if (netif_vpc_counters(engine->netif, vpc->id, &counters, &count, &ignored) < 0)
		return;
	for (size_t i = 0; i < count; i++) {
		struct task *task = task_of_eni(index, counters[i].eni_id);
		const char *labels[] = {task ? task->id : "", counters[i].eni_id};

		if (!task)
			continue;
		metrics_set(engine->metrics, METRIC_TASK_NETWORK_RECEIVE_BYTES,
			    (double)counters[i].rx_bytes, labels);
		metrics_set(engine->metrics, METRIC_TASK_NETWORK_RECEIVE_PACKETS,
			    (double)counters[i].rx_packets, labels);
		metrics_set(engine->metrics, METRIC_TASK_NETWORK_TRANSMIT_BYTES,
			    (double)counters[i].tx_bytes, labels);
		metrics_set(engine->metrics, METRIC_TASK_NETWORK_TRANSMIT_PACKETS,
			    (double)counters[i].tx_packets, labels);
	}
}

// Of the task whose packet it is; "any": counted whichever way it went.
static const char *const drop_directions[SG_DROP_REASON_COUNT] = {
	[SG_DROP_SPOOFED] = "egress",
	[SG_DROP_EGRESS_DENIED] = "egress",
	[SG_DROP_INGRESS_DENIED] = "ingress",
	[SG_DROP_BALANCER_DENIED] = "any",
	[SG_DROP_IPV6] = "any",
	[SG_DROP_INVALID] = "any",
	[SG_DROP_HOST] = "egress",
	[SG_DROP_TRANSIT] = "any",
	[SG_DROP_FRAGMENTS] = "egress",
	[SG_DROP_CONNECTIONS] = "egress",
};

static void measure_vpc_drops(struct network_vpc *vpc, int socket_fd)
{
	struct sg_drops drops;
	struct error ignored = {0};

	if (sg_vpc_drops_read(socket_fd, &drops, &ignored) < 0)
		return;
	for (enum sg_drop_reason reason = 0; reason < SG_DROP_REASON_COUNT; reason++)
		metrics_set(vpc->engine->metrics, METRIC_SG_DROPPED_PACKETS,
			    (double)drops.packets[reason],
			    (const char *[]){vpc->id, drop_directions[reason],
					     sg_drop_reason_name(reason)});
}

// Most tasks drop nothing: a series is there from the first packet on.
static void measure_task_drops(struct task *task, const struct sg_drops *drops)
{
	for (enum sg_drop_reason reason = 0; reason < SG_DROP_REASON_COUNT; reason++) {
		const char *labels[] = {task->id, drops->eni_id, drop_directions[reason],
					sg_drop_reason_name(reason)};

		if (drops->packets[reason] > 0)
			metrics_set(task->engine->metrics, METRIC_TASK_DROPPED_PACKETS,
				    (double)drops->packets[reason], labels);
	}
}

static void measure_drops(struct network_vpc *vpc, const struct eni_index *index)
{
	struct engine *engine = vpc->engine;
	scoped_free struct sg_drops *drops = NULL;
	struct error ignored = {0};
	size_t count = 0;
	int socket_fd;

	if (netif_netfilter_socket(engine->netif, vpc->id, &socket_fd, &ignored) < 0)
		return;
	measure_vpc_drops(vpc, socket_fd);
	if (sg_eni_drops_read(socket_fd, &drops, &count, &ignored) < 0)
		return;
	for (size_t i = 0; i < count; i++) {
		struct task *task = task_of_eni(index, drops[i].eni_id);

		if (task)
			measure_task_drops(task, &drops[i]);
	}
}

static void measure_connections(struct network_vpc *vpc)
{
	struct error ignored = {0};
	uint32_t count;

	if (netif_vpc_connections(vpc->engine->netif, vpc->id, &count, &ignored) == 0)
		metrics_set(vpc->engine->metrics, METRIC_CONNTRACK_ENTRIES, count,
			    (const char *[]){vpc->id});
}

static void measure_subnets(struct engine *engine)
{
	for (struct network_subnet *subnet = engine->subnets; subnet; subnet = subnet->next) {
		struct ipam_counts counts =
			ipam_count(subnet->ipam, network_lease_ms(engine, subnet));
		const struct {
			const char *state;
			uint32_t count;
		} states[] = {{"reserved", counts.reserved},
			      {"used", counts.used},
			      {"cooling", counts.cooling},
			      {"free", counts.free}};

		for (size_t i = 0; i < ARRAY_LENGTH(states); i++)
			metrics_set(engine->metrics, METRIC_IPAM_ADDRESSES, states[i].count,
				    (const char *[]){subnet->id, states[i].state});
	}
}

static void measure_targets(struct engine *engine, const char *group_id)
{
	scoped_free struct lb_target_status *targets = NULL;
	unsigned states[LB_STATE_COUNT] = {0};
	struct error ignored = {0};
	size_t count = 0;

	if (lb_group_status(engine->lb, group_id, &targets, &count, &ignored) < 0)
		return;
	for (size_t i = 0; i < count; i++) {
		char address[IPV4_TEXT_SIZE], name[IPV4_TEXT_SIZE + 8];

		states[targets[i].state]++;
		snprintf(name, sizeof(name), "%s:%u",
			 ipv4_format(targets[i].target.address, address), targets[i].target.port);
		metrics_set(engine->metrics, METRIC_LB_TARGET_STATE, 1,
			    (const char *[]){group_id, name, lb_state_name(targets[i].state)});
	}
	for (enum lb_state state = 0; state < LB_STATE_COUNT; state++)
		metrics_set(engine->metrics, METRIC_LB_TARGETS, states[state],
			    (const char *[]){group_id, lb_state_name(state)});
}

// Anew: of groups and targets that are gone nothing is left.
static void measure_target_groups(struct engine *engine)
{
	metrics_clear(engine->metrics, METRIC_LB_TARGET_STATE);
	metrics_clear(engine->metrics, METRIC_LB_TARGETS);
	for (struct object *o = engine->objects[MODEL_TARGET_GROUP]; o; o = o->next)
		measure_targets(engine, o->model.id);
}

static void measure_capacity(struct engine *engine)
{
	struct engine_capacity capacity = engine_capacity(engine);
	const struct {
		enum metric_id metric;
		double total, promised;
	} rows[] = {
		{METRIC_CAPACITY_VCPUS, capacity.cpu_units / 1024.0,
		 capacity.cpu_units_promised / 1024.0},
		{METRIC_CAPACITY_MEMORY_BYTES, capacity.memory_mib * 0x1p20,
		 capacity.memory_mib_promised * 0x1p20},
		{METRIC_CAPACITY_STORAGE_BYTES, capacity.disk_gib * 0x1p30,
		 capacity.disk_gib_promised * 0x1p30},
	};

	for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
		metrics_set(engine->metrics, rows[i].metric, rows[i].total,
			    (const char *[]){"total"});
		metrics_set(engine->metrics, rows[i].metric, rows[i].promised,
			    (const char *[]){"promised"});
	}
}

static void measure_task(struct task *task)
{
	const char *labels[] = {task->id, task->status.network.eni_id};

	if (!is_live(task))
		return;
	measure_record(task, labels);
	measure_containers(task, labels);
	measure_cell(task, labels);
}

// True when that was the last slice of them. A task that comes meanwhile is of the next update.
static bool measure_tasks(struct engine *engine)
{
	if (!engine->task_to_measure)
		engine->task_to_measure = engine->tasks;
	for (unsigned i = 0; i < TASKS_PER_SLICE && engine->task_to_measure; i++) {
		measure_task(engine->task_to_measure);
		engine->task_to_measure = engine->task_to_measure->next;
	}
	return !engine->task_to_measure;
}

static void measure_vpc(struct network_vpc *vpc)
{
	scoped(arena_release) struct arena arena = {0};
	struct eni_index index;

	index_tasks(vpc, &arena, &index);
	measure_network(vpc, &index);
	measure_drops(vpc, &index);
	measure_connections(vpc);
}

// Tasks first, then one VPC at a time; true when that was the last slice.
static bool measure_slice(struct engine *engine)
{
	if (!engine->vpc_to_measure) {
		if (!measure_tasks(engine))
			return false;
		engine->vpc_to_measure = engine->vpcs;
	}
	if (engine->vpc_to_measure) {
		measure_vpc(engine->vpc_to_measure);
		engine->vpc_to_measure = engine->vpc_to_measure->next;
	}
	return !engine->vpc_to_measure;
}

static void count_tasks(struct engine *engine)
{
	unsigned states[TASK_STATE_COUNT] = {0};

	for (const struct task *task = engine->tasks; task; task = task->next)
		states[task->status.last_status]++;
	for (size_t i = 0; i < TASK_STATE_COUNT; i++)
		metrics_set(engine->metrics, METRIC_TASKS, states[i],
			    (const char *[]){task_state_name((enum task_state)i)});
}

bool engine_metrics_update(struct engine *engine)
{
	struct metrics *metrics = engine->metrics;

	if (!measure_slice(engine))
		return false;
	metrics_set(metrics, METRIC_BUILD_INFO, 1, (const char *[]){PENSTOCK_VERSION});
	metrics_set(metrics, METRIC_SERIES_REFUSED, (double)metrics_series_refused(metrics), NULL);
	count_tasks(engine);
	measure_subnets(engine);
	measure_target_groups(engine);
	measure_capacity(engine);
	return true;
}
