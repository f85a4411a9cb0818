// SPDX-License-Identifier: Apache-2.0
// The agent's side of the shim: starting it, finding it again, talking to it.
//
// Theory of operation. The agent makes both sockets: a pair whose one end the shim is born with
// (requests wait in it until the shim runs), and shim.sock, so that it stands in a directory that
// only root writes. The shim calls listen() once more on it: the kernel takes SO_PEERCRED of a
// listener's connections from the last listen(), and so names the shim to an agent that adopts it.
// The shim is executed as root and becomes the task's uid itself: its program may lie where that
// uid cannot look, and a process that changed its uid is never traceable by it, not even at first.
//
// Shim and VMM share the uid. Only the VMM's system call filter keeps a taken-over VMM from
// signalling its shim (agent/base/sandbox_rules.h), and it sees no path to the status file. Without
// both walls it would win nothing that a hostile guest does not have anyway: a killed shim is the
// end of the cell (end of file on the channel; the VMM dies with it, or with the cgroup), a stopped
// one is found at the deadlines of stopping and of adoption, and what the file says is checked as
// any snapshot is.
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/base/message.h"
#include "agent/base/scope.h"
#include "agent/cell/cell.h"
#include "agent/cell/cgroup_path.h"
#include "agent/cell/shim_paths.h"

#define SHIM_LOG_PATH CELL_SHIM_DIRECTORY "/" CELL_SHIM_LOG
#define STATUS_PATH   CELL_SHIM_DIRECTORY "/" CELL_STATUS_FILE

struct shim_files {
	int null, log, channel, listener, cell;
};

static void close_files(struct shim_files *files)
{
	int *fds[] = {&files->null, &files->log, &files->channel, &files->listener, &files->cell};

	for (size_t i = 0; i < ARRAY_LENGTH(fds); i++)
		close_fd(fds[i]);
}

// What an earlier shim of the same cell left: its status is no more true, its log is kept.
static int clear_old(int cell_fd, struct error *err)
{
	if (unlinkat(cell_fd, STATUS_PATH, 0) < 0 && errno != ENOENT)
		return error_errno(err, "remove old " STATUS_PATH);
	if (renameat(cell_fd, SHIM_LOG_PATH, cell_fd, SHIM_LOG_PATH ".1") < 0 && errno != ENOENT)
		return error_errno(err, "rename old " SHIM_LOG_PATH);
	return 0;
}

