// SPDX-License-Identifier: Apache-2.0
// penstock-init: PID 1 of a microVM, or of a set of namespaces (netns driver). It brings
// up the network, fetches the manifest, mounts disk and volumes, runs the containers in dependency
// order, reports, and powers off.
//
// One thread, one poll loop (init.c). What may hang has a process of its own: each NFS mount,
// each health check, and of course each container. Everything else is non-blocking.
//
//     init_settings   words of the kernel command line or argv
//     init_boot       microVM: pseudo file systems, modules, a root that can be pivoted from
//     init_network    address, on-link gateway, permanent neighbour
//     init_mounts     ephemeral disk, images, overlays;  init_nfs: volumes of file servers
//     init_container  start of one container: pipes, clone, exec's result
//     init_rootfs     child: its mounts, pivot_root;  init_identity: user, capabilities
//     init_volumes    child: the first content of volumes;  init_copy: copies of directories
//     init_health     health checks
//     init_log        pipes of containers, bounded
//     init_memory     cgroups of a microVM's containers
//     init_agent      the three connections to the shim
//     init_task       which container may start or must stop
#pragma once

#include <limits.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <unistd.h>

#include "agent/base/arena.h"
#include "agent/base/error.h"
#include "agent/guest/http_client.h"
#include "agent/guest/protocol.h"

// ---------------------------------------------------------------- settings

struct init_settings {
	bool virtual_machine; // else the netns driver
	struct in_addr ip, gateway;
	uint8_t gateway_mac[6];
	uint32_t mtu;
	const char *disk;                     // netns: the disk image
	const char *images[GUEST_IMAGES_MAX]; // netns: unpacked images
};

// Unknown words are skipped (the kernel has its own); a known one with a bad value,
// or a missing one, is an error. `words` is kept.
int init_settings_parse(const char *const *words, struct init_settings *ret_settings,
			struct error *err);

// ---------------------------------------------------------------- machine

// Where init keeps its mounts: /mnt is there in a netns driver's host, too, and covered by
// a tmpfs in init's own mount namespace only.
#define INIT_BASE "/mnt"

// microVM: mounts /proc, /sys, /dev; loads boot.list; moves onto a tmpfs root.
int init_boot(struct error *err);
// Splits /proc/cmdline into words, in the arena.
int init_boot_words(struct arena *arena, const char ***ret_words, struct error *err);
// Loads nfs.list.
int init_boot_load_nfs(struct error *err);
// Forgets the modules that were not needed: they occupy memory.
void init_boot_drop_modules(void);

int init_network_configure(const struct init_settings *settings, struct error *err);

// ---------------------------------------------------------------- mounts

// netns driver: makes the mounts private, opens disk and images (the settings name them
// by descriptor then), covers INIT_BASE.
int init_mounts_prepare(struct init_settings *settings, struct arena *arena, struct error *err);
// Mounts the ephemeral disk at INIT_BASE/disk.
int init_mounts_disk(const struct init_settings *settings, struct error *err);
// Mounts image and overlay of one container at INIT_BASE/root/<index>, and writes its
// resolv.conf, hosts and hostname.
int init_mounts_container(const struct init_settings *settings,
			  const struct guest_manifest *manifest, uint32_t index, struct error *err);
// A directory volume: made on the disk. `ret_path` has PATH_MAX bytes.
void init_mounts_volume_path(const struct guest_manifest *manifest, uint32_t volume,
			     char *ret_path);
int init_mounts_volume(const struct guest_manifest *manifest, uint32_t volume, struct error *err);
// netns driver: unmounts overlays and disk; nothing uses them any more.
void init_mounts_close(const struct guest_manifest *manifest);
int init_mounts_usage(uint64_t *ret_size_bytes, uint64_t *ret_used_bytes);

// NFS volumes are mounted side by side, each by a process that is killed at its deadline.
struct volume_mount {
	pid_t pid;    // 0: no such volume, or done
	int error_fd; // the child's error text
	int64_t deadline_us;
};

