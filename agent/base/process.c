// SPDX-License-Identifier: Apache-2.0
// Theory of operation. Everything the child needs is prepared before clone3; between
// clone3 and exec it makes only async-signal-safe calls. It first moves the status pipe,
// the gate and every descriptor it was given above the numbers it will use (so that
// dup2 never overwrites a source), joins its cgroups, waits at the gate, changes identity,
// puts the descriptors in their places, closes the rest and executes. What fails on the way
// is written to the status pipe as one `struct failure`; exec itself closes that pipe, so
// end-of-file means "running".
#include "agent/base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "agent/base/buffer.h"
#include "agent/base/file.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"

enum { SPAWN_FDS_MAX = 64, SPAWN_FD_FLOOR = 1000, EXIT_BEFORE_EXEC = 127 };

// Descriptors, gate, status and network namespace, all above the floor.
_Static_assert(SPAWN_FD_FLOOR + SPAWN_FDS_MAX + 4 <= PROCESS_FILES_MIN, "too few files");

struct failure {
	int code;
	char what[28];
};

struct child {
	const struct spawn_options *options;
	int status_fd, gate_fd, gate_write_fd, netns_fd;
	pid_t parent;
};

_Noreturn static void child_fail(const struct child *child, const char *what)
{
	struct failure failure = {.code = errno};

	strncpy(failure.what, what, sizeof(failure.what) - 1);
	if (write(child->status_fd, &failure, sizeof(failure)) < 0)
		_exit(EXIT_BEFORE_EXEC);
	_exit(EXIT_BEFORE_EXEC);
}

static int raise_fd(const struct child *child, int fd)
{
	int raised = fcntl(fd, F_DUPFD_CLOEXEC, SPAWN_FD_FLOOR);

	if (raised < 0)
		child_fail(child, "raise descriptor");
	return raised;
}

// Until it is executed a child is a copy of its parent, with all descriptors: listeners, locks of
// open files, taps. A parent that is killed must not leave such a copy behind, in which its
// successor would find them still in use. In a new pid namespace the parent has no number; there
// the caller's cgroup.kill is the way back.
static void child_die_with_parent(const struct child *child)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		child_fail(child, "bind to parent");
	if (!(child->options->namespaces & CLONE_NEWPID) && getppid() != child->parent)
		_exit(EXIT_BEFORE_EXEC);
}

static void child_join_cgroups(const struct child *child)
{
	for (const char *const *path = child->options->cgroup_procs; path && *path; path++) {
		int fd = open(*path, O_WRONLY | O_CLOEXEC);

		if (fd < 0 || write(fd, "0", 1) != 1)
			child_fail(child, "join cgroup");
		close(fd);
	}
}

static void child_wait_at_gate(const struct child *child)
{
	char go;
	ssize_t count;

	if (!child->options->gated)
		return;
	do
		count = read(child->gate_fd, &go, 1);
	while (count < 0 && errno == EINTR);
	if (count != 1) // the parent ended before it recorded us
		_exit(EXIT_BEFORE_EXEC);
}

// A core dump would write the memory of a guest, or secrets, to the host's disk.
static void child_limit_files(const struct child *child)
{
	rlim_t max = child->options->file_bytes_max;

	if (setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}) < 0)
		child_fail(child, "forbid core dumps");
	if (max && setrlimit(RLIMIT_FSIZE, &(struct rlimit){max, max}) < 0)
		child_fail(child, "limit files");
}

static void child_change_identity(const struct child *child)
{
	const struct spawn_options *options = child->options;

	if (options->netns_fd >= 0 && setns(child->netns_fd, CLONE_NEWNET) < 0)
		child_fail(child, "enter network namespace");
	if (chdir(options->working_directory ? options->working_directory : "/") < 0)
		child_fail(child, "change directory");
	if (!options->drop_identity)
		return;
	if (setgroups(0, NULL) < 0 || setresgid(options->gid, options->gid, options->gid) < 0 ||
	    setresuid(options->uid, options->uid, options->uid) < 0)
		child_fail(child, "change user");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		child_fail(child, "set no_new_privs");
}

