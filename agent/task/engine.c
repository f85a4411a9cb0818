// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/base/scope.h"
#include "agent/cell/install_lock.h"
#include "agent/task/internal.h"

enum { SWEEP_INTERVAL_S = 10, LB_EVENTS_MAX = 64 };

// --- Timers ---

static struct timeval in_us(int64_t delay_us)
{
	if (delay_us < 0)
		delay_us = 0;
	return (struct timeval){.tv_sec = delay_us / 1000000, .tv_usec = delay_us % 1000000};
}

void timer_arm(struct event *timer, int64_t wake_us)
{
	struct timeval delay = in_us(wake_us - clock_monotonic_us());

	if (wake_us == INT64_MAX)
		evtimer_del(timer);
	else
		evtimer_add(timer, &delay);
}

void task_arm_timer(struct task *task)
{
	int64_t wake_us = walk_wake_us(&task->walk);

	if (walk_waits_at(&task->walk, STEP_GUEST) && task->guest_deadline_us < wake_us)
		wake_us = task->guest_deadline_us;
	if (task->adopting)
		wake_us = cell_adopt_wake_us(task);
	timer_arm(task->timer, task->status.last_status == TASK_STOPPED ? INT64_MAX : wake_us);
}

static void engine_arm_lb(struct engine *engine)
{
	timer_arm(engine->lb_timer, lb_next_deadline_us(engine->lb));
}

// --- What the loop hears ---

static void take_lb_event(struct engine *engine, const struct lb_event *event)
{
	struct network_vpc *vpc;
	struct task *task;

	switch (event->kind) {
	case LB_EVENT_TARGET_STATE:
		log_info(&(struct log_context){.task = event->target.task_id},
			 "target group %s: %s%s%s", event->group_id, lb_state_name(event->state),
			 event->reason == LB_REASON_NONE ? "" : " ", lb_reason_name(event->reason));
		break;
	case LB_EVENT_TARGET_GONE:
		task = task_find(engine, event->target.task_id);
		if (task)
			task_ready(task);
		break;
	case LB_EVENT_ERROR:
		log_error(NULL, "vpc %s: load balancing: %s", event->vpc_id, event->message);
		metrics_add(engine->metrics, METRIC_RECONCILE_ERRORS, 1,
			    (const char *[]){"load-balancer"});
		vpc = network_vpc_find(engine, event->vpc_id);
		if (vpc && lb_vpc_failure(engine->lb, vpc->id))
			effects_of_balancing_again(vpc); // they are settled anew
		break;
	}
}

static void on_lb(evutil_socket_t fd, short what, void *context)
{
	struct engine *engine = context;
	static struct lb_event events[LB_EVENTS_MAX];
	size_t count;

	(void)fd;
	(void)what;
	do {
		count = lb_dispatch(engine->lb, events, LB_EVENTS_MAX);
		for (size_t i = 0; i < count; i++)
			take_lb_event(engine, &events[i]);
	} while (count == LB_EVENTS_MAX);
	engine_arm_lb(engine);
}

static void on_cgroup(evutil_socket_t fd, short what, void *context)
{
	struct engine *engine = context;
	struct task *task;

	(void)what;
	cgroup_watch_drain(fd); // a cgroup became empty, or the pin of a namespace was removed
	network_keep_namespaces(engine);
	for (task = TAILQ_FIRST(&engine->dying_tasks); task; task = TAILQ_NEXT(task, dying_link))
		task_ready(task);
}

static void on_sweep(evutil_socket_t fd, short what, void *context)
{
	struct engine *engine = context;
	struct error err = {0};

	(void)fd;
	(void)what;
	guards_check(engine);
	alive_touch(engine);
	room_check(engine);
	meter_check(engine);
	tasks_sweep(engine);
	network_retry(engine);
	rules_check_host(engine);
	hold_sweep(engine);
	effects_retry(engine);
	reaper_retry(&engine->disk_reaper);
	reaper_retry(&engine->cell_reaper);
	if (store_lease_expire(engine->store, (int64_t)clock_boot().ms, &err) < 0)
		log_error(NULL, "sweep: %s", err.message);
}

// The turn that follows tries again what could not be recorded.
static void on_record_retry(evutil_socket_t fd, short what, void *context)
{
	(void)fd;
	(void)what;
	room_check(context);
}

// --- Clearing up ---

