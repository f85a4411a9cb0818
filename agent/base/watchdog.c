// SPDX-License-Identifier: Apache-2.0
// Theory of operation. A one-shot POSIX timer sends SIGALRM; every turn of the loop sets it again,
// so that no signal is ever delivered to a healthy process and no system call of it is interrupted.
// The kernel delivers the signal to a loop that spins as well as to one that sleeps in a system
// call. POSIX timers are neither inherited by fork() nor kept by exec().
//
// The limit is cut into two halves. A process that was stopped (SIGSTOP, a frozen cgroup, a
// debugger) finds the signal of the first half pending when it goes on: its handler only starts the
// second half, and a loop that is alive feeds the watchdog within it.
#include "agent/base/watchdog.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
	timer_t timer;
	bool started;
	struct itimerspec half;
	unsigned seconds;
	volatile sig_atomic_t half_expired;
	char last_words[128]; // made in advance: a signal handler must not format
} watchdog;

// Only async-signal-safe calls.
static void watchdog_on_alarm(int number)
{
	int saved = errno;
	ssize_t written;

	(void)number;
	if (!watchdog.half_expired) {
		watchdog.half_expired = 1;
		timer_settime(watchdog.timer, 0, &watchdog.half, NULL);
		errno = saved;
		return;
	}
	written = write(STDERR_FILENO, watchdog.last_words, strlen(watchdog.last_words));
	(void)written;
	abort();
}

int watchdog_start(unsigned seconds, struct error *err)
{
	struct sigaction action = {.sa_handler = watchdog_on_alarm, .sa_flags = SA_RESTART};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};

	watchdog.seconds = seconds;
	watchdog.half.it_value = (struct timespec){
		.tv_sec = seconds / 2,
		.tv_nsec = seconds % 2 * 500000000L,
	};
	snprintf(watchdog.last_words, sizeof(watchdog.last_words),
		 "%s: error: a turn of the event loop did not end in %u s: ending, tasks go on\n",
		 program_invocation_short_name, seconds);
	if (sigaction(SIGALRM, &action, NULL) < 0)
		return error_errno(err, "watchdog: sigaction");
	if (timer_create(CLOCK_MONOTONIC, &event, &watchdog.timer) < 0)
		return error_errno(err, "watchdog: timer_create");
	watchdog.started = true;
	watchdog_feed();
	return 0;
}

void watchdog_feed(void)
{
	if (!watchdog.started)
		return;
	timer_settime(watchdog.timer, 0, &watchdog.half, NULL);
	watchdog.half_expired = 0;
}

void watchdog_stop(void)
{
	if (!watchdog.started)
		return;
	timer_delete(watchdog.timer);
	watchdog.started = false;
}

unsigned watchdog_heartbeat_ms(void)
{
	return watchdog.seconds * 250;
}