// O_EXCL: the task's uid writes in that directory; root gives away nothing but what it just made.
static int open_log(const struct cell *cell, int cell_fd, int *ret_fd, struct error *err)
{
	scoped_fd int fd = openat(cell_fd, SHIM_LOG_PATH,
				  O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC, 0640);

	if (fd < 0 || fchown(fd, cell->uid, cell->gid) < 0)
		return error_errno(err, "create " SHIM_LOG_PATH);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int open_files(const struct cell *cell, struct shim_files *files, int *ret_channel_fd,
		      struct error *err)
{
	int pair[2];

	files->null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (files->null < 0)
		return error_errno(err, "open /dev/null");
	if (cell_directory_open(cell, &files->cell, err) < 0 || clear_old(files->cell, err) < 0 ||
	    open_log(cell, files->cell, &files->log, err) < 0 ||
	    message_listen(files->cell, CELL_SOCKET_FILE, &files->listener, err) < 0)
		return -err->code;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return error_errno(err, "create the shim's channel");
	files->channel = pair[0];
	*ret_channel_fd = pair[1];
	return 0;
}

struct shim_arguments {
	char uid[16], gid[16], log_max_mib[16];
	const char *argv[7];
};

static void fill_arguments(const struct cell *cell, const struct cell_shim_options *options,
			   struct shim_arguments *arguments)
{
	snprintf(arguments->uid, sizeof(arguments->uid), "%u", cell->uid);
	snprintf(arguments->gid, sizeof(arguments->gid), "%u", cell->gid);
	snprintf(arguments->log_max_mib, sizeof(arguments->log_max_mib), "%u",
		 options->log_max_mib);
	const char *const argv[] = {options->shim_path,
				    cell->task,
				    arguments->uid,
				    arguments->gid,
				    arguments->log_max_mib,
				    options->kvm ? SHIM_ACCELERATOR_KVM : SHIM_ACCELERATOR_TCG,
				    NULL};

	memcpy(arguments->argv, argv, sizeof(argv));
}

int cell_shim_spawn(const struct cell *cell, const struct cell_shim_options *options,
		    struct process *ret_shim, int *ret_channel_fd, struct error *err)
{
	scoped(close_files) struct shim_files files = {-1, -1, -1, -1, -1};
	scoped(arena_release) struct arena arena = {0};
	struct shim_arguments arguments;
	scoped_fd int channel_fd = -1;

	if (open_files(cell, &files, &channel_fd, err) < 0)
		return error_wrap(err, "start shim");
	fill_arguments(cell, options, &arguments);
	const struct spawn_fd fds[] = {{files.null, 0},
				       {files.null, 1},
				       {files.log, 2},
				       {files.channel, SHIM_FD_CHANNEL},
				       {files.listener, SHIM_FD_LISTENER},
				       {files.cell, SHIM_FD_CELL}};
	struct spawn_options spawn = {
		.argv = arguments.argv,
		.fds = fds,
		.fd_count = ARRAY_LENGTH(fds),
		.cgroup_procs = cgroup_procs_files(cell->tree, cell->task, &arena),
		.netns_fd = -1,
		.gated = true,
	};

	if (process_spawn(&spawn, ret_shim, err) < 0)
		return error_wrap(err, "start shim");
	*ret_channel_fd = take_fd(&channel_fd);
	return 0;
}

// --- Adoption ---

static int check_membership(const struct cell *cell, pid_t pid, struct error *err)
{
	bool member = false;

	if (!cgroup_main_root(cell->tree))
		return 0;
	if (cgroup_has_pid(cell->tree, cell->task, pid, &member, err) < 0)
		return -err->code;
	if (!member)
		return error_set(err, ESRCH, "process %d is not in the cgroup", pid);
	return 0;
}

static int connect_to_shim(const struct cell *cell, pid_t pid, int *ret_fd, struct error *err)
{
	scoped_fd int cell_fd = -1, fd = -1;
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (cell_directory_open(cell, &cell_fd, err) < 0 ||
	    message_connect(cell_fd, CELL_SOCKET_FILE, &fd, err) < 0)
		return -err->code;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return error_errno(err, "ask who listens");
	if (peer.pid != pid) // still the agent that made the socket
		return error_set(err, EAGAIN, "the shim %d does not listen yet", pid);
	if (peer.uid != cell->uid)
		return error_set(err, EPERM, "the shim runs as uid %u, expected %u", peer.uid,
				 cell->uid);
	*ret_fd = take_fd(&fd);
	return 0;
}

int cell_adopt(const struct cell *cell, pid_t pid, uint64_t start_time, struct process *ret_shim,
	       int *ret_channel_fd, struct error *err)
{
	scoped_fd int pidfd = process_open(pid, start_time);
	int result;

	if (pidfd < 0)
		return error_code(err, pidfd, "adopt %s: shim %d", cell->task, pid);
	if (check_membership(cell, pid, err) < 0)
		return error_wrap(err, "adopt %s", cell->task);
	result = connect_to_shim(cell, pid, ret_channel_fd, err);
	if (result == -ECONNREFUSED) // the shim ended between the two questions
		return error_set(err, ESRCH, "adopt %s: shim %d does not listen", cell->task, pid);
	if (result < 0)
		return error_wrap(err, "adopt %s", cell->task);
	*ret_shim = PROCESS_NONE;
	ret_shim->pid = pid;
	ret_shim->start_time = start_time;
	ret_shim->pidfd = take_fd(&pidfd);
	return 0;
}

// --- Messages ---

static int send_request(int channel_fd, struct shim_request *request, const int *fds,
			size_t fd_count, struct error *err)
{
	request->version = SHIM_PROTOCOL_VERSION;
	if (message_send(channel_fd, request, sizeof(*request), fds, fd_count, err) < 0)
		return error_wrap(err, "shim");
	return 0;
}

static int send_plain(int channel_fd, enum shim_request_kind kind, struct error *err)
{
	struct shim_request request = {.kind = kind};

	return send_request(channel_fd, &request, NULL, 0, err);
}

int shim_attach(int channel_fd, const struct shim_slot *slots, const int *fds, size_t count,
		struct error *err)
{
	for (size_t done = 0; done < count;) {
		struct shim_request request = {.kind = SHIM_ATTACH};
		size_t part = count - done;

		if (part > MESSAGE_FDS_MAX)
			part = MESSAGE_FDS_MAX;
		request.attach.count = (uint32_t)part;
		memcpy(request.attach.slots, slots + done, part * sizeof(*slots));
		if (send_request(channel_fd, &request, fds + done, part, err) < 0)
			return -err->code;
		done += part;
	}
	return 0;
}

int shim_launch(int channel_fd, const struct vmm_launch *launch, struct error *err)
{
	struct shim_request request = {.kind = SHIM_LAUNCH};

	request.launch = *launch;
	return send_request(channel_fd, &request, NULL, 0, err);
}

int shim_stop(int channel_fd, struct error *err)
{
	return send_plain(channel_fd, SHIM_STOP, err);
}

int shim_kill(int channel_fd, struct error *err)
{
	return send_plain(channel_fd, SHIM_KILL, err);
}

int shim_exit(int channel_fd, struct error *err)
{
	return send_plain(channel_fd, SHIM_EXIT, err);
}

int cell_status_receive(int channel_fd, struct cell_status *ret_status, struct error *err)
{
	struct cell_status status;
	int result = message_receive(channel_fd, &status, sizeof(status), NULL, 0, err);

	if (result == -ECONNRESET) { // it ended with requests of ours unread
		error_clear(err);
		return 0;
	}
	if (result <= 0)
		return result;
	if (cell_status_check(&status, err) < 0)
		return -err->code;
	*ret_status = status;
	return 1;
}