static int reap_disks(const char *argument, struct error *err)
{
	scoped(ephemeral_close) struct ephemeral pool = EPHEMERAL_NONE;

	if (ephemeral_open(argument, &pool, err) < 0)
		return -err->code;
	return ephemeral_reap(&pool, err);
}

static int reap_cells(const char *argument, struct error *err)
{
	return cell_directories_reap(argument, err);
}

static struct reaper reaper_of_state(struct engine *engine, const char *name, janitor_work work)
{
	struct reaper reaper = {.janitors = &engine->janitors, .name = name, .work = work};

	snprintf(reaper.argument, sizeof(reaper.argument), "%s", engine->config->state_directory);
	return reaper;
}

void engine_retire_cell(struct engine *engine, const char *id)
{
	struct cell cell = {.tree = &engine->tree,
			    .state_directory = engine->config->state_directory,
			    .task = id};
	struct error err = {0};

	if (cell_directory_retire(&cell, &err) < 0)
		log_error(NULL, "%s", err.message);
	reaper_kick(&engine->cell_reaper);
}

// --- The turn ---

static void advance_ready(struct engine *engine)
{
	struct task *task;

	while ((task = TAILQ_FIRST(&engine->ready_tasks))) {
		TAILQ_REMOVE(&engine->ready_tasks, task, ready_link);
		task->ready = false;
		task_advance(task);
	}
}

// After a full disk what happened is written again later. Any other fault of the store would make
// every further effect a lie: better to end, tasks go on, and the next agent looks at the kernel.
static bool commit(struct engine *engine)
{
	struct error err = {0};
	int result;

	if (clock_monotonic_us() >= engine->record_retry_us) {
		tasks_record(engine);
		room_record(engine);
	}
	if (!engine->recorded)
		return false;
	result = store_turn_commit(engine->store, false, &err);
	if (result == 0) {
		engine_turn_committed(engine);
		return true;
	}
	if (result != -EDQUOT) {
		log_error(NULL, "store: %s; ending, tasks go on", err.message);
		_exit(1);
	}
	engine_turn_undone(engine, &err);
	return false;
}

bool engine_turn(struct engine *engine)
{
	bool recorded = false;

	unrecorded_settle(engine);
	do {
		effects_apply(engine);
		advance_ready(engine);
		effects_commit(engine);
		meter_sync(engine);
		on_lb(-1, 0, engine);
		if (!TAILQ_EMPTY(&engine->ready_tasks))
			continue;
		recorded = commit(engine) || recorded;
	} while (!TAILQ_EMPTY(&engine->ready_tasks) || engine->changed);
	return recorded;
}

// --- Opening and closing ---

static int measure_capacity(struct engine *engine, struct error *err)
{
	const struct config *config = engine->config;
	struct engine_capacity *capacity = &engine->capacity;
	struct sysinfo host;
	unsigned pool_gib = config->disk_gib;

	if (sysinfo(&host) < 0)
		return error_errno(err, "sysinfo");
	if (pool_gib == 0 && ephemeral_pool_size_gib(&engine->pool, &pool_gib, err) < 0)
		return -err->code;
	capacity->cpu_units = config->cpu_units ? config->cpu_units
						: (uint32_t)sysconf(_SC_NPROCESSORS_ONLN) * 4096;
	capacity->memory_mib = config->memory_mib
				       ? config->memory_mib
				       : (uint32_t)((host.totalram * host.mem_unit >> 20) * 9 / 10);
	capacity->disk_gib = pool_gib;
	capacity->disk_gib_headroom = config->disk_headroom_gib;
	return 0;
}

static int open_vmm(struct engine *engine, struct error *err)
{
	engine->vmm = vmm_find(engine->config->driver);
	if (!engine->vmm)
		return error_set(err, EINVAL, "there is no driver %s", engine->config->driver);
	if (engine->vmm->images == VMM_IMAGES_DIRECTORIES)
		return 0;
	// KVM is used when asked for by name only: a host may offer one that does not work.
	engine->accelerator = strcmp(engine->config->accel, "kvm") == 0 ? VMM_ACCELERATOR_KVM
									: VMM_ACCELERATOR_TCG;
	engine->tsc_khz = vmm_tsc_measure();
	return guest_bundle_open(engine->config->guest_directory, &engine->bundle, err);
}