int init_nfs_start(const struct init_settings *settings, const struct guest_volume *volume,
		   const char *target, struct volume_mount *ret_mount, struct error *err);
// The child has ended: 0, or its error.
int init_nfs_finish(struct volume_mount *mount, int wait_status, struct error *err);
// What a volume says that was not mounted by its deadline.
int init_nfs_overdue(const struct guest_volume *volume, struct error *err);
// Has what containers wrote sent to the servers; waits for them until the deadline, no longer.
void init_nfs_flush(const struct guest_manifest *manifest, int64_t deadline_us);
// Kills the child and forgets it: its end, whenever that comes, means nothing any more.
void init_nfs_abandon(struct volume_mount *mount);

// ---------------------------------------------------------------- logs

struct log_stream {
	int fd; // read end of the container's pipe, non-blocking; -1: closed
	char *data;
	size_t length, in_flight; // the first in_flight bytes are being sent
	uint64_t sequence;        // of the chunk in flight or the next one
};

void init_log_open(struct log_stream *stream, int fd);
bool init_log_has_room(const struct log_stream *stream);
void init_log_read(struct log_stream *stream);
// What to send now; marks it as in flight. Unsent bytes are repeated byte for byte.
size_t init_log_chunk(struct log_stream *stream);
void init_log_sent(struct log_stream *stream);

// ---------------------------------------------------------------- containers

struct health_run {
	pid_t pid;           // 0: none runs
	int64_t deadline_us; // of the running one
	int64_t next_us;     // of the next one
	uint32_t failures;   // in a row, outside the start period
};

enum container_phase {
	CONTAINER_WAITING,  // for dependencies
	CONTAINER_STARTING, // cloned, exec not yet seen
	CONTAINER_RUNNING,
	CONTAINER_STOPPED,
};

struct container {
	const struct guest_container *spec;
	enum container_phase phase;
	struct guest_container_status *status; // in the task's snapshot
	pid_t pid;
	int pidfd;
	int start_fd; // end-of-file: exec succeeded, or it was killed; text: why not
	int64_t started_us;
	int cgroup_fd;     // microVM: its directory, -1 before the start
	int64_t kill_us;   // SIGKILL then; 0: not asked to stop
	int64_t killed_us; // SIGKILL was sent; 0: not
	struct log_stream streams[2];
	struct health_run health;
};

// Clones the container's first process. Its result comes over start_fd.
int init_container_start(struct container *container, const struct guest_manifest *manifest,
			 uint32_t index, struct error *err);
// Asks for the end: its stop signal now, SIGKILL at stopTimeout.
void init_container_stop(struct container *container, int64_t now_us);
void init_container_kill(struct container *container, int64_t now_us);
// Takes what came over start_fd; -EAGAIN when nothing did, 0 when it runs, else the child's error
// (-ECANCELED when it was killed before).
int init_container_started(struct container *container, struct error *err);

enum {
	INIT_CHILD_FD = STDERR_FILENO + 1, // what a child keeps besides its standard ones
	INIT_CHILD_FAILED = 127,           // its exit status when it could not exec
};
// Child side: default signals, own session, stdin from /dev/null (and the others, when -1).
// `kept_fd` becomes INIT_CHILD_FD; all others are closed: names that an image chooses are looked up
// next, and none may lead through /proc/self/fd to what is init's.
void init_child_prepare(int stdout_fd, int stderr_fd, int kept_fd);
struct container_plan {
	const struct guest_container *spec;
	const struct guest_manifest *manifest;
	uint32_t index;
};
// Looks a path up in the root of a container, whose links cannot lead out of it. -1 and errno.
int init_rootfs_open(int root_fd, const char *path, uint64_t flags);
// Gives volumes that are empty yet the content, owner and mode of the image's directory in their
// place, where that is a VOLUME of the image. Nothing is mounted in the root yet.
int init_volumes_fill(int root_fd, const struct container_plan *plan, struct error *err);
// Copies what a directory holds, and its own owner, mode and times, into another one.
int init_copy_tree(int from_fd, int to_fd, struct error *err);
// Mounts what the container sees and makes it the root.
int init_rootfs_enter(const struct container_plan *plan, struct error *err);
// Takes packet sockets and other ways to the task's control from this process and its children.
int init_filter_install(struct error *err);
// Becomes the container's user with the default capabilities, in its working directory, and
// replaces the process by `arguments`: returns only on failure. Sets HOME from the passwd entry.
int init_identity_exec(const struct guest_container *spec, const char *const *arguments,
		       struct error *err);