static void child_reset_signals(void)
{
	struct sigaction plain = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int number = 1; number < NSIG; number++)
		sigaction(number, &plain, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void child_place_fds(const struct child *child, const int *raised)
{
	const struct spawn_options *options = child->options;

	for (size_t i = 0; i < options->fd_count; i++)
		if (dup2(raised[i], options->fds[i].to) < 0)
			child_fail(child, "place descriptor");
	// All others have CLOEXEC; so that a library's slip does not leak, mark them again.
	close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
	for (size_t i = 0; i < options->fd_count; i++)
		if (fcntl(options->fds[i].to, F_SETFD, 0) < 0)
			child_fail(child, "keep descriptor");
}

_Noreturn static void child_main(struct child *child)
{
	const struct spawn_options *options = child->options;
	static const char *const no_environment[] = {NULL};
	int raised[SPAWN_FDS_MAX];
	const char *const *envp = options->envp ? options->envp : no_environment;

	child_die_with_parent(child);
	child->status_fd = raise_fd(child, child->status_fd);
	if (options->gated)
		child->gate_fd = raise_fd(child, child->gate_fd);
	if (options->netns_fd >= 0)
		child->netns_fd = raise_fd(child, options->netns_fd);
	for (size_t i = 0; i < options->fd_count; i++)
		raised[i] = raise_fd(child, options->fds[i].from);
	child_reset_signals();
	// A new session: the terminal's signals are for the agent alone.
	setsid();
	// Before anything that takes time: a copy of the gate's write end would hide the parent's
	// death, and nobody should find the parent's sockets still open after it.
	close(child->gate_write_fd); // it may lie above the floor
	close_range(3, SPAWN_FD_FLOOR - 1, 0);
	child_join_cgroups(child);
	child_wait_at_gate(child);
	child_limit_files(child);
	child_change_identity(child);
	if (options->die_with_parent)
		child_die_with_parent(child); // a change of identity has cleared it
	else if (prctl(PR_SET_PDEATHSIG, 0) < 0)
		child_fail(child, "leave parent");
	child_place_fds(child, raised);
	if (options->filter &&
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, options->filter) < 0)
		child_fail(child, "install filter");
	execve(options->argv[0], (char *const *)(uintptr_t)options->argv,
	       (char *const *)(uintptr_t)envp);
	child_fail(child, "execute");
}

static int check_options(const struct spawn_options *options, struct error *err)
{
	if (!options->argv || !options->argv[0] || options->argv[0][0] != '/')
		return error_set(err, EINVAL, "spawn: argv[0] must be an absolute path");
	if (options->fd_count > SPAWN_FDS_MAX)
		return error_set(err, EINVAL, "spawn %s: %zu descriptors, at most %d",
				 options->argv[0], options->fd_count, SPAWN_FDS_MAX);
	return 0;
}

// Where clone3 is not to be had (an old seccomp filter, valgrind): the child is ours and not waited
// for yet, so its pid cannot become another's before the pidfd is opened.
static pid_t clone_without_clone3(uint64_t namespaces, int *ret_pidfd)
{
	pid_t pid = namespaces
			    ? (pid_t)syscall(SYS_clone, namespaces | SIGCHLD, NULL, NULL, NULL, 0)
			    : fork();

	if (pid > 0)
		*ret_pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	return pid;
}

static pid_t clone_child(uint64_t namespaces, int *ret_pidfd)
{
	struct clone_args args = {
		.flags = CLONE_PIDFD | namespaces,
		.pidfd = (uintptr_t)ret_pidfd,
		.exit_signal = SIGCHLD,
	};
	pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));

	return pid < 0 && errno == ENOSYS ? clone_without_clone3(namespaces, ret_pidfd) : pid;
}

int process_spawn(const struct spawn_options *options, struct process *ret_process,
		  struct error *err)
{
	int status_pipe[2], gate_pipe[2];
	struct process process = PROCESS_NONE;
	struct child child = {.options = options, .parent = getpid()};
	int result;

	if (check_options(options, err) < 0)
		return -err->code;
	if (pipe2(status_pipe, O_CLOEXEC) < 0)
		return error_errno(err, "spawn %s: pipe", options->argv[0]);
	scoped_fd int status_read = status_pipe[0];
	scoped_fd int status_write = status_pipe[1];
	if (pipe2(gate_pipe, O_CLOEXEC) < 0)
		return error_errno(err, "spawn %s: pipe", options->argv[0]);
	scoped_fd int gate_read = gate_pipe[0];
	scoped_fd int gate_write = gate_pipe[1];

	child.status_fd = status_write;
	child.gate_fd = gate_read;
	child.gate_write_fd = gate_write;
	process.pid = clone_child(options->namespaces, &process.pidfd);
	if (process.pid < 0)
		return error_errno(err, "spawn %s: clone", options->argv[0]);
	if (process.pid == 0)
		child_main(&child);
	fcntl(process.pidfd, F_SETFD, FD_CLOEXEC);
	process.status_fd = take_fd(&status_read);
	close_fd(&status_write);
	if (options->gated)
		process.gate_fd = take_fd(&gate_write);
	else if (process_wait_exec(&process, err) < 0) {
		waitpid(process.pid, NULL, 0);
		process_close(&process);
		return error_wrap(err, "spawn %s", options->argv[0]);
	}
	// After its exec, unless it is gated: before, a strict /proc hides it if we are not
	// dumpable.
	result = process_start_time(process.pid, &process.start_time);
	if (result < 0) { // nobody could find it again
		kill(process.pid, SIGKILL);
		waitpid(process.pid, NULL, 0);
		process_close(&process);
		return error_code(err, result, "spawn %s: start time", options->argv[0]);
	}
	*ret_process = process;
	return 0;
}