static int open_modules(struct engine *engine, struct error *err)
{
	const struct config *config = engine->config;
	char path[CONFIG_PATH_MAX + 32];
	struct lb_options lb_options = {.install = config->install,
					.probe_path = path,
					.probe_uid = config->uid_first + config->uid_count,
					.probe_gid = config->uid_first + config->uid_count};

	if (boot_id_read(engine->boot_id, err) < 0 ||
	    cgroup_tree_find(config->install, &engine->tree, err) < 0 ||
	    install_lock_take(&engine->tree, &engine->install_lock_fd, err) < 0 ||
	    cgroup_watch_open(&engine->cgroup_watch_fd, err) < 0 ||
	    netif_open(config->install, &engine->netif, err) < 0 ||
	    ephemeral_open(config->state_directory, &engine->pool, err) < 0)
		return -err->code;
	snprintf(path, sizeof(path), "%s/metering", config->state_directory);
	if (directory_make(path, 0750, err) < 0)
		return -err->code;
	snprintf(path, sizeof(path), "%s/metering/records.ndjson", config->state_directory);
	if (metering_open(path, &engine->metering, err) < 0)
		return -err->code;
	lb_options.netif = engine->netif;
	snprintf(path, sizeof(path), "%s/penstock-probe", config->program_directory);
	if (lb_open(&lb_options, &engine->lb, err) < 0)
		return -err->code;
	return open_vmm(engine, err);
}

static int open_events(struct engine *engine, struct error *err)
{
	struct timeval interval = {.tv_sec = SWEEP_INTERVAL_S};

	engine->cgroup_event = event_new(engine->base, engine->cgroup_watch_fd,
					 EV_READ | EV_PERSIST, on_cgroup, engine);
	engine->lb_event = event_new(engine->base, lb_poll_fd(engine->lb), EV_READ | EV_PERSIST,
				     on_lb, engine);
	engine->lb_timer = evtimer_new(engine->base, on_lb, engine);
	engine->sweep_timer = event_new(engine->base, -1, EV_PERSIST, on_sweep, engine);
	engine->record_timer = evtimer_new(engine->base, on_record_retry, engine);
	if (!engine->cgroup_event || !engine->lb_event || !engine->lb_timer ||
	    !engine->sweep_timer || !engine->record_timer ||
	    event_add(engine->cgroup_event, NULL) < 0 || event_add(engine->lb_event, NULL) < 0 ||
	    event_add(engine->sweep_timer, &interval) < 0)
		return error_set(err, ENOMEM, "event loop");
	return 0;
}

int engine_open(const struct engine_options *options, struct engine **ret_engine, struct error *err)
{
	struct engine *engine = calloc(1, sizeof(*engine));

	if (!engine)
		return error_set(err, ENOMEM, "engine");
	engine->config = options->config;
	engine->base = options->base;
	engine->store = options->store;
	engine->metrics = options->metrics;
	engine->janitors.base = options->base;
	engine->disk_reaper = reaper_of_state(engine, "disks", reap_disks);
	engine->cell_reaper = reaper_of_state(engine, "cells", reap_cells);
	TAILQ_INIT(&engine->ready_tasks);
	TAILQ_INIT(&engine->dirty_tasks);
	TAILQ_INIT(&engine->dying_tasks);
	TAILQ_INIT(&engine->turn_tasks);
	engine->cgroup_watch_fd = engine->install_lock_fd = -1;
	engine->host_rules.fd = engine->host_links.fd = -1;
	engine->pool = EPHEMERAL_NONE;
	engine->bundle = GUEST_BUNDLE_NONE;
	alive_read(engine);
	if (fault_plan_read(&engine->fault, err) < 0 || open_modules(engine, err) < 0 ||
	    measure_capacity(engine, err) < 0 || open_events(engine, err) < 0 ||
	    objects_load(engine, err) < 0 || tasks_load(engine, err) < 0) {
		engine_close(engine);
		return -err->code;
	}
	*ret_engine = engine;
	return 0;
}

static void free_event(struct event **event)
{
	if (*event)
		event_free(*event);
	*event = NULL;
}

void engine_close(struct engine *engine)
{
	if (!engine)
		return;
	janitors_close(&engine->janitors);
	while (engine->tasks)
		task_free(engine->tasks);
	unrecorded_free(engine);
	effects_free(engine);
	balancers_free(engine);
	network_free(engine);
	objects_free(engine);
	rules_watch_close(&engine->host_rules);
	hold_host_close(engine);
	free_event(&engine->cgroup_event);
	free_event(&engine->lb_event);
	free_event(&engine->lb_timer);
	free_event(&engine->sweep_timer);
	free_event(&engine->record_timer);
	if (engine->lb)
		lb_close(engine->lb);
	if (engine->metering)
		metering_close(engine->metering);
	guest_bundle_close(&engine->bundle);
	ephemeral_close(&engine->pool);
	netif_close(engine->netif);
	close_fd(&engine->cgroup_watch_fd);
	close_fd(&engine->install_lock_fd);
	free(engine);
}

