// SPDX-License-Identifier: Apache-2.0
// The steps that bring a task to life: volumes, VMM, guest, targets; and their way back.
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/base/scope.h"
#include "agent/task/internal.h"

// Beside the containers' own timeouts. What a start has is for two slow boots and the mounts; what
// a stop has is for killed processes to end (3 s in the guest), for file servers (1 s), for the
// last log lines and the power off. A guest that takes longer hangs, and its VMM is killed.
enum { START_SLACK_MS = 600000, STOP_SLACK_MS = 8000 };

// --- volumes ---

// A directory of the ephemeral disk needs nothing; an NFS volume is mounted by the guest over its
// own ENI. What can be wrong with them is found here, before anything is started.
int volumes_apply(void *object, struct error *err)
{
	struct task *task = object;

	if (task->launched)
		return 0;
	return manifest_write(task, err);
}

int volumes_undo(void *object, struct error *err)
{
	(void)object;
	(void)err;
	return 0; // mounts went with the guest, the manifest goes with the cell
}

// --- vmm ---

static void request_of(struct task *task, char *program, size_t program_size, char *disk_path,
		       size_t disk_path_size, struct vmm_request *request)
{
	const struct config *config = task->engine->config;
	const struct task_network *network = &task->status.network;
	const struct model_object *vpc = engine_object(task->engine, MODEL_VPC, network->vpc_id);

	task_vmm_request(task->engine, task->spec, request);
	if (task->vmm->program)
		snprintf(program, program_size, "%s", task->vmm->program);
	else
		snprintf(program, program_size, "%s/penstock-init", config->program_directory);
	snprintf(disk_path, disk_path_size, "%s/disks/%s.img", config->state_directory, task->id);
	request->task_id = task->id;
	request->program = program;
	request->disk_path = disk_path;
	request->ip.s_addr = htonl(network->private_ipv4_address);
	request->gateway.s_addr = htonl(network->gateway);
	request->mtu = vpc ? vpc->vpc->mtu : 1500;
	memcpy(request->mac, network->mac_address, sizeof(request->mac));
	mac_format(&netif_gateway_mac, request->gateway_mac);
	request->image_count = task->image_count;
	for (unsigned i = 0; i < task->image_count; i++)
		request->image_paths[i] = task->images[i].directory;
}

enum { ATTACHMENTS_MAX = 6 + VMM_IMAGES_MAX };

static void attach_one(struct shim_slot *slots, int *fds, size_t *count,
		       enum vmm_attachment attachment, unsigned index, int fd)
{
	slots[*count] = (struct shim_slot){.attachment = attachment, .index = index};
	fds[(*count)++] = fd;
}

// Hands everything the VMM may hold to the shim; afterwards the agent keeps none of it.
static int attach_all(struct task *task, struct error *err)
{
	struct engine *engine = task->engine;
	struct ephemeral_disk_fds disk;
	struct shim_slot slots[ATTACHMENTS_MAX];
	int fds[ATTACHMENTS_MAX];
	size_t count = 0;
	int result;

	if (ephemeral_disk_open(&engine->pool, task->id, task->spec->ephemeral_storage_gib, &disk,
				err) < 0)
		return -err->code;
	scoped_fd int disk_read = disk.read_fd;
	scoped_fd int disk_write = disk.write_fd;

	attach_one(slots, fds, &count, VMM_ATTACH_LINK, 0, task->link_fd);
	attach_one(slots, fds, &count, VMM_ATTACH_LISTENER, 0, task->listener_fd);
	attach_one(slots, fds, &count, VMM_ATTACH_DISK_READ, 0, disk_read);
	attach_one(slots, fds, &count, VMM_ATTACH_DISK_WRITE, 0, disk_write);
	if (task->vmm->images == VMM_IMAGES_BLOCK) {
		attach_one(slots, fds, &count, VMM_ATTACH_KERNEL, 0, engine->bundle.kernel_fd);
		attach_one(slots, fds, &count, VMM_ATTACH_INITRAMFS, 0,
			   engine->bundle.initramfs_fd);
		for (unsigned i = 0; i < task->image_count; i++)
			attach_one(slots, fds, &count, VMM_ATTACH_IMAGE, i,
				   task->images[i].image.fd);
	}
	result = shim_attach(task->channel_fd, slots, fds, count, err);
	if (result < 0)
		return result;
	close_fd(&task->link_fd);
	close_fd(&task->listener_fd);
	return 0;
}

