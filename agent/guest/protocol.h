// SPDX-License-Identifier: Apache-2.0
// The language between penstock-init (in the guest) and penstock-shim (its host):
// HTTP paths, and the three line documents that travel in bodies. No JSON: both
// sides read these with the one bounded decoder here. Everything is pure.
//
// Requests of the guest, all to 169.254.170.2:80 on its own link:
//
//   POST /penstock/v1/session     200, body: the token; 403 when it was taken already
//   GET  /penstock/v1/manifest    200, body: a manifest document; 403 once the guest has
//                                 sent any of the requests below: containers may run then
//   GET  /penstock/v1/commands?after=N
//                                 200, body: a commands document with every command numbered
//                                 above N; 204 when none came within 25 s, or
//                                 earlier: the guest asks again, and so shows that it lives
//   POST /penstock/v1/status      204, body: a status document (a full snapshot)
//   POST /penstock/v1/logs?container=I&stream=stdout|stderr&sequence=N
//                                 204, body: raw bytes
//   GET  /v4/<container-id>       the ECS metadata endpoint, open to containers
//   GET  /v4/<container-id>/task
//
// All but session and /v4 carry `Authorization: Bearer <token>`. Log chunks are numbered
// from 1 for each container and stream; a chunk whose number was seen already is
// answered 204 and dropped (the guest repeats what it got no answer for, byte for byte).
//
// A document is lines of fields separated by one space. The first line is its name and
// version, the last is `end`. A line is a keyword and `name=value` fields, each at most
// once, in any order. In values every byte outside 0x21–0x7e, and `%`, is written `%XX`.
// Numbers are decimal, flags 0 or 1. Unknown keywords and fields are errors: both sides
// come from one build.
//
//     penstock-manifest 1
//     task id=t-42 hostname=ip-10-0-1-5 domain=
//     nameserver address=10.0.0.2
//     volume name=data kind=directory
//     volume name=shared kind=nfs server=10.0.9.2 port=2049 path=/fs-1/app deadline-ms=30000
//     container name=web id=0f3c image=0 essential=1 user= directory=/ ...
//     argument value=httpd                     (belongs to the container above, as the next ones)
//     environment value=LANG%20=C
//     mount volume=0 path=/data read-only=0 copy-image=0
//     dependency container=1 condition=HEALTHY
//     health interval=30 timeout=5 retries=3 start-period=0      (with health-argument lines)
//     end
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/arena.h"
#include "agent/base/buffer.h"
#include "agent/base/error.h"

#define GUEST_HOST          "169.254.170.2"
#define GUEST_PATH_SESSION  "/penstock/v1/session"
#define GUEST_PATH_MANIFEST "/penstock/v1/manifest"
#define GUEST_PATH_COMMANDS "/penstock/v1/commands"
#define GUEST_PATH_STATUS   "/penstock/v1/status"
#define GUEST_PATH_LOGS     "/penstock/v1/logs"
#define GUEST_PATH_METADATA "/v4/"

// Serial numbers of the guest's disks (QEMU cuts them to 20 characters).
#define GUEST_SERIAL_EPHEMERAL "penstock-ephemeral"
#define GUEST_SERIAL_IMAGE     "penstock-image-" // and the image's index, from 0

enum {
	GUEST_PORT = 80,
	GUEST_TOKEN_LENGTH = 32, // characters of the session token, lower-case hex
	GUEST_COMMANDS_WAIT_S = 25,

	GUEST_CONTAINERS_MAX = 10,
	GUEST_IMAGES_MAX = 10,
	GUEST_VOLUMES_MAX = 20,
	GUEST_NAMESERVERS_MAX = 3,
	GUEST_ARGUMENTS_MAX = 256,   // per container, and per health check
	GUEST_ENVIRONMENT_MAX = 512, // per container
	GUEST_MOUNTS_MAX = 20,       // per container
	GUEST_COMMANDS_MAX = 16,     // in one document

	GUEST_MANIFEST_MAX = 1024 * 1024, // bytes of the whole document
	GUEST_STATUS_MAX = 16 * 1024,
	GUEST_COMMANDS_BYTES_MAX = 4 * 1024,
	GUEST_LOG_CHUNK_MAX = 32 * 1024,
	GUEST_REASON_MAX = 256,               // with the NUL: a container's reason
	GUEST_FAILURE_MAX = 512,              // with the NUL: why the task cannot start
	GUEST_BODY_MAX = GUEST_LOG_CHUNK_MAX, // the largest body a guest may send
};

// ---------------------------------------------------------------- manifest: shim -> guest

enum guest_volume_kind {
	GUEST_VOLUME_DIRECTORY, // a directory of the ephemeral disk
	GUEST_VOLUME_NFS,       // NFS 4.1, mounted by the guest's kernel
};

struct guest_volume {
	const char *name;
	enum guest_volume_kind kind;
	const char *server;   // NFS: IPv4 address of the mount target
	uint32_t port;        // NFS
	const char *path;     // NFS: absolute, on the server
	uint32_t deadline_ms; // NFS: a mount not done by then fails the task
};

enum guest_condition {
	GUEST_CONDITION_START,
	GUEST_CONDITION_COMPLETE,
	GUEST_CONDITION_SUCCESS,
	GUEST_CONDITION_HEALTHY,
};

struct guest_dependency {
	uint32_t container; // index
	enum guest_condition condition;
};

struct guest_mount {
	uint32_t volume;  // index
	const char *path; // in the container, absolute
	bool read_only;
	bool copy_image; // an empty volume gets what the image has there (its VOLUME)
};

