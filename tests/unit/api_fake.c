// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/api_fake.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/api/api.h"
#include "agent/base/clock.h"
#include "agent/base/scope.h"

enum { STEP_US = 20 * 1000, TASKS_MAX = 4096 };

struct fake_task {
	struct fake *fake;
	char id[64];
	struct task_status status;
	struct event *timer;
};

struct fake {
	const struct api_fake_options *options;
	struct event_base *base;
	struct store *store;
	struct api *api;
	struct api_backend backend;
	struct fake_task *tasks[TASKS_MAX];
	unsigned task_count, requests;
	bool stop;
};

static struct fake_task *task_find(struct fake *fake, const char *id)
{
	for (unsigned i = 0; i < fake->task_count; i++)
		if (fake->tasks[i] && strcmp(fake->tasks[i]->id, id) == 0)
			return fake->tasks[i];
	return NULL;
}

static int task_put(struct fake_task *task, const char *spec, struct error *err)
{
	scoped(buffer_release) struct buffer status = {0};
	struct store_change change = {.kind = "task", .id = task->id, .spec = spec};

	task_status_render(&task->status, &status);
	change.status = buffer_text(&status);
	return store_object_put(task->fake->store, &change, NULL, err);
}

static void task_advance(evutil_socket_t fd, short what, void *context)
{
	struct fake_task *task = context;
	struct error err = {0};

	(void)fd;
	(void)what;
	if (task->status.desired_status == TASK_STOPPED) {
		task->status.last_status = TASK_STOPPED;
		task->status.stopped_ms = clock_wall_ms();
	} else if (strncmp(task->id, "fail-", 5) == 0) {
		task->status.last_status = TASK_STOPPED;
		snprintf(task->status.stopped_reason, sizeof(task->status.stopped_reason),
			 "ResourceInitializationError: as asked for");
	} else if (strncmp(task->id, "stuck-", 6) == 0) {
		task->status.last_status = TASK_PENDING;
	} else {
		task->status.last_status = TASK_RUNNING;
		task->status.started_ms = clock_wall_ms();
	}
	if (task_put(task, NULL, &err) < 0)
		fprintf(stderr, "fake: %s\n", err.message);
	if (task->status.last_status == TASK_STOPPED)
		store_references_set(task->fake->store, "task", task->id, NULL, 0, &err);
}

static void task_schedule(struct fake_task *task)
{
	event_add(task->timer, &(struct timeval){.tv_usec = STEP_US});
}

static int fake_object_check(void *context, enum model_kind kind, const char *id,
			     const struct model_object *object, bool dry_run, struct arena *arena,
			     const char **ret_status, struct fault_list *faults, struct error *err)
{
	(void)context;
	(void)dry_run;
	(void)faults;
	if (!object && kind == MODEL_VPC && strcmp(id, "busy") == 0)
		return error_set(err, EBUSY, "vpc busy is being emptied");
	if (object && kind == MODEL_LOAD_BALANCER)
		*ret_status = arena_strdup(arena, "{\"address\":\"10.0.1.100\"}");
	return 0;
}

static void fake_object_changed(void *context, enum model_kind kind, const char *id)
{
	(void)context;
	(void)kind;
	(void)id;
}

static int references_put(struct fake *fake, const struct model_object *task, struct error *err)
{
	scoped(arena_release) struct arena arena = {0};
	const struct model_reference *references;
	struct store_reference *used;
	size_t count;

	model_references(task, &arena, &references, &count);
	used = arena_array(&arena, struct store_reference, count + 1);
	for (size_t i = 0; i < count; i++)
		used[i] = (struct store_reference){model_kind_name(references[i].kind),
						   references[i].id};
	return store_references_set(fake->store, "task", task->id, used, count, err);
}

static int fake_task_create(void *context, const struct model_object *object, const char *spec,
			    struct fault_list *faults, struct error *err)
{
	struct fake *fake = context;
	struct fake_task *task;

	(void)faults;
	if (strncmp(object->id, "full-", 5) == 0)
		return error_set(err, ENOSPC, "memory: 512 MiB wanted, 100 of 1000 MiB left");
	task = calloc(1, sizeof(*task));
	task->fake = fake;
	snprintf(task->id, sizeof(task->id), "%s", object->id);
	task->status.desired_status = TASK_RUNNING;
	task->status.created_ms = clock_wall_ms();
	task->status.driver = "netns";
	task->timer = evtimer_new(fake->base, task_advance, task);
	fake->tasks[fake->task_count++ % TASKS_MAX] = task;
	if (task_put(task, spec, err) < 0 || references_put(fake, object, err) < 0)
		return -err->code;
	task_schedule(task);
	return 0;
}

