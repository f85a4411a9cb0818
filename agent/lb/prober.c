// SPDX-License-Identifier: Apache-2.0
// The probe's process: started when the first check needs it, again a second after it ended.
// It needs no record: the kernel ends it with the agent. Its arguments carry the install's name:
// fsck finds it by them.
#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "agent/base/clock.h"
#include "agent/base/scope.h"
#include "agent/lb/internal.h"

enum { RESTART_AFTER_US = 1000000 };

static int spawn(struct lb_vpc *vpc, int child_fd, struct process *ret_process, struct error *err)
{
	const struct lb *lb = vpc->lb;
	const char *const argv[] = {lb->probe_path, lb->install, vpc->id, NULL};
	const struct spawn_fd fds[] = {{child_fd, PROBE_SOCKET_FD}, {STDERR_FILENO, STDERR_FILENO}};
	scoped_fd int netns_fd = -1;

	if (netif_vpc_open(lb->netif, vpc->id, &netns_fd, err) < 0)
		return -err->code;
	return process_spawn(&(struct spawn_options){.argv = argv,
						     .fds = fds,
						     .fd_count = ARRAY_LENGTH(fds),
						     .netns_fd = netns_fd,
						     .drop_identity = !lb->keep_identity,
						     .uid = lb->probe_uid,
						     .gid = lb->probe_gid,
						     .die_with_parent = true},
			     ret_process, err);
}

static int start(struct lb_vpc *vpc, struct error *err)
{
	int pair[2];
	scoped_fd int agent_fd = -1, child_fd = -1;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(err, "create socket pair");
	agent_fd = pair[0];
	child_fd = pair[1];
	if (spawn(vpc, child_fd, &vpc->probe, err) < 0)
		return -err->code;
	vpc->probe_fd = take_fd(&agent_fd);
	if (lb_watch_add(&vpc->probe_socket_watch, vpc->probe_fd, EPOLLIN, err) < 0 ||
	    lb_watch_add(&vpc->probe_process_watch, vpc->probe.pidfd, EPOLLIN, err) < 0) {
		lb_prober_stop(vpc);
		return -err->code;
	}
	return 0;
}

int lb_prober_start(struct lb_vpc *vpc, struct error *err)
{
	vpc->probe_start_us = clock_monotonic_us() + RESTART_AFTER_US;
	if (start(vpc, err) < 0)
		return error_wrap(err, "vpc %s: start penstock-probe", vpc->id);
	lb_checks_restart(vpc);
	return 0;
}

void lb_prober_stop(struct lb_vpc *vpc)
{
	siginfo_t info;

	lb_watch_remove(&vpc->probe_socket_watch, vpc->probe_fd);
	close_fd(&vpc->probe_fd);
	vpc->probe_blocked = false;
	if (vpc->probe.pid < 0)
		return;
	kill(vpc->probe.pid, SIGKILL); // not reaped yet: the pid is still its own
	while (waitid(P_PID, (id_t)vpc->probe.pid, &info, WEXITED) < 0 && errno == EINTR)
		continue;
	lb_watch_remove(&vpc->probe_process_watch, vpc->probe.pidfd);
	process_close(&vpc->probe);
	vpc->probe = PROCESS_NONE;
}

void lb_prober_ended(struct lb_vpc *vpc)
{
	struct error err;

	if (vpc->probe.pid < 0)
		return;
	lb_prober_stop(vpc);
	lb_checks_restart(vpc);
	error_set(&err, ECHILD, "vpc %s: penstock-probe ended, it is started again", vpc->id);
	lb_event_error(vpc, &err);
}