struct guest_health_check {
	const char **arguments;  // final argv: CMD-SHELL is {"/bin/sh", "-c", ...} already
	uint32_t argument_count; // 0: no health check
	uint32_t interval_s, timeout_s, retries, start_period_s;
};

// Strings are never NULL; absent is "".
struct guest_container {
	const char *name;
	const char *id; // as in the metadata URI
	uint32_t image; // index of the image's block device or directory
	bool essential;
	const char *user;      // "", "1000", "1000:1000", "nobody", "nobody:nogroup"
	const char *directory; // working directory, "" is "/"
	bool read_only_root;
	uint32_t start_timeout_s, stop_timeout_s;
	uint32_t stop_signal;
	uint32_t memory_mib;    // hard limit, 0: the task's alone
	const char **arguments; // entry point and command, merged with the image's
	uint32_t argument_count;
	const char **environment; // "NAME=value", merged with the image's
	uint32_t environment_count;
	struct guest_mount mounts[GUEST_MOUNTS_MAX];
	uint32_t mount_count;
	struct guest_dependency dependencies[GUEST_CONTAINERS_MAX];
	uint32_t dependency_count;
	struct guest_health_check health;
};

struct guest_manifest {
	const char *task_id;
	const char *hostname;
	const char *domain; // search domain of resolv.conf, "" for none
	const char *nameservers[GUEST_NAMESERVERS_MAX];
	uint32_t nameserver_count;
	struct guest_volume volumes[GUEST_VOLUMES_MAX];
	uint32_t volume_count;
	struct guest_container containers[GUEST_CONTAINERS_MAX];
	uint32_t container_count;
};

// Appends the document. -E2BIG when a count or the size passes its limit.
int guest_manifest_encode(const struct guest_manifest *manifest, struct buffer *document,
			  struct error *err);
// Reads it; everything found lives in `arena`. -EBADMSG with the line number in the
// message; indexes and counts are within their limits afterwards.
int guest_manifest_decode(const char *document, size_t length, struct arena *arena,
			  struct guest_manifest *ret_manifest, struct error *err);

// ---------------------------------------------------------------- status: guest -> shim

enum guest_phase {
	GUEST_PHASE_CONNECTED, // has the token; fetching, mounting
	GUEST_PHASE_RUNNING,   // every container was started (or has ended already)
	GUEST_PHASE_STOPPING,
	GUEST_PHASE_ENDED, // every container has ended; power off comes next
};

enum guest_container_state {
	GUEST_CONTAINER_PENDING, // waits for its dependencies
	GUEST_CONTAINER_RUNNING,
	GUEST_CONTAINER_STOPPED,
};

enum guest_health {
	GUEST_HEALTH_UNKNOWN, // no health check, or no result yet
	GUEST_HEALTH_HEALTHY,
	GUEST_HEALTH_UNHEALTHY,
};

enum { GUEST_EXIT_NONE = -1 }; // the container has not run

struct guest_container_status {
	enum guest_container_state state;
	enum guest_health health;
	int32_t exit_code;               // 0–255, 128 + signal, or GUEST_EXIT_NONE
	int64_t started_ms, finished_ms; // wall clock of the guest, 0: not yet
	uint64_t memory_bytes;           // in use, without cold page cache; 0: not known
	char reason[GUEST_REASON_MAX];   // "" or "CannotStartContainerError: ..."
};

// Plain values of fixed size: no allocation on either side.
struct guest_status {
	enum guest_phase phase;
	uint64_t disk_size_bytes, disk_used_bytes; // of the ephemeral disk, 0: not known yet
	char failure[GUEST_FAILURE_MAX];           // "" or "ResourceInitializationError: ..."
	uint32_t container_count;
	struct guest_container_status containers[GUEST_CONTAINERS_MAX];
};

int guest_status_encode(const struct guest_status *status, struct buffer *document,
			struct error *err);
// Texts of a decoded status are printable ASCII, whatever the guest wrote.
int guest_status_decode(const char *document, size_t length, struct guest_status *ret_status,
			struct error *err);

// ---------------------------------------------------------------- commands: shim -> guest

enum guest_verb {
	GUEST_VERB_STOP, // stop every container in order, then power off
};

struct guest_command {
	uint64_t number; // from 1, rising
	enum guest_verb verb;
};

struct guest_commands {
	uint32_t count;
	struct guest_command commands[GUEST_COMMANDS_MAX];
};

int guest_commands_encode(const struct guest_commands *commands, struct buffer *document,
			  struct error *err);
int guest_commands_decode(const char *document, size_t length, struct guest_commands *ret_commands,
			  struct error *err);

// ---------------------------------------------------------------- requests

enum guest_stream { GUEST_STREAM_STDOUT, GUEST_STREAM_STDERR };

// The query of a logs request, "container=I&stream=stdout&sequence=N"; -EINVAL otherwise.
struct guest_log_query {
	uint32_t container;
	enum guest_stream stream;
	uint64_t sequence;
};

int guest_log_query_decode(const char *query, struct guest_log_query *ret_query);
// "after=N"; an empty query is 0. -EINVAL otherwise.
int guest_commands_query_decode(const char *query, uint64_t *ret_after);

// Words for people and for the documents; never NULL.
const char *guest_phase_name(enum guest_phase phase);
const char *guest_container_state_name(enum guest_container_state state);
const char *guest_health_name(enum guest_health health);