// ---------------------------------------------------------------- memory

// The cgroup of all containers.
int init_memory_open(const struct init_settings *settings, struct error *err);
// The container's own, before it starts.
int init_memory_container(const struct init_settings *settings, struct container *container,
			  uint32_t index, struct error *err);
int init_memory_join(const struct container *container);      // child: enters it
bool init_memory_killed(const struct container *container);   // a process of it, for want of memory
uint64_t init_memory_used(const struct container *container); // bytes, without cold page cache

void init_health_begin(struct container *container, int64_t now_us);
// Starts a due check or kills one past its deadline.
void init_health_tick(struct container *container, int64_t now_us);
// A child ended: true when it was this container's check; the verdict is in *container->status.
bool init_health_reaped(struct container *container, pid_t pid, int wait_status, int64_t now_us);
int64_t init_health_next_us(const struct container *container);

// ---------------------------------------------------------------- the shim

enum { AGENT_CONTROL, AGENT_COMMANDS, AGENT_LOGS, AGENT_CONNECTIONS };

struct agent {
	struct http_client clients[AGENT_CONNECTIONS];
	int64_t retry_us[AGENT_CONNECTIONS];  // not before; 0: at once
	unsigned failures[AGENT_CONNECTIONS]; // in a row
	char token[GUEST_TOKEN_LENGTH + 1];
	uint64_t command_seen;
	uint32_t log_container; // of the chunk in flight
	enum guest_stream log_stream;
	uint32_t log_turn; // where the search for the next chunk begins
};

// Takes the session token and fetches the manifest; blocks (nothing runs yet), with retries
// until `deadline_us`.
int init_agent_connect(struct agent *agent, int64_t deadline_us, char **ret_manifest,
		       size_t *ret_length, struct error *err);

// ---------------------------------------------------------------- the task

struct task {
	struct init_settings settings;
	struct guest_manifest manifest;
	struct container containers[GUEST_CONTAINERS_MAX];
	struct volume_mount nfs[GUEST_VOLUMES_MAX];
	struct guest_status status;
	bool status_changed;
	bool volumes_ready;
	int64_t usage_us;    // when to look at disk and memory again
	int64_t stopping_us; // since when it is stopped; 0: it is not
};

// Begins the volumes and opens everything that does not wait.
int init_task_open(struct task *task, struct error *err);
// The task cannot start: ResourceInitializationError with the message.
void init_task_fail(struct task *task, const struct error *err);
// Starts, stops and times out what is due.
void init_task_tick(struct task *task, int64_t now_us);
void init_task_stop(struct task *task);
void init_task_reaped(struct task *task, pid_t pid, int wait_status, int64_t now_us);
bool init_task_ended(const struct task *task); // all containers ended, all their output read
// Looks at disk and memory when it is time.
void init_usage_tick(struct task *task, int64_t now_us);
// Until when file servers may be waited for at the end: within the time that a stop may take
// anyway.
int64_t init_task_flush_deadline_us(const struct task *task, int64_t now_us);
int64_t init_task_next_us(const struct task *task, int64_t now_us);

// Drives the connections: sends status, log chunks and polls for commands.
void init_agent_tick(struct agent *agent, struct task *task, int64_t now_us);
bool init_agent_idle(const struct agent *agent, const struct task *task); // nothing left to send
int64_t init_agent_next_us(const struct agent *agent);
