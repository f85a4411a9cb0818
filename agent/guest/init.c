// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/guest/init.h"

#include "agent/base/clock.h"
#include "agent/base/scope.h"

static const int64_t second_us = 1000000;

enum {
	CONNECT_DEADLINE_S = 30,
	FAREWELL_DEADLINE_S = 10, // for the last log chunks and the last status
	POLL_MAX = 2 + AGENT_CONNECTIONS + 3 * GUEST_CONTAINERS_MAX,
};

// ---------------------------------------------------------------- events

struct events {
	int signal_fd;
	int power_fd; // the power button, -1 where there is none
};

static int events_open(struct events *events, struct error *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	events->power_fd = open("/dev/input/event0", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	events->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (events->signal_fd < 0)
		return error_errno(err, "signalfd");
	return 0;
}

static void reap(struct task *task, int64_t now_us)
{
	int wait_status;
	pid_t pid;

	while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0)
		init_task_reaped(task, pid, wait_status, now_us);
}

static void take_signals(int fd, struct task *task)
{
	struct signalfd_siginfo signal;

	while (read(fd, &signal, sizeof(signal)) == sizeof(signal))
		if (signal.ssi_signo != SIGCHLD)
			init_task_stop(task);
}

static void take_power_button(int fd, struct task *task)
{
	struct input_event event;

	while (read(fd, &event, sizeof(event)) == sizeof(event))
		if (event.type == EV_KEY && event.code == KEY_POWER && event.value)
			init_task_stop(task);
}

// ---------------------------------------------------------------- loop

struct poll_set {
	struct pollfd places[POLL_MAX];
	struct log_stream *streams[POLL_MAX]; // whose place it is, or NULL
	nfds_t count;
};

static void watch(struct poll_set *set, int fd, short events, struct log_stream *stream)
{
	if (fd < 0 || !events)
		return;
	set->places[set->count] = (struct pollfd){.fd = fd, .events = events};
	set->streams[set->count++] = stream;
}

static void watch_containers(struct poll_set *set, struct task *task)
{
	for (uint32_t i = 0; i < task->manifest.container_count; i++) {
		struct container *container = &task->containers[i];

		watch(set, container->start_fd, POLLIN, NULL);
		for (int k = 0; k < 2; k++)
			if (init_log_has_room(&container->streams[k]))
				watch(set, container->streams[k].fd, POLLIN,
				      &container->streams[k]);
	}
}

static void wait_for_events(const struct events *events, struct agent *agent, struct task *task,
			    int64_t until_us)
{
	struct poll_set set = {.count = 0};
	int64_t left_us = until_us - clock_monotonic_us();

	watch(&set, events->signal_fd, POLLIN, NULL);
	watch(&set, events->power_fd, POLLIN, NULL);
	for (int i = 0; i < AGENT_CONNECTIONS; i++)
		watch(&set, agent->clients[i].fd, http_client_events(&agent->clients[i]), NULL);
	watch_containers(&set, task);
	poll(set.places, set.count, left_us > 0 ? (int)((left_us + 999) / 1000) : 0);
	for (nfds_t i = 0; i < set.count; i++)
		if (set.streams[i] && set.places[i].revents)
			init_log_read(set.streams[i]);
	take_signals(events->signal_fd, task);
	take_power_button(events->power_fd, task);
}

static int64_t earliest(int64_t one_us, int64_t other_us)
{
	return one_us < other_us ? one_us : other_us;
}

static void run(const struct events *events, struct agent *agent, struct task *task)
{
	int64_t farewell_us = INT64_MAX;

	for (;;) {
		int64_t now_us = clock_monotonic_us();
		int64_t until_us;
		enum guest_phase phase;

		reap(task, now_us);
		init_task_tick(task, now_us);
		phase = task->status.phase;
		init_agent_tick(agent, task, now_us);
		if (task->status.phase != phase)
			continue; // told to stop: the task has to hear of it before we wait
		if (task->status.phase == GUEST_PHASE_ENDED && farewell_us == INT64_MAX)
			farewell_us = now_us + FAREWELL_DEADLINE_S * second_us;
		if (now_us >= farewell_us ||
		    (init_task_ended(task) && init_agent_idle(agent, task)))
			return;
		until_us = earliest(init_task_next_us(task, now_us), init_agent_next_us(agent));
		wait_for_events(events, agent, task, earliest(until_us, farewell_us));
	}
}

// ---------------------------------------------------------------- stages

// The netns driver says everything in argv. The kernel keeps words with a dot to itself, but
// may hand over others that it does not know.
static bool is_machine(char **argv)
{
	return !argv[0] || !argv[1] || strncmp(argv[1], "penstock.", 9) != 0;
}

static int read_settings(char **argv, struct arena *arena, struct init_settings *ret_settings,
			 struct error *err)
{
	const char **words = (const char **)(argv + 1);
	int result = 0;

	if (is_machine(argv)) {
		result = init_boot(err);
		if (result == 0)
			result = init_boot_words(arena, &words, err);
	}
	return result < 0 ? result : init_settings_parse(words, ret_settings, err);
}

static int run_task(char **argv, struct arena *arena, struct error *err)
{
	static struct task task;
	static struct agent agent;
	struct events events = {-1, -1};
	scoped_free char *manifest = NULL;
	size_t length = 0;
	int result = read_settings(argv, arena, &task.settings, err);

	if (result == 0)
		result = events_open(&events, err);
	if (result == 0)
		result = init_network_configure(&task.settings, err);
	if (result == 0)
		result = init_mounts_prepare(&task.settings, arena, err);
	if (result == 0)
		result = init_agent_connect(&agent,
					    clock_monotonic_us() + CONNECT_DEADLINE_S * second_us,
					    &manifest, &length, err);
	if (result == 0 && guest_manifest_decode(manifest, length, arena, &task.manifest, err) < 0)
		result = error_wrap(err, "manifest");
	if (result < 0)
		return result;
	if (init_task_open(&task, err) < 0)
		init_task_fail(&task, err);
	run(&events, &agent, &task);
	init_nfs_flush(&task.manifest, init_task_flush_deadline_us(&task, clock_monotonic_us()));
	if (!task.settings.virtual_machine) // whose mounts end with it
		init_mounts_close(&task.manifest);
	return 0;
}

int main(int argc, char **argv)
{
	scoped(arena_release) struct arena arena = {0};
	struct error err = {0};
	int result;

	(void)argc;
	// By hand, on a host, it would mount over that and power it off.
	if (getpid() != 1) {
		fputs("penstock-init: runs as the first process of a microVM or of a pid namespace "
		      "only\n",
		      stderr);
		return 2;
	}
	umask(0);
	// What init forks into a container is a copy of it, with the token and every environment,
	// until it executes another program. Nobody in there may look at that.
	prctl(PR_SET_DUMPABLE, 0);
	result = run_task(argv, &arena, &err);
	if (result < 0)
		fprintf(stderr, "penstock-init: %s\n", err.message);
	if (!is_machine(argv))
		return result < 0;
	// No sync(2): the ephemeral disk ends with the task, and a file server may never answer.
	reboot(RB_POWER_OFF);
	return 1;
}
