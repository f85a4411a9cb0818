// SPDX-License-Identifier: Apache-2.0
// penstock-shim TASK UID GID LOG_MAX_MIB ACCELERATOR: started by the agent with the descriptors of
// shim_paths.h; becomes the task's uid; lives until it is told to end or its cgroup is killed.
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "agent/base/clock.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/cell/shim.h"
#include "agent/cell/shim_root.h"

enum {
	SOURCES_MAX = 8 + SHIM_CONNECTIONS_MAX,
	AGENT_BACKLOG = 8,
	LOG_MIB_MAX = 1024 * 1024,
	ALLOCATION_UNIT = 32 * 1024, // what is larger goes back to the system when freed
};

// --- The loop ---

struct source {
	const int *place; // where the descriptor is kept: it may be gone when its turn comes
	void (*handle)(struct shim *shim, short revents);
	struct guest_connection *connection;
};

struct source_table {
	struct pollfd polled[SOURCES_MAX];
	struct source sources[SOURCES_MAX];
	nfds_t count;
};

static void add_source(struct source_table *table, const int *place, int events,
		       void (*handle)(struct shim *, short), struct guest_connection *connection)
{
	if (*place < 0)
		return;
	table->polled[table->count] = (struct pollfd){.fd = *place, .events = (short)events};
	table->sources[table->count] = (struct source){place, handle, connection};
	table->count++;
}

// The VMM's end comes last: what it sent before is taken first.
static void collect_sources(struct shim *shim, int64_t now_us, struct source_table *table)
{
	struct shim_agent *agent = &shim->agent;
	struct shim_vmm *vmm = &shim->vmm;

	table->count = 0;
	add_source(table, &agent->listener_fd, POLLIN, shim_agent_accept, NULL);
	add_source(table, &agent->channel_fd,
		   POLLIN | (shim_agent_is_due(shim, now_us) ? POLLOUT : 0), shim_agent_handle,
		   NULL);
	if (vmm->launch) // before there is no guest to speak, and the VMM must still be started
		add_source(table, &vmm->attached[VMM_ATTACH_LISTENER], POLLIN, shim_guest_accept,
			   NULL);
	for (size_t i = 0; i < SHIM_CONNECTIONS_MAX; i++) {
		struct guest_connection *connection = &shim->guest.connections[i];

		add_source(table, &connection->fd, guest_connection_events(connection), NULL,
			   connection);
	}
	add_source(table, &vmm->console_fd, POLLIN, shim_vmm_handle_console, NULL);
	add_source(table, &vmm->qmp_fd, POLLIN | (shim_vmm_has_qmp_output(shim) ? POLLOUT : 0),
		   shim_vmm_handle_qmp, NULL);
	add_source(table, &vmm->process.pidfd, POLLIN, shim_vmm_handle_exit, NULL);
}

static int64_t earlier(int64_t left_us, int64_t right_us)
{
	if (left_us == 0 || (right_us != 0 && right_us < left_us))
		return right_us;
	return left_us;
}

static int poll_timeout_ms(const struct shim *shim, int64_t now_us)
{
	int64_t deadline_us = earlier(shim->vmm.boot_deadline_us, shim->guest.silence_due_us);
	int64_t left_us;

	if (shim->agent.stale && !shim_agent_is_due(shim, now_us))
		deadline_us = earlier(deadline_us, shim->agent.due_us);
	for (size_t i = 0; i < SHIM_CONNECTIONS_MAX; i++)
		if (shim->guest.connections[i].fd >= 0)
			deadline_us = earlier(deadline_us, shim->guest.connections[i].deadline_us);
	if (deadline_us == 0)
		return -1;
	left_us = deadline_us - now_us;
	return left_us <= 0 ? 0 : (int)(left_us / 1000 + 1);
}

static void dispatch(struct shim *shim, const struct source_table *table)
{
	for (nfds_t i = 0; i < table->count && !shim->ended; i++) {
		const struct pollfd *polled = &table->polled[i];
		const struct source *source = &table->sources[i];

		if (polled->revents == 0 || *source->place != polled->fd)
			continue;
		if (source->connection)
			shim_guest_handle(shim, source->connection, polled->revents);
		else
			source->handle(shim, polled->revents);
	}
}

static void check_deadlines(struct shim *shim)
{
	int64_t now_us = clock_monotonic_us();

	shim_guest_deadlines(shim, now_us);
	if (shim->vmm.boot_deadline_us != 0 && shim->vmm.boot_deadline_us <= now_us)
		shim_vmm_boot_timeout(shim);
}

static void run(struct shim *shim)
{
	static struct source_table table;

	while (!shim->ended) {
		int64_t now_us;

		shim_agent_flush(shim);
		now_us = clock_monotonic_us();
		collect_sources(shim, now_us, &table);
		if (poll(table.polled, table.count, poll_timeout_ms(shim, now_us)) < 0)
			continue; // EINTR
		dispatch(shim, &table);
		check_deadlines(shim);
	}
}

