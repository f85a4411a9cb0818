// SPDX-License-Identifier: Apache-2.0
// penstockd: wires the modules to one event loop. One thread, never in the data path.
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/api/api.h"
#include "agent/backend.h"
#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/base/process.h"
#include "agent/base/scope.h"
#include "agent/base/watchdog.h"
#include "agent/lock.h"
#include "agent/model/config.h"
#include "agent/store/store.h"
#include "agent/task/task.h"
#include "agent/vmm/vmm.h"
#include "metrics/metrics.h"

enum { TURN_SLOW_US = 5000, IDLE_US = 50000 };

struct agent {
	struct config config;
	int lock_fd;
	struct event_base *base;
	struct event *signals[2];
	struct event *idle;      // for what can wait until nobody does
	struct event *heartbeat; // an idle loop comes round for the watchdog
	uint64_t changed_revision;
	struct store *store;
	struct metrics *metrics;
	struct engine *engine;
	struct backend backend;
	struct api_backend operations;
	struct api *api;
	bool ending, stopping_tasks;
};

static const char usage[] =
	"Usage: penstockd [OPTIONS]\n"
	"The data plane of one host: boots microVM tasks and does their plumbing.\n"
	"\n"
	"  -c, --config FILE     configuration; default $PENSTOCK_CONFIG or\n"
	"                        " CONFIG_DEFAULT_FILE " (none is fine)\n"
	"      --explain-config  prints every key with its default and meaning\n"
	"      --version         prints the version\n"
	"  -h, --help            this text\n"
	"\n"
	"SIGTERM and SIGINT end the agent; tasks go on and the next agent takes them up.\n"
	"To stop them too: penstockctl shutdown --stop-tasks\n";

// --- Ending ---

static void on_signal(evutil_socket_t number, short what, void *context)
{
	struct agent *agent = context;

	(void)what;
	log_info(NULL, "signal %d: ending, tasks go on", (int)number);
	agent->ending = true;
}

static const char shut_down[] = "The agent is shut down";

// Stopping begins with the turn that asks for it: who knows when there is another.
static void on_shutdown(void *context, bool stop_tasks)
{
	struct agent *agent = context;

	agent->stopping_tasks = stop_tasks;
	agent->ending = !stop_tasks;
	if (stop_tasks)
		engine_stop_all(agent->engine, shut_down);
}

static void stop_tasks_step(struct agent *agent)
{
	if (!engine_stop_all(agent->engine, shut_down))
		return;
	engine_leave(agent->engine);
	agent->ending = true;
}

// --- The loop ---

// Refuses the requests of a turn that could not be committed: nothing of it is in effect. A full
// disk is waited for, any other fault of the store ends the agent; tasks go on.
static int refuse_turn(struct agent *agent, struct error *failure)
{
	engine_turn_undone(agent->engine, failure);
	api_turn_end(agent->api, failure);
	return failure->code == EDQUOT ? 0 : error_wrap(failure, "store");
}

static int end_turn(struct agent *agent, struct error *err)
{
	bool durable = api_turn_acknowledges(agent->api);
	struct error failure = {0};
	int result = store_turn_commit(agent->store, durable, &failure);

	if (result == -EREMOTEIO) { // it happened, or not: no reply would be true
		*err = failure;
		return error_wrap(err, "store");
	}
	if (result < 0 && refuse_turn(agent, &failure) < 0) {
		*err = failure;
		return -err->code;
	}
	if (result == 0) {
		engine_turn_committed(agent->engine);
		api_turn_end(agent->api, NULL);
	}
	if (engine_turn(agent->engine))
		api_turn_end(agent->api, NULL); // watchers hear of what came of it
	return 0;
}

static void on_idle(evutil_socket_t fd, short what, void *context)
{
	struct agent *agent = context;
	struct error err = {0};

	(void)fd;
	(void)what;
	if (store_checkpoint(agent->store, &err) < 0)
		log_error(NULL, "%s", err.message);
}

// Turns that change nothing (health checks, say) do not put it off.
static void await_idle(struct agent *agent)
{
	uint64_t revision = store_revision(agent->store);

	if (store_checkpoint_is_due(agent->store, false))
		on_idle(-1, 0, agent);
	if (!store_checkpoint_is_due(agent->store, true) || revision == agent->changed_revision)
		return;
	agent->changed_revision = revision;
	evtimer_add(agent->idle, &(struct timeval){.tv_usec = IDLE_US});
}

static void observe_turn(struct agent *agent, int64_t took_us)
{
	metrics_observe(agent->metrics, METRIC_LOOP_TURN_DURATION_SECONDS, (double)took_us / 1e6,
			NULL);
	if (took_us > TURN_SLOW_US)
		log_debug(NULL, "slow turn: %lld us", (long long)took_us);
}