// --- Starting ---

// Nothing cools down longer than from now on: a later end is one that an older agent took from the
// wall clock, or was written when the cool-down was configured longer.
static int take_lease(const struct store_lease *lease, void *context)
{
	struct engine *engine = context;
	int64_t latest_ms = (int64_t)clock_boot().ms + engine->config->cooldown_seconds * 1000LL;
	int64_t until_ms = lease->until_ms < latest_ms ? lease->until_ms : latest_ms;
	struct network_subnet *subnet = network_subnet_find(engine, lease->subnet);
	struct error ignored = {0};
	uint32_t address;

	if (subnet && ipv4_parse(lease->address, &address, &ignored) == 0)
		ipam_cool(subnet->ipam, address, until_ms);
	return 0;
}

int engine_start(struct engine *engine, struct error *err)
{
	if (unrecorded_find(engine, err) < 0 || effects_start(engine, err) < 0 ||
	    store_lease_each(engine->store, take_lease, engine, err) < 0)
		return -err->code;
	room_start(engine);
	for (struct task *task = engine->tasks; task; task = task->next)
		cell_adopt_task(task);
	reaper_kick(&engine->disk_reaper);
	reaper_kick(&engine->cell_reaper);
	engine_turn(engine);
	return 0;
}

int engine_records_check(const struct engine *engine, struct error *err)
{
	if (engine->unreadable[0])
		return error_set(err, EAGAIN,
				 "the record of task %s cannot be read: what it has of the host "
				 "may be in use, nothing new is given out",
				 engine->unreadable);
	return unrecorded_check(engine, err);
}

int engine_admits(const struct engine *engine, struct error *err)
{
	if (engine->stopping)
		return error_set(err, EAGAIN,
				 "stopping: every task is stopped, no new one is taken");
	if (engine_records_check(engine, err) < 0 || store_check_files(engine->store, err) < 0)
		return -err->code;
	return room_admits(engine, err);
}

bool engine_is_ready(const struct engine *engine, struct error *err)
{
	const struct task *silent = NULL;
	unsigned adopting = 0;

	for (const struct task *task = engine->tasks; task; task = task->next) {
		adopting += task->adopting;
		if (task->adopting && task->status.shim_error[0])
			silent = task;
	}
	if (engine_admits(engine, err) < 0)
		return false;
	if (silent)
		error_set(err, EAGAIN, "tasks not taken up yet: %u; %s: %s", adopting, silent->id,
			  silent->status.shim_error);
	else if (adopting > 0)
		error_set(err, EAGAIN, "starting: tasks not taken up yet: %u", adopting);
	return adopting == 0;
}

void engine_leave(struct engine *engine)
{
	struct error err = {0};
	int socket_fd;

	if (cgroup_remove_root(&engine->tree, &err) < 0)
		log_warning(NULL, "%s", err.message);
	if (engine->vpcs || engine->unrecorded)
		return; // their tables and namespaces are objects that nobody deleted
	if (netif_netfilter_socket(engine->netif, NULL, &socket_fd, &err) < 0 ||
	    sg_host_delete(engine->config->install, socket_fd, &err) < 0)
		log_warning(NULL, "%s", err.message);
}

struct lb *engine_lb(struct engine *engine)
{
	return engine->lb;
}

struct engine_host engine_host(struct engine *engine)
{
	static struct utsname kernel;
	static const char *const modes[] = {
		[CGROUP_MODE_V2] = "v2", [CGROUP_MODE_V1] = "v1", [CGROUP_MODE_NONE] = "none"};

	uname(&kernel);
	return (struct engine_host){
		.install = engine->config->install,
		.driver = engine->vmm->name,
		.accelerator = engine->vmm->images == VMM_IMAGES_DIRECTORIES ? "none"
			       : engine->accelerator == VMM_ACCELERATOR_KVM  ? "kvm"
									     : "tcg",
		.cgroup_mode = modes[engine->tree.mode],
		.kernel_release = kernel.release,
		.guest_kernel = engine->bundle.kernel_release,
		.boot_id = engine->boot_id,
	};
}
