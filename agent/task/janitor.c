// SPDX-License-Identifier: Apache-2.0
#include "agent/task/janitor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/scope.h"

struct janitor {
	struct janitor *next;
	struct janitors *all;
	struct event *event;
	pid_t pid;
	int report_fd;
	janitor_done done; // NULL: forgotten
	void *owner;
};

static void janitor_free(struct janitor *janitor)
{
	struct janitor **place = &janitor->all->first;

	while (*place != janitor)
		place = &(*place)->next;
	*place = janitor->next;
	janitor->all->running--;
	if (janitor->event)
		event_free(janitor->event);
	close_fd(&janitor->report_fd);
	free(janitor);
}

static void janitor_end(struct janitor *janitor)
{
	kill(janitor->pid, SIGKILL);
	while (waitpid(janitor->pid, NULL, 0) < 0 && errno == EINTR)
		continue;
}

static void read_report(struct janitor *janitor, struct error *report)
{
	ssize_t count = read(janitor->report_fd, report, sizeof(*report));

	if (count != sizeof(*report))
		error_set(report, EIO, "janitor %d ended without a report", janitor->pid);
	report->message[sizeof(report->message) - 1] = '\0';
}

static void on_report(evutil_socket_t fd, short what, void *context)
{
	struct janitor *janitor = context;
	janitor_done done = janitor->done;
	void *owner = janitor->owner;
	struct error report;

	(void)fd;
	(void)what;
	read_report(janitor, &report);
	while (waitpid(janitor->pid, NULL, 0) < 0 && errno == EINTR)
		continue;
	janitor_free(janitor);
	if (done)
		done(owner, &report);
}

_Noreturn static void child_main(int report_fd, int kept_fd, pid_t parent, janitor_work work,
				 const char *argument)
{
	struct error err = {0};

	// First of all: the copy of a killed agent would still hold its sockets and taps.
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	// Numbers 3 (kept) and 4 (report); everything else of the agent's goes.
	report_fd = fcntl(report_fd, F_DUPFD_CLOEXEC, 10);
	kept_fd = kept_fd < 0 ? open("/dev/null", O_RDWR | O_CLOEXEC)
			      : fcntl(kept_fd, F_DUPFD_CLOEXEC, 10);
	if (report_fd < 0 || kept_fd < 0 || dup3(kept_fd, 3, O_CLOEXEC) < 0 ||
	    dup3(report_fd, 4, O_CLOEXEC) < 0)
		_exit(1);
	close_range(5, ~0U, 0);
	if (work(argument, &err) >= 0)
		error_clear(&err);
	_exit(write(4, &err, sizeof(err)) == sizeof(err) ? 0 : 1);
}

// libevent's handlers would tell the agent of a signal that is for the child: until they are reset
// there, it waits.
static pid_t fork_without_handlers(void)
{
	sigset_t ending, before;
	pid_t pid;

	sigemptyset(&ending);
	sigaddset(&ending, SIGTERM);
	sigaddset(&ending, SIGINT);
	sigprocmask(SIG_BLOCK, &ending, &before);
	pid = fork();
	if (pid == 0) {
		signal(SIGTERM, SIG_DFL);
		signal(SIGINT, SIG_DFL);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	return pid;
}

static int watch_report(struct janitor *janitor, struct error *err)
{
	janitor->event =
		event_new(janitor->all->base, janitor->report_fd, EV_READ, on_report, janitor);
	if (!janitor->event || event_add(janitor->event, NULL) < 0)
		return error_set(err, ENOMEM, "watch janitor");
	return 0;
}

int janitor_start(struct janitors *janitors, const char *argument, int kept_fd, janitor_work work,
		  janitor_done done, void *owner, struct error *err)
{
	struct janitor *janitor = calloc(1, sizeof(*janitor));
	pid_t parent = getpid();
	int report[2];

	if (!janitor || pipe2(report, O_CLOEXEC) < 0) {
		free(janitor);
		return error_errno(err, "start janitor");
	}
	*janitor = (struct janitor){.next = janitors->first,
				    .all = janitors,
				    .done = done,
				    .owner = owner,
				    .report_fd = report[0]};
	janitors->first = janitor;
	janitors->running++;
	janitor->pid = fork_without_handlers();
	if (janitor->pid == 0)
		child_main(report[1], kept_fd, parent, work, argument);
	close(report[1]);
	if (janitor->pid < 0)
		error_errno(err, "start janitor: fork");
	else if (watch_report(janitor, err) == 0)
		return 0;
	else
		janitor_end(janitor);
	janitor_free(janitor);
	return -err->code;
}

void janitor_forget(struct janitors *janitors, const void *owner)
{
	for (struct janitor *janitor = janitors->first; janitor; janitor = janitor->next)
		if (janitor->owner == owner)
			janitor->done = NULL;
}

static void on_reaped(void *owner, const struct error *err)
{
	struct reaper *reaper = owner;
	bool again = reaper->again;

	reaper->running = false;
	reaper->again = false;
	reaper->failed = err->code != 0;
	if (err->code)
		log_error(NULL, "reaper of %s: %s", reaper->name, err->message);
	else
		reaper->reaped = reaper->began;
	if (again)
		reaper_kick(reaper);
}

void reaper_kick(struct reaper *reaper)
{
	struct error err = {0};

	reaper->waiting = 0;
	if (reaper->timer)
		evtimer_del(reaper->timer);
	if (reaper->running) {
		reaper->again = true;
		return;
	}
	reaper->began = clock_boot();
	if (janitor_start(reaper->janitors, reaper->argument, -1, reaper->work, on_reaped, reaper,
			  &err) < 0)
		log_error(NULL, "reaper of %s: %s", reaper->name, err.message);
	else
		reaper->running = true;
	reaper->failed = !reaper->running;
}

static void on_due(evutil_socket_t fd, short what, void *context)
{
	(void)fd;
	(void)what;
	reaper_kick(context);
}

void reaper_add(struct reaper *reaper)
{
	static const struct timeval delay = {.tv_sec = REAPER_DELAY_S};

	if (!reaper->timer)
		reaper->timer = evtimer_new(reaper->janitors->base, on_due, reaper);
	reaper->waiting++;
	if (!reaper->timer || reaper->waiting >= REAPER_WAITING_MAX)
		reaper_kick(reaper);
	else if (reaper->waiting == 1)
		evtimer_add(reaper->timer, &delay);
}

void reaper_flush(struct reaper *reaper)
{
	if (reaper->waiting > 0)
		reaper_kick(reaper);
}

bool reaper_is_done(const struct reaper *reaper)
{
	return reaper->waiting == 0 && !reaper->running && !reaper->failed;
}

void reaper_close(struct reaper *reaper)
{
	janitor_forget(reaper->janitors, reaper);
	if (reaper->timer)
		event_free(reaper->timer);
}

void reaper_retry(struct reaper *reaper)
{
	if (reaper->failed)
		reaper_kick(reaper);
}

void janitors_close(struct janitors *janitors)
{
	while (janitors->first) {
		struct janitor *janitor = janitors->first;

		janitor_end(janitor);
		janitor_free(janitor);
	}
}