// Its only purpose is that event_base_loop() returns.
static void on_heartbeat(evutil_socket_t fd, short what, void *context)
{
	(void)fd;
	(void)what;
	(void)context;
}

static int start_watchdog(struct agent *agent, struct error *err)
{
	unsigned ms;

	if (watchdog_start(agent->config.watchdog_seconds, err) < 0)
		return -err->code;
	ms = watchdog_heartbeat_ms();
	agent->heartbeat = event_new(agent->base, -1, EV_PERSIST, on_heartbeat, NULL);
	if (!agent->heartbeat ||
	    event_add(agent->heartbeat,
		      &(struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000}) < 0)
		return error_set(err, ENOMEM, "event loop");
	return 0;
}

static int turns(struct agent *agent, struct error *err)
{
	while (!agent->ending) {
		int64_t used_us = clock_thread_us(), began_us;

		if (event_base_loop(agent->base, EVLOOP_ONCE) < 0)
			return error_set(err, EIO, "event loop");
		// The loop's callbacks by the thread's clock: the other counts the wait for them.
		used_us = clock_thread_us() - used_us;
		began_us = clock_monotonic_us();
		if (end_turn(agent, err) < 0)
			return -err->code;
		if (agent->stopping_tasks)
			stop_tasks_step(agent);
		await_idle(agent);
		observe_turn(agent, used_us + clock_monotonic_us() - began_us);
		watchdog_feed();
	}
	return 0;
}

static int run(struct agent *agent, struct error *err)
{
	int result = start_watchdog(agent, err);

	if (result == 0)
		result = turns(agent, err);
	watchdog_stop();
	return result;
}

// --- Starting ---

// What every task will need; better to say so now than in each task's stoppedReason.
static int check_programs(const struct config *config, struct error *err)
{
	static const char *const programs[] = {"penstock-shim", "penstock-probe", "penstock-init"};
	const struct vmm_ops *vmm = vmm_find(config->driver);
	char path[CONFIG_PATH_MAX + 32];

	for (size_t i = 0; i < ARRAY_LENGTH(programs); i++) {
		snprintf(path, sizeof(path), "%s/%s", config->program_directory, programs[i]);
		if (access(path, X_OK) < 0)
			return error_errno(err, "program_directory: %s", path);
	}
	if (!vmm || !vmm->program)
		return 0;
	if (access(vmm->program, X_OK) < 0)
		return error_errno(err, "driver %s: %s (package qemu-system-x86)", vmm->name,
				   vmm->program);
	snprintf(path, sizeof(path), "%s/vmlinux", config->guest_directory);
	if (access(path, R_OK) < 0)
		return error_errno(err, "guest_directory: %s (build-guest.sh makes it)", path);
	return 0;
}

static int take_lock(struct agent *agent, struct error *err)
{
	char path[CONFIG_PATH_MAX + CONFIG_NAME_MAX + 8];

	snprintf(path, sizeof(path), "%s/%s.lock", agent->config.runtime_directory,
		 agent->config.install);
	if (agent_lock_take(path, &agent->lock_fd, err) < 0)
		return error_wrap(err, "another penstockd of install %s is there",
				  agent->config.install);
	return 0;
}

static int open_store(struct agent *agent, struct error *err)
{
	char path[CONFIG_PATH_MAX + 16], boot_id[BOOT_ID_SIZE];
	struct store_options options = {
		.path = path,
		.boot_id = boot_id,
		.event_limit = agent->config.event_retention_count,
	};

	snprintf(path, sizeof(path), "%s/penstock.db", agent->config.state_directory);
	if (boot_id_read(boot_id, err) < 0)
		return -err->code;
	return store_open(&options, &agent->store, err);
}

static int find_group(const char *name, gid_t *ret_gid, struct error *err)
{
	struct group *group;

	*ret_gid = API_NO_GROUP;
	if (!*name)
		return 0;
	group = getgrnam(name);
	if (!group)
		return error_set(err, EINVAL, "there is no group \"%s\" on this host", name);
	*ret_gid = group->gr_gid;
	return 0;
}

static int open_api(struct agent *agent, struct error *err)
{
	struct api_options options = {
		.base = agent->base,
		.store = agent->store,
		.backend = &agent->operations,
		.socket_path = agent->config.socket,
	};

	if (find_group(agent->config.writer_group, &options.writer_gid, err) < 0 ||
	    find_group(agent->config.reader_group, &options.reader_gid, err) < 0)
		return -err->code;
	return api_open(&options, &agent->api, err);
}

// A task needs some descriptors of its own: as many as the host lets us have.
static int raise_file_limit(struct error *err)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return error_errno(err, "getrlimit");
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		return error_errno(err, "setrlimit");
	if (limit.rlim_max < PROCESS_FILES_MIN)
		return error_set(err, EMFILE,
				 "the hard limit of open files (RLIMIT_NOFILE) is %llu, starting a "
				 "task needs %d: raise LimitNOFILE= of the service, or ulimit -Hn",
				 (unsigned long long)limit.rlim_max, PROCESS_FILES_MIN);
	return 0;
}