// --- Starting ---

static int parse_arguments(struct shim *shim, int argc, char **argv)
{
	uint32_t uid, gid, log_max_mib;

	if (argc != 6 || !id_is_valid(argv[1]) || parse_u32(argv[2], UINT32_MAX - 1, &uid) < 0 ||
	    parse_u32(argv[3], UINT32_MAX - 1, &gid) < 0 ||
	    parse_u32(argv[4], LOG_MIB_MAX, &log_max_mib) < 0 || log_max_mib == 0)
		return -EINVAL;
	shim->task = argv[1];
	shim->log = (struct log_context){.task = argv[1]};
	shim->uid = uid;
	shim->gid = gid;
	shim->log_max_bytes = (uint64_t)log_max_mib << 20;
	shim->kvm = strcmp(argv[5], SHIM_ACCELERATOR_KVM) == 0;
	return 0;
}

// The descriptors came across exec, so they are not CLOEXEC yet.
static int keep_inherited(struct error *err)
{
	for (int fd = SHIM_FD_CHANNEL; fd <= SHIM_FD_CELL; fd++)
		if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
			return error_errno(err, "descriptor %d", fd);
	return 0;
}

static int open_directory(const char *name, int *ret_fd, struct error *err)
{
	*ret_fd = openat(SHIM_FD_CELL, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return *ret_fd < 0 ? error_errno(err, "open %s", name) : 0;
}

// Becomes the task's uid, for good, with an empty network and next to no files: the VMM it starts
// reaches nothing but what it is handed. uid 0 is the netns driver: its shim makes namespaces.
static int drop_identity(const struct shim *shim, struct error *err)
{
	if (shim->uid == 0)
		return 0;
	if (unshare(CLONE_NEWNET) < 0)
		return error_errno(err, "leave the host's network");
	if (shim_root_enter(shim->uid, shim->kvm, err) < 0)
		return -err->code;
	if (setgroups(0, NULL) < 0 || setresgid(shim->gid, shim->gid, shim->gid) < 0 ||
	    setresuid(shim->uid, shim->uid, shim->uid) < 0)
		return error_errno(err, "become %u:%u", shim->uid, shim->gid);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_errno(err, "set no_new_privs");
	return 0;
}

static int confine(const struct shim *shim, struct error *err)
{
	signal(SIGPIPE, SIG_IGN);
	// The two signals that the VMM's filter lets it send; abort() restores the default.
	signal(SIGABRT, SIG_IGN);
	signal(SIGUSR1, SIG_IGN);
	umask(0027);
	mallopt(M_MMAP_THRESHOLD, ALLOCATION_UNIT);
	mallopt(M_TRIM_THRESHOLD, ALLOCATION_UNIT);
	if (drop_identity(shim, err) < 0)
		return -err->code;
	// Other processes of this uid (the VMM is one) may not trace it or open its descriptors.
	if (prctl(PR_SET_DUMPABLE, 0) < 0)
		return error_errno(err, "set not dumpable");
	return 0;
}

static int open_shim(struct shim *shim, struct error *err)
{
	if (keep_inherited(err) < 0 || confine(shim, err) < 0 ||
	    open_directory(CELL_METADATA_DIRECTORY, &shim->metadata_fd, err) < 0 ||
	    open_directory(CELL_LOGS_DIRECTORY, &shim->logs_fd, err) < 0 ||
	    open_directory(CELL_SHIM_DIRECTORY, &shim->shim_fd, err) < 0)
		return -err->code;
	// Once more, as this process: see cell_shim.c.
	if (listen(SHIM_FD_LISTENER, AGENT_BACKLOG) < 0)
		return error_errno(err, "listen");
	shim->cell_fd = SHIM_FD_CELL;
	shim->agent = (struct shim_agent){
		.listener_fd = SHIM_FD_LISTENER, .channel_fd = SHIM_FD_CHANNEL, .stale = true};
	shim->status.magic = CELL_STATUS_MAGIC;
	shim->status.version = SHIM_PROTOCOL_VERSION;
	shim->status.revision = 1;
	shim_status_reserve(shim);
	shim->status.changed_at = clock_boot();
	shim_vmm_open(shim);
	shim_guest_open(shim);
	return 0;
}

int main(int argc, char **argv)
{
	static struct shim shim;
	struct error err = {0};

	log_open("penstock-shim", LOG_LEVEL_INFO, 0);
	if (parse_arguments(&shim, argc, argv) < 0) {
		log_error(NULL, "usage: penstock-shim TASK UID GID LOG_MAX_MIB ACCELERATOR "
				"(penstockd starts it)");
		return 2;
	}
	if (open_shim(&shim, &err) < 0) {
		log_error(&shim.log, "%s", err.message);
		return 1;
	}
	log_info(&shim.log, "shim started, pid %d", getpid());
	run(&shim);
	return 0; // the VMM dies with this process
}
