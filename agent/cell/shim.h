// SPDX-License-Identifier: Apache-2.0
// penstock-shim from the inside. One thread, one poll() over a table that is made
// anew each turn; each file below owns its part of `struct shim`:
//
//	shim_main.c    descriptors, the loop, the next deadline
//	shim_agent.c   the agent's connection: requests in, snapshots out, status on disk
//	shim_vmm.c     attached descriptors, the VMM, its console and QMP
//	shim_guest.c   the guest's connections: HTTP framing, deadlines
//	shim_routes.c  what each path answers
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/base/buffer.h"
#include "agent/base/log.h"
#include "agent/base/process.h"
#include "agent/cell/protocol.h"
#include "agent/cell/shim_log.h"
#include "agent/guest/http.h"
#include "agent/vmm/qmp.h"

enum {
	SHIM_CONNECTIONS_MAX = 16,
	SHIM_REQUEST_DEADLINE_US = 10 * 1000 * 1000, // to send a request, and to read its answer
	// A guest may change its mind as often as it likes; the agent hears of it so often. What
	// must not be lost goes at once: there is little of that in the life of a task.
	SHIM_SNAPSHOT_INTERVAL_US = 100 * 1000,
	SHIM_BOOTS_MAX = 2,
	SHIM_STREAMS = 2,
};

struct shim_agent {
	int listener_fd; // shim.sock
	int channel_fd;  // the one agent connection, -1: none
	bool stale;      // it has not got the latest snapshot yet
	int64_t due_us;  // it gets it not before
};

struct shim_vmm {
	struct process process;
	int attached[VMM_ATTACH_COUNT]; // -1: not attached
	int images[VMM_IMAGES_MAX];
	struct vmm_launch *launch; // kept for a second boot; NULL: not launched
	int console_fd;            // read end of its stdout and stderr
	struct log_file console;
	int qmp_fd;
	struct qmp qmp;
	int64_t boot_deadline_us; // 0: none
	bool boot_again;          // it was killed because its boot hung
	bool forbidden;           // stopped or killed: it is not started any more
};

enum guest_connection_state {
	CONNECTION_RECEIVING, // a request comes in, or the next one is waited for
	CONNECTION_WAITING,   // in a long poll for a command above `after`
	CONNECTION_ANSWERING, // `out` goes out
	CONNECTION_CLOSING,   // that was the last answer; what still comes is thrown away
};

struct guest_connection {
	int fd; // -1: free
	enum guest_connection_state state;
	struct http_reader reader;
	struct buffer out;
	size_t sent;
	bool keep_alive;    // after the answer
	bool authenticated; // has shown the token
	uint64_t after;
	int64_t deadline_us; // of this state; 0: none
};

struct shim_guest {
	bool session_taken;
	bool manifest_given; // the guest has gone on: it is not given again
	char token[GUEST_TOKEN_LENGTH + 1];
	int64_t heard_ms;       // wall clock: when it spoke last, with its token
	int64_t silence_due_us; // it is silent then; 0: it has no session, or is silent already
	struct guest_connection connections[SHIM_CONNECTIONS_MAX];
	// From the manifest, when the VMM is launched.
	uint32_t container_count;
	struct log_file logs[GUEST_CONTAINERS_MAX];
	uint64_t sequences[GUEST_CONTAINERS_MAX][SHIM_STREAMS];
};

struct shim {
	const char *task;
	struct log_context log;
	uid_t uid;
	gid_t gid;
	uint64_t log_max_bytes;
	bool kvm;                                   // the VMM may use it
	int cell_fd, metadata_fd, logs_fd, shim_fd; // directories
	bool ended;                                 // EXIT was asked for
	bool confined; // in the system call filter: no process can be started any more
	struct cell_status status;
	bool unsaved; // the disk has refused it
	struct shim_agent agent;
	struct shim_vmm vmm;
	struct shim_guest guest;
};

// --- shim_agent.c ---
void shim_agent_accept(struct shim *shim, short revents);
void shim_agent_handle(struct shim *shim, short revents);
// Saves it twice: from then on saving it again needs no room on the disk.
void shim_status_reserve(struct shim *shim);
// The status changed: the agent gets it when its socket takes it. Durable: at once, and it is saved
// before this returns (an exit on the disk, what else survives our own death), or shim->unsaved is
// set.
void shim_status_changed(struct shim *shim, bool durable);
// Sends the snapshot if the agent has not got it, it is due, and it takes it now.
void shim_agent_flush(struct shim *shim);
bool shim_agent_is_due(const struct shim *shim, int64_t now_us);
// Applies a checked request; the descriptors it keeps are set to -1 in `fds`.
void shim_request_apply(struct shim *shim, const struct shim_request *request, int *fds);

// --- shim_vmm.c ---
void shim_vmm_open(struct shim *shim);
void shim_vmm_attach(struct shim *shim, const struct shim_slot *slot, int fd);
void shim_vmm_launch(struct shim *shim, const struct vmm_launch *launch);
void shim_vmm_kill(struct shim *shim);
// Power button, or SIGTERM to penstock-init: stops a guest that its link does not reach, too.
void shim_vmm_stop(struct shim *shim);
void shim_vmm_boot_timeout(struct shim *shim);
void shim_vmm_fail(struct shim *shim, const struct error *err); // kill it; its failure is `err`
void shim_vmm_guest_spoke(struct shim *shim);                   // the boot is over
void shim_vmm_handle_exit(struct shim *shim, short revents);
void shim_vmm_handle_console(struct shim *shim, short revents);
void shim_vmm_handle_qmp(struct shim *shim, short revents);
bool shim_vmm_has_qmp_output(const struct shim *shim);

// --- shim_guest.c ---
void shim_guest_open(struct shim *shim);
// Before a boot: a new session, container names from the manifest.
int shim_guest_reset(struct shim *shim, struct error *err);
void shim_guest_accept(struct shim *shim, short revents);
void shim_guest_handle(struct shim *shim, struct guest_connection *connection, short revents);
void shim_guest_deadlines(struct shim *shim, int64_t now_us);
void shim_guest_heard(struct shim *shim);                     // it has shown the token
int64_t shim_guest_commands_wait_us(const struct shim *shim); // of a long poll
void shim_guest_wake(struct shim *shim);                      // commands have changed
void shim_guest_drop_all(struct shim *shim);
short guest_connection_events(const struct guest_connection *connection);

// --- shim_routes.c ---
// Answers one whole request, or leaves the connection waiting.
void shim_route(struct shim *shim, struct guest_connection *connection,
		const struct http_message *message);
// Answers a waiting connection: the commands above its number, or 204 when there are none.
void shim_route_commands(struct shim *shim, struct guest_connection *connection);
void guest_connection_answer(struct shim *shim, struct guest_connection *connection,
			     unsigned status, const char *content_type, const void *body,
			     size_t length);
