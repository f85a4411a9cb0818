// SPDX-License-Identifier: Apache-2.0
// Choosing everything a new task will be: address, MAC, interface, uid, names. Nothing is
// touched here; what is chosen is committed with the spec before the first effect. The
// ledger of promised capacity is derived from the records, never stored.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "agent/base/clock.h"
#include "agent/base/scope.h"
#include "agent/task/internal.h"

void task_vmm_request(const struct engine *engine, const struct task_spec *spec,
		      struct vmm_request *ret_request)
{
	*ret_request = (struct vmm_request){
		.cpu_units = spec->cpu_units,
		.memory_mib = spec->memory_mib,
		.accelerator = engine->accelerator,
		.tsc_khz = engine->tsc_khz,
	};
}

static uint32_t charged_memory_mib(const struct engine *engine, const struct task_spec *spec)
{
	struct vmm_request request;

	task_vmm_request(engine, spec, &request);
	return spec->memory_mib + engine->vmm->overhead_mib(&request) + CELL_SHIM_OVERHEAD_MIB;
}

// The most that the logs of its containers and its console may take, each with the file that was
// rotated away.
static uint32_t log_mib_max(const struct engine *engine, const struct task_spec *spec)
{
	return (spec->container_count + 1) * 2 * engine->config->log_file_mib;
}

static uint32_t gib_of(uint32_t mib)
{
	return mib / 1024 + (mib % 1024 != 0);
}

struct engine_capacity engine_capacity(struct engine *engine)
{
	struct engine_capacity capacity = engine->capacity;

	capacity.uids_free = engine->config->uid_count;
	for (const struct task *task = engine->tasks; task; task = task->next) {
		if (task->status.last_status == TASK_STOPPED) {
			capacity.log_mib_promised += task->log_mib; // they do not grow any more
			continue;
		}
		capacity.log_mib_promised += log_mib_max(engine, task->spec);
		capacity.tasks++;
		capacity.uids_free--;
		capacity.cpu_units_promised += task->spec->cpu_units;
		capacity.memory_mib_promised += charged_memory_mib(engine, task->spec);
		capacity.disk_gib_promised += task->spec->ephemeral_storage_gib;
	}
	capacity.disk_gib_promised += gib_of(capacity.log_mib_promised);
	return capacity;
}

static int admit_amount(const char *what, const char *unit, uint32_t asked, uint32_t promised,
			uint32_t total, struct error *err)
{
	uint32_t free = total > promised ? total - promised : 0;

	if (asked <= free)
		return 0;
	return error_set(err, ENOSPC, "%s: %u %s asked, %u free of %u (%u promised)", what, asked,
			 unit, free, total, promised);
}

static int admit_capacity(struct engine *engine, const struct task_spec *spec, struct error *err)
{
	struct engine_capacity capacity = engine_capacity(engine);
	struct ephemeral_capacity disk = {capacity.disk_gib, capacity.disk_gib_promised,
					  capacity.disk_gib_headroom};
	uint32_t logs_gib = gib_of(capacity.log_mib_promised + log_mib_max(engine, spec)) -
			    gib_of(capacity.log_mib_promised);

	if (admit_amount("cpu", "units", spec->cpu_units, capacity.cpu_units_promised,
			 capacity.cpu_units, err) < 0 ||
	    admit_amount("memory", "MiB with the VMM's share", charged_memory_mib(engine, spec),
			 capacity.memory_mib_promised, capacity.memory_mib, err) < 0)
		return -err->code;
	return ephemeral_capacity_admit(&disk, spec->ephemeral_storage_gib + logs_gib, err);
}

// The next one after the last chosen, so that a uid is not used again at once.
static int choose_uid(const struct engine *engine, uint32_t *ret_uid, struct error *err)
{
	static uint32_t last;
	const struct config *config = engine->config;
	scoped_free bool *used = calloc(config->uid_count, sizeof(*used));

	if (!used)
		return error_set(err, ENOMEM, "out of memory");
	for (const struct task *task = engine->tasks; task; task = task->next) {
		uint32_t index = task->status.uid - config->uid_first;

		if (task->status.last_status != TASK_STOPPED && index < config->uid_count)
			used[index] = true;
	}
	for (uint32_t i = 1; i <= config->uid_count; i++) {
		uint32_t index = (last + i) % config->uid_count;

		if (used[index])
			continue;
		last = index;
		*ret_uid = config->uid_first + index;
		return 0;
	}
	return error_set(err, ENOSPC, "all %u uids of the range are in use", config->uid_count);
}

static const char *choose_eni_id(struct arena *arena)
{
	uint64_t bits[2] = {0};

	if (getrandom(bits, sizeof(bits), 0) != sizeof(bits))
		bits[0] = (uint64_t)clock_monotonic_us();
	return arena_printf(arena, "eni-%016llx%1llx", (unsigned long long)bits[0],
			    (unsigned long long)bits[1] & 0xf);
}

static struct network_subnet *lease_from(struct engine *engine, const struct task_spec *spec,
					 bool resting, uint32_t *ret_address, struct error *err)
{
	for (uint32_t i = 0; i < spec->subnet_count; i++) {
		struct network_subnet *subnet = network_subnet_find(engine, spec->subnets[i]);

		if (!subnet) {
			error_set(err, EAGAIN, "subnet %s is not ready yet, try again",
				  spec->subnets[i]);
			return NULL;
		}
		if (network_lease_address(engine, subnet, resting, ret_address, err) == 0)
			return subnet;
	}
	return NULL;
}