static int open_loop(struct agent *agent, struct error *err)
{
	static const int numbers[] = {SIGTERM, SIGINT};

	signal(SIGPIPE, SIG_IGN);
	agent->base = event_base_new();
	if (!agent->base)
		return error_set(err, ENOMEM, "event loop");
	agent->idle = evtimer_new(agent->base, on_idle, agent);
	if (!agent->idle)
		return error_set(err, ENOMEM, "event loop");
	for (size_t i = 0; i < ARRAY_LENGTH(numbers); i++) {
		agent->signals[i] = evsignal_new(agent->base, numbers[i], on_signal, agent);
		if (!agent->signals[i] || event_add(agent->signals[i], NULL) < 0)
			return error_set(err, ENOMEM, "event loop");
	}
	return 0;
}

static int start(struct agent *agent, struct error *err)
{
	struct engine_options options = {.config = &agent->config};

	umask(0077);
	if (raise_file_limit(err) < 0 || check_programs(&agent->config, err) < 0 ||
	    directory_make(agent->config.state_directory, 0711, err) < 0 ||
	    directory_make(agent->config.runtime_directory, 0755, err) < 0 ||
	    take_lock(agent, err) < 0 || open_loop(agent, err) < 0 || open_store(agent, err) < 0)
		return -err->code;
	agent->metrics = metrics_new(metrics_catalog, METRIC_COUNT);
	options.base = agent->base;
	options.store = agent->store;
	options.metrics = agent->metrics;
	if (engine_open(&options, &agent->engine, err) < 0)
		return -err->code;
	agent->backend = (struct backend){agent->engine, agent->metrics, on_shutdown, agent};
	agent->operations = backend_operations(&agent->backend);
	// Running tasks are taken up before anyone can ask for more.
	if (engine_start(agent->engine, err) < 0)
		return -err->code;
	return open_api(agent, err);
}

// The lock goes last: who gets it finds all the rest let go of.
static void agent_close(struct agent *agent)
{
	agent_lock_ending(agent->lock_fd); // before the streams end, which is what a client sees
	api_close(agent->api);
	engine_close(agent->engine);
	if (agent->metrics)
		metrics_free(agent->metrics);
	store_close(agent->store);
	for (size_t i = 0; i < ARRAY_LENGTH(agent->signals); i++)
		if (agent->signals[i])
			event_free(agent->signals[i]);
	if (agent->idle)
		event_free(agent->idle);
	if (agent->heartbeat)
		event_free(agent->heartbeat);
	if (agent->base)
		event_base_free(agent->base);
	close_fd(&agent->lock_fd);
}

// --- The command line ---

// Returns -1 to go on, else the exit status.
static int parse_options(int argc, char **argv, const char **ret_config)
{
	static const struct option options[] = {{"config", required_argument, NULL, 'c'},
						{"explain-config", no_argument, NULL, 'e'},
						{"version", no_argument, NULL, 'v'},
						{"help", no_argument, NULL, 'h'},
						{NULL, 0, NULL, 0}};
	int option;

	while ((option = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
		switch (option) {
		case 'c':
			*ret_config = optarg;
			break;
		case 'e':
			config_explain(stdout);
			return 0;
		case 'v':
			puts("penstockd " PENSTOCK_VERSION);
			return 0;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			fputs("Try penstockd --help\n", stderr);
			return 2;
		}
	}
	if (optind == argc)
		return -1;
	fprintf(stderr, "penstockd: unexpected argument \"%s\"; try penstockd --help\n",
		argv[optind]);
	return 2;
}

int main(int argc, char **argv)
{
	struct agent agent = {.lock_fd = -1};
	const char *config_path = getenv("PENSTOCK_CONFIG");
	struct error err = {0};
	int status = parse_options(argc, argv, &config_path);

	if (status >= 0)
		return status;
	log_open("penstockd", LOG_LEVEL_INFO, 0);
	status = config_load(config_path, &agent.config, &err);
	if (status < 0 && status != -ENOENT) {
		log_error(NULL, "%s", err.message);
		return 2;
	}
	error_clear(&err);
	log_open("penstockd", config_log_level(&agent.config),
		 strcmp(agent.config.log_to, "auto") == 0);
	status = start(&agent, &err);
	if (status == 0) {
		log_info(NULL, "install %s, driver %s, API on %s", agent.config.install,
			 agent.config.driver, agent.config.socket);
		status = run(&agent, &err);
	}
	if (status < 0)
		log_error(NULL, "%s", err.message);
	agent_close(&agent);
	return status < 0 ? 1 : 0;
}
