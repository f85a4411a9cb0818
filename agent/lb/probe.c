// SPDX-License-Identifier: Apache-2.0
// penstock-probe: health checks from inside a VPC's namespace.
//
// One per VPC, started by the agent as an unprivileged user without capabilities,
// because what it reads comes from the targets. It only tests: what a result means is
// the agent's business. It knows descriptor 3 and ends with it.
//
// Results are samples: one that the agent does not take in time is dropped, the next
// interval brings another.
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/message.h"
#include "agent/base/sandbox.h"
#include "agent/base/scope.h"
#include "agent/lb/probe.h"

enum {
	EVENTS_PER_TURN = 64,
	COMMANDS_PER_TURN = 64,
	UNDER_WAY_MAX = 512, // connections at once
	CROWDED_RETRY_US = 20000,
	SOCKET_EVENT = UINT32_MAX, // no number of a check
};

struct probe {
	int epoll_fd;
	struct probe_check *checks[PROBE_CHECKS_MAX];
	struct probe_timers timers;
	unsigned under_way;
};

static void tell(struct probe *probe, struct probe_check *check, const struct probe_result *result,
		 int64_t now_us)
{
	struct error ignored;

	probe->under_way--;
	if (probe_attempt_finish(check, result, now_us))
		message_send(PROBE_SOCKET_FD, result, sizeof(*result), NULL, 0, &ignored);
	probe_timers_moved(&probe->timers, check);
}

static void check_remove(struct probe *probe, uint32_t number)
{
	struct probe_check *check = probe->checks[number];

	if (!check)
		return;
	if (check->fd >= 0)
		probe->under_way--;
	probe_timers_remove(&probe->timers, check);
	probe_check_free(check);
	probe->checks[number] = NULL;
}

static void command_handle(struct probe *probe, const struct probe_command *command)
{
	if (command->number >= PROBE_CHECKS_MAX)
		return;
	check_remove(probe, command->number);
	if (command->kind != PROBE_SET)
		return;
	probe->checks[command->number] = probe_check_new(command, clock_monotonic_us());
	if (probe->checks[command->number])
		probe_timers_add(&probe->timers, probe->checks[command->number]);
}

// False at end of file.
static bool commands_read(struct probe *probe)
{
	for (int i = 0; i < COMMANDS_PER_TURN; i++) {
		struct probe_command command;
		struct error err;
		int r = message_receive(PROBE_SOCKET_FD, &command, sizeof(command), NULL, 0, &err);

		if (r == -EAGAIN)
			return true;
		if (r <= 0)
			return false;
		command_handle(probe, &command);
	}
	return true;
}

static void check_due(struct probe *probe, struct probe_check *check, int64_t now_us)
{
	struct probe_result result;

	if (check->fd >= 0) {
		probe_attempt_timeout(check, now_us, &result);
		tell(probe, check, &result, now_us);
		return;
	}
	if (probe->under_way >= UNDER_WAY_MAX) {
		check->due_us = now_us + CROWDED_RETRY_US;
		probe_timers_moved(&probe->timers, check);
		return;
	}
	probe->under_way++;
	if (probe_attempt_start(check, probe->epoll_fd, now_us, &result))
		tell(probe, check, &result, now_us);
	else
		probe_timers_moved(&probe->timers, check);
}

static void timers_run(struct probe *probe)
{
	int64_t now_us = clock_monotonic_us();
	struct probe_check *check;

	while ((check = probe_timers_first(&probe->timers)) && check->due_us <= now_us)
		check_due(probe, check, now_us);
}

static int wait_ms(const struct probe *probe)
{
	const struct probe_check *first = probe_timers_first(&probe->timers);
	int64_t wait_us;

	if (!first)
		return -1;
	wait_us = first->due_us - clock_monotonic_us();
	return wait_us <= 0 ? 0 : (int)((wait_us + 999) / 1000);
}

static void check_ready(struct probe *probe, uint64_t number)
{
	struct probe_check *check = number < PROBE_CHECKS_MAX ? probe->checks[number] : NULL;
	int64_t now_us = clock_monotonic_us();
	struct probe_result result;

	if (check && probe_attempt_ready(check, probe->epoll_fd, now_us, &result))
		tell(probe, check, &result, now_us);
}

static int run(struct probe *probe)
{
	struct epoll_event events[EVENTS_PER_TURN];

	for (;;) {
		int count = epoll_wait(probe->epoll_fd, events, EVENTS_PER_TURN, wait_ms(probe));
		bool commands = false;

		if (count < 0 && errno != EINTR)
			return 1;
		// Connections first: a command may free the check that an event means.
		for (int i = 0; i < count; i++) {
			if (events[i].data.u64 == SOCKET_EVENT)
				commands = true;
			else
				check_ready(probe, events[i].data.u64);
		}
		if (commands && !commands_read(probe))
			return 0;
		timers_run(probe);
	}
}

int main(void)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = SOCKET_EVENT};
	struct probe *probe;
	struct error err = {0};
	int status = 1;

	prctl(PR_SET_DUMPABLE, 0);
	signal(SIGPIPE, SIG_IGN);
	log_open("penstock-probe", LOG_LEVEL_INFO, 0);
	if (sandbox_enter(SANDBOX_PROBE, &err) < 0) {
		log_error(NULL, "%s", err.message);
		return 1;
	}
	probe = calloc(1, sizeof(*probe));
	if (!probe)
		return 1;
	probe->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (probe->epoll_fd >= 0 &&
	    epoll_ctl(probe->epoll_fd, EPOLL_CTL_ADD, PROBE_SOCKET_FD, &event) == 0)
		status = run(probe);
	for (uint32_t i = 0; i < PROBE_CHECKS_MAX; i++)
		probe_check_free(probe->checks[i]);
	probe_timers_release(&probe->timers);
	close_fd(&probe->epoll_fd);
	free(probe);
	return status;
}
