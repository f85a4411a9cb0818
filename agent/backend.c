// SPDX-License-Identifier: Apache-2.0
#include "agent/backend.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/base/scope.h"

enum { METRICS_SLICE_US = 2000 };

static struct engine *engine_of(void *context)
{
	return ((struct backend *)context)->engine;
}

static int object_check(void *context, enum model_kind kind, const char *id,
			const struct model_object *object, bool dry_run, struct arena *arena,
			const char **ret_status, struct fault_list *faults, struct error *err)
{
	(void)faults;
	return engine_object_check(engine_of(context), kind, id, object, dry_run, arena, ret_status,
				   err);
}

static void object_changed(void *context, enum model_kind kind, const char *id)
{
	engine_object_changed(engine_of(context), kind, id);
}

static int task_create(void *context, const struct model_object *task, const char *spec,
		       struct fault_list *faults, struct error *err)
{
	(void)faults;
	return engine_task_create(engine_of(context), task, spec, err);
}

static int task_plan(void *context, const struct model_object *task, struct buffer *out,
		     struct fault_list *faults, struct error *err)
{
	scoped(arena_release) struct arena arena = {0};
	struct task_status status;

	(void)faults;
	if (engine_task_plan(engine_of(context), task, &arena, &status, err) < 0)
		return -err->code;
	task_status_render(&status, out);
	return 0;
}

static int task_stop(void *context, const char *id, const struct task_stop_request *stop,
		     struct error *err)
{
	return engine_task_stop(engine_of(context), id, stop, err);
}

static int task_delete(void *context, const char *id, bool dry_run, struct error *err)
{
	return engine_task_delete(engine_of(context), id, dry_run, err);
}

static int cell_adopt(void *context, const char *id, bool end, struct fault_list *faults,
		      struct error *err)
{
	return engine_cell_adopt(engine_of(context), id, end, faults, err);
}

static int task_log_open(void *context, const char *id, const char *container, bool rotated,
			 int *ret_fd, struct error *err)
{
	return engine_task_log_open(engine_of(context), id, container, rotated, ret_fd, err);
}

// --- ENIs. Ids, addresses and names need no escaping in JSON: their forms allow nothing else. ---

struct eni_list {
	const char *only; // NULL: all
	struct buffer *out;
	unsigned count;
};

static void render_eni(const char *task_id, const struct task_status *status, struct buffer *out)
{
	const struct task_network *network = &status->network;
	char address[IPV4_TEXT_SIZE];

	buffer_addf(out,
		    "{\"eniId\":\"%s\",\"taskId\":\"%s\",\"vpcId\":\"%s\",\"subnetId\":\"%s\","
		    "\"privateIpv4Address\":\"%s\",\"macAddress\":\"%s\",\"interfaceName\":\"%s\","
		    "\"taskStatus\":\"%s\",\"securityGroups\":[",
		    network->eni_id, task_id, network->vpc_id, network->subnet_id,
		    ipv4_format(network->private_ipv4_address, address), network->mac_address,
		    network->interface_name, task_state_name(status->last_status));
	for (uint32_t i = 0; i < network->security_group_count; i++)
		buffer_addf(out, "%s\"%s\"", i ? "," : "", network->security_groups[i]);
	buffer_adds(out, "]}");
}

static int add_eni(void *context, const char *id, const struct task_spec *spec,
		   const struct task_status *status)
{
	struct eni_list *list = context;

	(void)spec;
	if (status->last_status == TASK_STOPPED ||
	    (list->only && strcmp(status->network.eni_id, list->only) != 0))
		return 0;
	if (list->count++ > 0)
		buffer_adds(list->out, ",");
	render_eni(id, status, list->out);
	return 0;
}

static int enis_render(void *context, const char *id, struct buffer *out, struct error *err)
{
	struct eni_list list = {id, out, 0};

	if (!id)
		buffer_adds(out, "[");
	engine_tasks_each(engine_of(context), add_eni, &list);
	if (!id)
		buffer_adds(out, "]");
	else if (list.count == 0)
		return error_set(err, ENOENT, "there is no ENI %s", id);
	return 0;
}

static void render_target(const struct lb_target_status *status, struct buffer *out)
{
	char address[IPV4_TEXT_SIZE], description[LB_DESCRIPTION_SIZE];

	buffer_addf(out,
		    "{\"target\":{\"id\":\"%s\",\"port\":%u},\"task\":\"%s\",\"inService\":%s,"
		    "\"targetHealth\":{\"state\":\"%s\"",
		    ipv4_format(status->target.address, address), status->target.port,
		    status->target.task_id, status->in_service ? "true" : "false",
		    lb_state_name(status->state));
	if (status->reason != LB_REASON_NONE)
		buffer_addf(out, ",\"reason\":\"%s\"", lb_reason_name(status->reason));
	if (lb_target_describe(status, description)[0])
		buffer_addf(out, ",\"description\":\"%s\"", description);
	buffer_adds(out, "}}");
}