static int fake_task_plan(void *context, const struct model_object *task, struct buffer *out,
			  struct fault_list *faults, struct error *err)
{
	(void)context;
	(void)faults;
	(void)err;
	buffer_addf(out, "{\"taskId\":\"%s\",\"privateIPv4Address\":\"10.0.1.4\"}", task->id);
	return 0;
}

static int fake_task_stop(void *context, const char *id, const struct task_stop_request *stop,
			  struct error *err)
{
	struct fake_task *task = task_find(context, id);

	if (!task)
		return error_set(err, ENOENT, "task/%s does not exist", id);
	if (task->status.desired_status == TASK_STOPPED || task->status.last_status == TASK_STOPPED)
		return 0;
	task->status.desired_status = TASK_STOPPED;
	task->status.last_status = TASK_DEACTIVATING;
	task->status.drain_seconds = stop->drain_seconds;
	task->status.stop_code = stop->code;
	snprintf(task->status.stopped_reason, sizeof(task->status.stopped_reason), "%s",
		 stop->reason);
	task_schedule(task);
	return task_put(task, NULL, err);
}

static int fake_task_delete(void *context, const char *id, bool dry_run, struct error *err)
{
	struct fake *fake = context;
	struct fake_task *task = task_find(fake, id);

	if (task && task->status.last_status != TASK_STOPPED)
		return error_set(err, EBUSY, "task/%s is %s: stop it first", id,
				 task_state_name(task->status.last_status));
	if (dry_run)
		return 0;
	if (task)
		task->id[0] = '\0';
	return store_object_delete(fake->store, "task", id, NULL, err);
}

static int fake_task_log_open(void *context, const char *id, const char *container, bool rotated,
			      int *ret_fd, struct error *err)
{
	struct fake *fake = context;
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/%s.%s.log%s", fake->options->directory, id, container,
		 rotated ? ".1" : "");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(err, "open %s", path);
	*ret_fd = fd;
	return 0;
}

static int fake_enis_render(void *context, const char *id, struct buffer *out, struct error *err)
{
	static const char eni[] =
		"{\"eniId\":\"eni-1\",\"taskId\":\"web-1\",\"vpcId\":\"main\",\"subnetId\":\"a\","
		"\"privateIpv4Address\":\"10.0.1.4\",\"macAddress\":\"02:00:00:00:00:01\","
		"\"interfaceName\":\"ps0123456789abc\",\"securityGroups\":[\"web\"]}";

	(void)context;
	if (id && strcmp(id, "eni-1") != 0)
		return error_set(err, ENOENT, "eni/%s does not exist", id);
	buffer_addf(out, id ? "%s" : "[%s]", eni);
	return 0;
}

static int fake_targets_render(void *context, const char *target_group, struct buffer *out,
			       struct error *err)
{
	(void)context;
	(void)target_group;
	(void)err;
	buffer_adds(out, "[{\"target\":{\"id\":\"10.0.1.4\",\"port\":8080},\"task\":\"web-1\","
			 "\"targetHealth\":{\"state\":\"healthy\"}}]");
	return 0;
}

static void fake_host_render(void *context, struct buffer *out)
{
	(void)context;
	buffer_adds(out, "{\"install\":\"fake\",\"driver\":\"netns\"}");
}

// In three slices.
static bool fake_metrics_render(void *context, bool openmetrics, unsigned *position,
				struct buffer *out)
{
	const struct fake *fake = context;

	switch ((*position)++) {
	case 0:
		return false;
	case 1:
		buffer_addf(out, "# TYPE fake_requests counter\nfake_requests_total %u\n",
			    fake->requests);
		return false;
	default:
		buffer_adds(out, openmetrics ? "# EOF\n" : "");
		return true;
	}
}

static bool fake_ready(void *context, struct error *err)
{
	(void)context;
	(void)err;
	return true;
}

static void fake_request_observed(void *context, const struct api_request_sample *sample)
{
	(void)sample;
	((struct fake *)context)->requests++;
}

static void fake_shutdown(void *context, bool stop_tasks)
{
	(void)stop_tasks;
	((struct fake *)context)->stop = true;
}