// The first subnet that has a free address, or else one that rests; or NULL and the error of the
// last one.
static struct network_subnet *lease_address(struct engine *engine, const struct task_spec *spec,
					    uint32_t *ret_address, struct error *err)
{
	struct error full = {0};
	struct network_subnet *subnet = lease_from(engine, spec, false, ret_address, &full);

	if (!subnet && full.code == ENOSPC)
		return lease_from(engine, spec, true, ret_address, err);
	if (!subnet)
		*err = full;
	return subnet;
}

static int choose_network(struct engine *engine, const struct task_spec *spec, struct arena *arena,
			  struct task_network *network, struct error *err)
{
	struct network_subnet *subnet =
		lease_address(engine, spec, &network->private_ipv4_address, err);
	struct mac_address mac;

	if (!subnet)
		return -err->code;
	network->vpc_id = arena_strdup(arena, subnet->vpc_id);
	network->subnet_id = arena_strdup(arena, subnet->id);
	network->eni_id = choose_eni_id(arena);
	network->gateway = ipv4_subnet_router(&subnet->block);
	network->prefix = subnet->block.prefix;
	mac = mac_from_eni(network->eni_id);
	mac_format(&mac, network->mac_address);
	eni_interface_name(engine->config->install, network->eni_id, network->interface_name);
	network->security_groups = arena_array(arena, const char *, spec->security_group_count + 1);
	network->security_group_count = spec->security_group_count;
	for (uint32_t i = 0; i < spec->security_group_count; i++)
		network->security_groups[i] = arena_strdup(arena, spec->security_groups[i]);
	return 0;
}

static void new_containers(const struct model_object *object, struct arena *arena,
			   struct task_status *status)
{
	const struct task_spec *spec = object->task;

	status->container_count = spec->container_count;
	status->containers = arena_array(arena, struct container_status, spec->container_count);
	for (uint32_t i = 0; i < spec->container_count; i++) {
		struct container_status *container = &status->containers[i];

		container->name = arena_strdup(arena, spec->containers[i].name);
		container->image = arena_strdup(arena, spec->containers[i].image);
		container->index = i;
		container->exit_code = CONTAINER_EXIT_NONE;
		container_docker_id(object->id, status->created_ms, i, container->docker_id);
	}
}

int task_admit(struct engine *engine, const struct model_object *object, struct arena *arena,
	       struct task_status *ret_status, struct error *err)
{
	struct task_status status = {
		.last_status = TASK_PROVISIONING,
		.desired_status = TASK_RUNNING,
		.created_ms = clock_wall_ms(),
		.boot_times.created = clock_boot(),
		.driver = engine->vmm->name,
		.drain_seconds = TASK_DRAIN_DEFAULT,
	};

	if (engine_admits(engine, err) < 0 || admit_capacity(engine, object->task, err) < 0 ||
	    choose_uid(engine, &status.uid, err) < 0 ||
	    choose_network(engine, object->task, arena, &status.network, err) < 0)
		return -err->code;
	status.boot_id = arena_strdup(arena, engine->boot_id);
	status.cgroup = arena_printf(arena, "penstock-%s/%s", engine->config->install, object->id);
	status.cell_directory =
		arena_printf(arena, "%s/cells/%s", engine->config->state_directory, object->id);
	new_containers(object, arena, &status);
	*ret_status = status;
	return 0;
}

int engine_task_plan(struct engine *engine, const struct model_object *object, struct arena *arena,
		     struct task_status *ret_status, struct error *err)
{
	struct network_subnet *subnet;

	if (task_admit(engine, object, arena, ret_status, err) < 0)
		return -err->code;
	subnet = network_subnet_find(engine, ret_status->network.subnet_id);
	ipam_return(subnet->ipam, ret_status->network.private_ipv4_address);
	return 0;
}

int task_adopt_identities(struct task *task, struct error *err)
{
	const struct task_network *network = &task->status.network;
	struct network_subnet *subnet = network_subnet_find(task->engine, network->subnet_id);

	if (!subnet)
		return error_set(err, ENOENT, "subnet %s is not there", network->subnet_id);
	if (ipam_adopt(subnet->ipam, network->private_ipv4_address, err) < 0)
		return -err->code;
	task->leased = true;
	return 0;
}

// What spoke with it before a reboot of the host is gone: there is nothing to cool down.
static bool was_used(const struct task *task)
{
	return task->may_be_linked && task_is_of_this_boot(task);
}

void task_release_address(struct task *task)
{
	const struct task_network *network = &task->status.network;

	if (!task->leased) // the address may be leased to another owner
		return;
	network_release_address(task->engine, network->subnet_id, network->private_ipv4_address,
				was_used(task));
}

void task_return_address(struct task *task)
{
	const struct task_network *network = &task->status.network;
	struct network_subnet *subnet = network_subnet_find(task->engine, network->subnet_id);

	if (task->leased && subnet)
		ipam_return(subnet->ipam, network->private_ipv4_address);
}

void task_record_lease(struct task *task)
{
	const struct task_network *network = &task->status.network;

	if (task->leased && was_used(task))
		network_record_lease(task->engine, network->subnet_id,
				     network->private_ipv4_address);
}