static int targets_render(void *context, const char *target_group, struct buffer *out,
			  struct error *err)
{
	scoped_free struct lb_target_status *targets = NULL;
	size_t count = 0;

	if (lb_group_status(engine_lb(engine_of(context)), target_group, &targets, &count, err) < 0)
		return -err->code;
	buffer_adds(out, "[");
	for (size_t i = 0; i < count; i++) {
		if (i > 0)
			buffer_adds(out, ",");
		render_target(&targets[i], out);
	}
	buffer_adds(out, "]");
	return 0;
}

static void render_amount(struct buffer *out, const char *name, uint32_t total, uint32_t promised)
{
	buffer_addf(out, "\"%s\":{\"total\":%u,\"promised\":%u}", name, total, promised);
}

static void host_render(void *context, struct buffer *out)
{
	struct engine_host host = engine_host(engine_of(context));
	struct engine_capacity capacity = engine_capacity(engine_of(context));

	buffer_addf(out,
		    "{\"install\":\"%s\",\"version\":\"" PENSTOCK_VERSION "\",\"driver\":\"%s\","
		    "\"accelerator\":\"%s\",\"cgroupMode\":\"%s\",\"kernel\":\"%s\","
		    "\"guestKernel\":\"%s\",\"bootId\":\"%s\",\"tasks\":%u,\"capacity\":{",
		    host.install, host.driver, host.accelerator, host.cgroup_mode,
		    host.kernel_release, host.guest_kernel, host.boot_id, capacity.tasks);
	render_amount(out, "cpuUnits", capacity.cpu_units, capacity.cpu_units_promised);
	buffer_adds(out, ",");
	render_amount(out, "memoryMiB", capacity.memory_mib, capacity.memory_mib_promised);
	buffer_adds(out, ",");
	render_amount(out, "storageGiB", capacity.disk_gib, capacity.disk_gib_promised);
	buffer_addf(out, ",\"storageHeadroomGiB\":%u,\"uidsFree\":%u},\"unrecordedCells\":",
		    capacity.disk_gib_headroom, capacity.uids_free);
	engine_unrecorded_render(engine_of(context), out);
	buffer_adds(out, "}");
}

// Measures, then renders, as much as fits into one slice of time.
static bool metrics_slice(void *context, bool openmetrics, unsigned *position, struct buffer *out)
{
	struct backend *backend = context;
	enum metrics_format format = openmetrics ? METRICS_OPENMETRICS : METRICS_PROMETHEUS;
	int64_t until_us = clock_monotonic_us() + METRICS_SLICE_US;

	while (clock_monotonic_us() < until_us) {
		if (*position == 0 && !engine_metrics_update(backend->engine))
			continue;
		metrics_render_one(backend->metrics, (*position)++, format, out);
		if (*position == METRIC_COUNT) {
			metrics_render_end(format, out);
			return true;
		}
	}
	return false;
}

static bool ready(void *context, struct error *err)
{
	return engine_is_ready(engine_of(context), err);
}

static void request_observed(void *context, const struct api_request_sample *sample)
{
	struct backend *backend = context;
	char code[8];

	snprintf(code, sizeof(code), "%u", sample->status);
	metrics_observe(backend->metrics, METRIC_API_REQUEST_DURATION_SECONDS,
			(double)sample->duration_us / 1e6,
			(const char *[]){sample->method, sample->route, code});
}

static void shut_down(void *context, bool stop_tasks)
{
	struct backend *backend = context;

	backend->shutdown(backend->context, stop_tasks);
}

struct api_backend backend_operations(struct backend *backend)
{
	return (struct api_backend){
		.context = backend,
		.object_check = object_check,
		.object_changed = object_changed,
		.task_create = task_create,
		.task_plan = task_plan,
		.task_stop = task_stop,
		.task_delete = task_delete,
		.cell_adopt = cell_adopt,
		.task_log_open = task_log_open,
		.enis_render = enis_render,
		.targets_render = targets_render,
		.host_render = host_render,
		.metrics_render = metrics_slice,
		.ready = ready,
		.request_observed = request_observed,
		.shutdown = shut_down,
	};
}