int process_release(struct process *process, struct error *err)
{
	scoped_fd int gate = take_fd(&process->gate_fd);

	if (gate >= 0 && write(gate, "g", 1) != 1)
		return error_errno(err, "release process %d", process->pid);
	return 0;
}

int process_wait_exec(struct process *process, struct error *err)
{
	scoped_fd int status = take_fd(&process->status_fd);
	struct failure failure;
	ssize_t count;

	do
		count = read(status, &failure, sizeof(failure));
	while (count < 0 && errno == EINTR);
	if (count == 0)
		return 0;
	if (count != sizeof(failure))
		return error_set(err, EIO, "start process %d: no status", process->pid);
	failure.what[sizeof(failure.what) - 1] = '\0';
	return error_code(err, failure.code, "%s", failure.what);
}

void process_close(struct process *process)
{
	close_fd(&process->pidfd);
	close_fd(&process->gate_fd);
	close_fd(&process->status_fd);
	process->pid = -1;
}

// Keeps the last bytes that the child says, for the error message.
static void read_tail(int fd, char *tail, size_t size)
{
	size_t length = 0;
	ssize_t count;

	while (length < size - 1) {
		count = read(fd, tail + length, size - 1 - length);
		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
			break;
		length += (size_t)count;
		if (length == size - 1) {
			memmove(tail, tail + length / 2, length - length / 2);
			length -= length / 2;
		}
	}
	while (length > 0 && tail[length - 1] == '\n')
		length--;
	tail[length] = '\0';
}

int process_run(const char *const *argv, struct error *err)
{
	return process_run_with(argv, -1, err);
}

int process_run_with(const char *const *argv, int kept_fd, struct error *err)
{
	static const char *const envp[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL};
	scoped_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	scoped(process_close) struct process child = PROCESS_NONE;
	struct spawn_options options = {
		.argv = argv, .envp = envp, .netns_fd = -1, .die_with_parent = true};
	char tail[512];
	int output[2], status;

	if (null < 0 || pipe2(output, O_CLOEXEC) < 0)
		return error_errno(err, "run %s", argv[0]);
	scoped_fd int output_read = output[0];
	scoped_fd int output_write = output[1];
	const struct spawn_fd fds[] = {{null, 0}, {null, 1}, {output_write, 2}, {kept_fd, kept_fd}};

	options.fds = fds;
	options.fd_count = ARRAY_LENGTH(fds) - (kept_fd < 0);
	if (process_spawn(&options, &child, err) < 0)
		return -err->code;
	close_fd(&output_write);
	read_tail(output_read, tail, sizeof(tail));
	while (waitpid(child.pid, &status, 0) < 0)
		if (errno != EINTR)
			return error_errno(err, "wait for %s", argv[0]);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFSIGNALED(status))
		return error_set(err, EIO, "%s was ended by signal %d: %s", argv[0],
				 WTERMSIG(status), tail);
	return error_set(err, EIO, "%s exited with %d: %s", argv[0], WEXITSTATUS(status), tail);
}

int process_start_time(pid_t pid, uint64_t *ret_start_time)
{
	char path[64];
	scoped_free char *text = NULL;
	struct error ignored = {0};
	char *field, *end;
	int result;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	result = file_read(AT_FDCWD, path, 4096, &text, NULL, &ignored);
	if (result < 0) // only a missing file says that it is gone
		return result == -ENOENT ? -ESRCH : result;
	field = strrchr(text, ')'); // the command before it may hold anything
	for (int i = 2; field && i < 22; i++)
		field = strchr(field + 1, ' ');
	if (!field)
		return -ESRCH;
	end = strchr(field + 1, ' ');
	if (!end)
		return -ESRCH;
	*end = '\0';
	return parse_u64(field + 1, UINT64_MAX, ret_start_time) < 0 ? -ESRCH : 0;
}

int process_open(pid_t pid, uint64_t start_time)
{
	scoped_fd int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	uint64_t found;
	int result;

	if (fd < 0)
		return errno == EINVAL ? -ESRCH : -errno;
	// Asked after the pidfd was opened: the answer is about the process that it holds.
	result = process_start_time(pid, &found);
	if (result < 0)
		return result;
	return found == start_time ? take_fd(&fd) : -ESRCH;
}

int boot_id_read(char ret_id[BOOT_ID_SIZE], struct error *err)
{
	scoped_free char *text = NULL;
	size_t length;
	int result =
		file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &text, &length, err);

	if (result < 0)
		return result;
	if (length < BOOT_ID_SIZE - 1)
		return error_set(err, EIO, "boot id \"%s\" is too short", text);
	memcpy(ret_id, text, BOOT_ID_SIZE - 1);
	ret_id[BOOT_ID_SIZE - 1] = '\0';
	return 0;
}