static void on_signal(evutil_socket_t signal_number, short what, void *context)
{
	(void)signal_number;
	(void)what;
	((struct fake *)context)->stop = true;
}

static bool commit_must_fail(struct fake *fake)
{
	scoped(arena_release) struct arena arena = {0};
	struct store_object object;
	struct error err = {0};

	return fake->options->fail_commit_id &&
	       store_object_get(fake->store, "vpc", fake->options->fail_commit_id, &arena, &object,
				&err) == 0;
}

static void turn(struct fake *fake)
{
	struct error err = {0};
	int result;

	event_base_loop(fake->base, EVLOOP_ONCE);
	if (commit_must_fail(fake)) {
		store_turn_rollback(fake->store);
		result = error_set(&err, EIO, "as asked for");
	} else {
		result = store_turn_commit(fake->store, api_turn_acknowledges(fake->api), &err);
	}
	api_turn_end(fake->api, result < 0 ? &err : NULL);
}

static void tasks_forget(struct fake *fake)
{
	for (unsigned i = 0; i < fake->task_count && i < TASKS_MAX; i++) {
		event_free(fake->tasks[i]->timer);
		free(fake->tasks[i]);
	}
	fake->task_count = 0;
}

static int fake_open(struct fake *fake, const struct api_backend *backend, struct error *err)
{
	const struct api_fake_options *options = fake->options;
	char socket_path[512], store_path[512];
	const struct store_options store_options = {
		.path = store_path, .boot_id = "boot", .event_limit = options->event_limit};
	struct api_options api_options = {
		.base = fake->base,
		.backend = backend,
		.socket_path = socket_path,
		.writer_gid = API_NO_GROUP,
		.reader_gid = options->reader_gid,
		.connections_max = options->connections_max,
		.request_deadline_ms = options->request_deadline_ms,
		.follow_lag = options->follow_lag,
		.follow_buffer_bytes = options->follow_buffer_bytes,
	};

	snprintf(socket_path, sizeof(socket_path), "%s/api.sock", options->directory);
	snprintf(store_path, sizeof(store_path), "%s/store.db", options->directory);
	if (store_open(&store_options, &fake->store, err) < 0)
		return -err->code;
	api_options.store = fake->store;
	return api_open(&api_options, &fake->api, err);
}

static struct api_backend fake_backend(struct fake *fake)
{
	return (struct api_backend){
		.context = fake,
		.object_check = fake_object_check,
		.object_changed = fake_object_changed,
		.task_create = fake_task_create,
		.task_plan = fake_task_plan,
		.task_stop = fake_task_stop,
		.task_delete = fake_task_delete,
		.task_log_open = fake_task_log_open,
		.enis_render = fake_enis_render,
		.targets_render = fake_targets_render,
		.host_render = fake_host_render,
		.metrics_render = fake_metrics_render,
		.ready = fake_ready,
		.request_observed = fake_request_observed,
		.shutdown = fake_shutdown,
	};
}

struct fake *api_fake_open(const struct api_fake_options *options)
{
	struct fake *fake = calloc(1, sizeof(*fake));
	struct error err = {0};

	if (!fake)
		abort();
	fake->options = options;
	fake->base = event_base_new();
	fake->backend = fake_backend(fake);
	if (fake_open(fake, &fake->backend, &err) == 0)
		return fake;
	fprintf(stderr, "fake: %s\n", err.message);
	api_fake_close(fake);
	return NULL;
}

void api_fake_close(struct fake *fake)
{
	api_close(fake->api);
	store_close(fake->store);
	tasks_forget(fake);
	event_base_free(fake->base);
	free(fake);
}

struct api *api_fake_api(struct fake *fake)
{
	return fake->api;
}

void api_fake_try_turn(struct fake *fake)
{
	event_base_loop(fake->base, EVLOOP_NONBLOCK);
	store_turn_rollback(fake->store);
	tasks_forget(fake);
	api_turn_end(fake->api, NULL);
}

int api_fake_serve(const struct api_fake_options *options)
{
	struct fake *fake = api_fake_open(options);
	struct event *terminate;

	if (!fake)
		return 1;
	terminate = evsignal_new(fake->base, SIGTERM, on_signal, fake);
	// What libevent restores in the end: a SIGTERM on the way out changes nothing.
	signal(SIGTERM, SIG_IGN);
	event_add(terminate, NULL);
	while (!fake->stop)
		turn(fake);
	event_free(terminate);
	api_fake_close(fake);
	return 0;
}