static int launch(struct task *task, struct error *err)
{
	char program[CONFIG_PATH_MAX + 32], disk_path[CONFIG_PATH_MAX + 96];
	scoped(arena_release) struct arena arena = {0};
	struct vmm_launch *plan = arena_new(&arena, struct vmm_launch);
	struct vmm_request request;

	request_of(task, program, sizeof(program), disk_path, sizeof(disk_path), &request);
	if (task->vmm->plan(&request, plan, err) < 0 || attach_all(task, err) < 0)
		return -err->code;
	plan->silence_timeout_ms = task->engine->config->guest_silence_seconds * 1000;
	metadata_write(task); // its first container may ask at once
	if (shim_launch(task->channel_fd, plan, err) < 0)
		return -err->code;
	task->launched = true;
	images_close(task);
	return 0;
}

int vmm_apply(void *object, struct error *err)
{
	struct task *task = object;

	if (task->shim_gone)
		return error_set(err, ESRCH, "ResourceInitializationError: the shim ended");
	if (!task->launched && launch(task, err) < 0)
		return error_wrap(err, "ResourceInitializationError: vmm");
	if (task->cell.vmm_failure[0])
		return error_set(err, EIO, "ResourceInitializationError: vmm: %s",
				 task->cell.vmm_failure);
	return task->cell.vmm == VMM_NOT_STARTED ? WALK_WAIT : 0;
}

int vmm_undo(void *object, struct error *err)
{
	return cell_kill(object, err); // the shim has nothing more to say
}

// --- guest ---

static int guest_ended(struct task *task, struct error *err)
{
	const struct guest_status *guest = &task->cell.guest;

	if (guest->failure[0])
		return error_set(err, EIO, "%s", guest->failure);
	for (uint32_t i = 0; i < guest->container_count; i++)
		if (guest->containers[i].reason[0])
			return error_set(err, EIO, "%s", guest->containers[i].reason);
	if (task->cell.vmm_failure[0])
		return error_set(err, EIO, "ResourceInitializationError: vmm: %s",
				 task->cell.vmm_failure);
	if (task->cell.guest_connected_ms == 0)
		return error_set(err, EIO,
				 "ResourceInitializationError: the guest ended (status %d) before "
				 "its guest spoke",
				 task->cell.vmm_exit_code);
	cell_stop_ended(
		task); // it ran, and ended before the others were up: not a failure to start
	return error_set(err, EIO, "Essential container in task exited");
}

// The longest a start may take: a chain of dependencies waits for each within its timeout.
static int64_t start_allowance_ms(const struct task_spec *spec)
{
	int64_t allowance_ms = START_SLACK_MS;

	for (uint32_t i = 0; i < spec->container_count; i++)
		allowance_ms += spec->containers[i].start_timeout_seconds * 1000LL;
	return allowance_ms;
}

int guest_apply(void *object, struct error *err)
{
	struct task *task = object;

	if (task->cell.guest_running_ms != 0) {
		task->guest_deadline_us = 0;
		return cell_limit_cpu(task, err);
	}
	if (cell_has_ended(task))
		return guest_ended(task, err);
	if (task->guest_deadline_us == 0)
		task->guest_deadline_us =
			clock_monotonic_us() + start_allowance_ms(task->spec) * 1000;
	if (clock_monotonic_us() < task->guest_deadline_us)
		return WALK_WAIT;
	return error_set(err, ETIMEDOUT,
			 "ContainerRuntimeTimeoutError: the containers did not start");
}

