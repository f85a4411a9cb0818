// SPDX-License-Identifier: Apache-2.0
// A record lock, for that one is not inherited: children of a killed agent do not keep its
// successor out. The file is empty while its holder works, and says "ending" once it does not any
// more.
#include "agent/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/scope.h"

enum { ENDING_WAIT_MS = 30000 };

static const char ending[] = "ending\n";

void agent_lock_ending(int fd)
{
	if (fd >= 0 && pwrite(fd, ending, sizeof(ending) - 1, 0) < 0)
		log_warning(NULL, "mark the lock: %s", strerror(errno));
}

static bool is_ending(int fd)
{
	char text[sizeof(ending)];
	ssize_t count = pread(fd, text, sizeof(text), 0);

	return count == sizeof(ending) - 1 && memcmp(text, ending, sizeof(ending) - 1) == 0;
}

// 0: it is ours now. -EAGAIN: `*ret_holder` has it; 0 when that one let go meanwhile.
static int try_lock(int fd, pid_t *ret_holder)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET}, holder = lock;

	if (fcntl(fd, F_SETLK, &lock) == 0)
		return 0;
	if (errno != EAGAIN && errno != EACCES)
		return -errno;
	if (fcntl(fd, F_GETLK, &holder) < 0)
		return -errno;
	*ret_holder = holder.l_type == F_UNLCK ? 0 : holder.l_pid;
	return -EAGAIN;
}

// False when it does not end in time, or cannot be seen (a process of another pid namespace).
static bool wait_for_end(pid_t process, int64_t deadline_us)
{
	scoped_fd int pidfd = (int)syscall(SYS_pidfd_open, process, 0);
	struct pollfd end = {.fd = pidfd, .events = POLLIN};
	int64_t left_us = deadline_us - clock_monotonic_us();

	if (pidfd < 0)
		return errno == ESRCH;
	return left_us > 0 && poll(&end, 1, (int)(left_us / 1000) + 1) > 0;
}

int agent_lock_take(const char *path, int *ret_fd, struct error *err)
{
	scoped_fd int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	int64_t deadline_us = clock_monotonic_us() + ENDING_WAIT_MS * INT64_C(1000);
	pid_t holder = 0;
	int result;

	if (fd < 0)
		return error_errno(err, "open %s", path);
	while ((result = try_lock(fd, &holder)) == -EAGAIN) {
		if (holder == 0)
			continue;
		if (!is_ending(fd))
			return error_set(err, EAGAIN, "process %d runs (%s)", holder, path);
		log_info(NULL, "process %d is ending: waiting for it", holder);
		if (!wait_for_end(holder, deadline_us))
			return error_set(err, EAGAIN, "process %d does not end (%s)", holder, path);
	}
	if (result == 0 && ftruncate(fd, 0) < 0)
		result = -errno;
	if (result < 0)
		return error_code(err, result, "lock %s", path);
	*ret_fd = take_fd(&fd);
	return 0;
}