// The longest the guest may take: a container is told to stop when those that depend on it have
// ended, so what counts is the longest chain of timeouts. In the reverse order of starts each
// container comes after its dependents.
static int64_t stop_allowance_ms(const struct task_spec *spec)
{
	int64_t told_ms[TASK_CONTAINERS_MAX] = {0}; // when it is told, at the latest
	int64_t allowance_ms = 0;

	for (uint32_t i = spec->container_count; i-- > 0;) {
		uint32_t index = spec->start_order[i];
		const struct container_spec *container = &spec->containers[index];
		int64_t ended_ms = told_ms[index] + container->stop_timeout_seconds * 1000LL;

		for (uint32_t k = 0; k < container->depends_on_count; k++) {
			int64_t *before_ms = &told_ms[container->depends_on[k].container];

			if (*before_ms < ended_ms)
				*before_ms = ended_ms;
		}
		if (allowance_ms < ended_ms)
			allowance_ms = ended_ms;
	}
	return allowance_ms + STOP_SLACK_MS;
}

// What the shim says of the VMM's end counts, within what is possible: a shim that was taken over
// may say anything.
void task_note_execution_stopped(struct task *task)
{
	struct boot_time now = clock_boot(), exited = task->cell.vmm_exited_at;

	task->guest_deadline_us = 0;
	if (task->status.execution_stopped_ms == 0)
		task->status.execution_stopped_ms =
			task->cell.vmm_exited_ms ? task->cell.vmm_exited_ms : clock_wall_ms();
	if (task->status.boot_times.execution_stopped.ms == 0)
		task->status.boot_times.execution_stopped =
			exited.ms && exited.ms < now.ms ? exited : now;
}

int guest_undo(void *object, struct error *err)
{
	struct task *task = object;

	if (!task->launched || task->channel_fd < 0 || task->cell.vmm == VMM_EXITED) {
		task_note_execution_stopped(task);
		return 0;
	}
	if (!task->stop_sent) {
		if (shim_stop(task->channel_fd, err) < 0)
			return -err->code;
		task->stop_sent = true;
		task->guest_deadline_us =
			clock_monotonic_us() + stop_allowance_ms(task->spec) * 1000;
	}
	if (clock_monotonic_us() < task->guest_deadline_us)
		return WALK_WAIT;
	task_note_execution_stopped(task); // the step below kills what is left
	return 0;
}

// --- targets ---

static void target_of(const struct task *task, uint32_t index, struct lb_target *ret_target)
{
	struct lb_target target = {
		.address = task->status.network.private_ipv4_address,
		.port = (uint16_t)task->spec->targets[index].container_port,
	};

	snprintf(target.task_id, sizeof(target.task_id), "%s", task->id);
	*ret_target = target;
}

int targets_apply(void *object, struct error *err)
{
	struct task *task = object;

	for (uint32_t i = 0; i < task->spec->target_count; i++) {
		struct lb_target target;

		target_of(task, i, &target);
		if (lb_target_register(task->engine->lb, task->spec->targets[i].target_group,
				       &target, err) < 0)
			return error_wrap(err, "ResourceInitializationError: target group %s",
					  task->spec->targets[i].target_group);
	}
	return 0;
}

// A guest that has ended serves nobody: its targets are taken out without a drain. Otherwise the
// drain goes on from where a previous agent began it.
static struct lb_drain drain_of(struct task *task)
{
	struct boot_time *started = &task->status.boot_times.drain_started;
	struct lb_drain drain = {.delay_ms = -1};

	if (cell_has_ended(task))
		return (struct lb_drain){0};
	if (started->ms == 0) // it was stopped by an agent that did not record this
		*started = clock_boot();
	if (task->status.drain_seconds != TASK_DRAIN_DEFAULT)
		drain.delay_ms = task->status.drain_seconds * 1000LL;
	drain.elapsed_ms = (int64_t)boot_time_since_ms(clock_boot(), *started);
	return drain;
}

// Deregistering again while it drains changes nothing; -ENOENT is the end of it.
int targets_undo(void *object, struct error *err)
{
	struct task *task = object;
	struct lb_drain drain = drain_of(task);
	int result = 0;

	for (uint32_t i = 0; i < task->spec->target_count; i++) {
		struct lb_target target;
		int deregistered;

		target_of(task, i, &target);
		deregistered = lb_target_deregister(
			task->engine->lb, task->spec->targets[i].target_group, &target, drain, err);
		if (deregistered == 0)
			result = WALK_WAIT;
		else if (deregistered != -ENOENT)
			return deregistered;
	}
	return result;
}
