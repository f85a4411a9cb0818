// SPDX-License-Identifier: Apache-2.0
// The door of the task engine: it makes the objects of the store effective in the kernel,
// walks every task up and down the table of steps (steps.c), and takes up again, after a
// restart, what it finds. The only place that joins the modules.
//
// Nothing acts before its cause is committed. A turn of the loop:
//
//     event_base_loop(base, EVLOOP_ONCE);     // requests change the store
//     store_turn_commit(store, durable, err); // what clients were promised is on disk
//     engine_turn_committed(engine);          // or engine_turn_undone(): nothing happened
//     engine_turn(engine);                    // effects, and commits of what came of them
//
// engine_turn() goes round until nothing is ready: steps add to one nft batch per VPC, the
// batches are sent, their outcome makes steps ready again. Nothing in it waits.
//
// Ownership: the engine owns what it opened; texts it hands out live in the arena given.
// One thread. Errors: negative errno with a message for the API's client.
#pragma once

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/base/arena.h"
#include "agent/base/buffer.h"
#include "agent/base/error.h"
#include "agent/lb/lb.h"
#include "agent/model/config.h"
#include "agent/model/model.h"
#include "agent/model/stop.h"
#include "agent/store/store.h"
#include "metrics/metrics.h"

struct engine;

struct engine_options {
	const struct config *config; // borrowed
	struct event_base *base;
	struct store *store;
	struct metrics *metrics;
};

// Opens the modules and reads the store; engine_start() then makes everything effective.
int engine_open(const struct engine_options *options, struct engine **ret_engine,
		struct error *err);
// Networks first, then running cells are adopted and everything half-done goes on or back.
int engine_start(struct engine *engine, struct error *err);
// Leaves tasks running. NULL is fine.
void engine_close(struct engine *engine);

// True when it committed something: watchers have something to hear of.
bool engine_turn(struct engine *engine);
// What requests asked for in this turn is committed: it begins. Or rolled back: nothing of it was.
void engine_turn_committed(struct engine *engine);
void engine_turn_undone(struct engine *engine, const struct error *failure);

// --- Network objects (VPCs, subnets, groups, balancers, target groups, file systems) ---

// The parsed object as it is in the store now, or NULL. Valid until the object changes.
const struct model_object *engine_object(struct engine *engine, enum model_kind kind,
					 const char *id);
// Its spec was put into the store in this turn; takes effect in engine_turn(). What fails is said
// in its status and tried again from time to time.
void engine_object_changed(struct engine *engine, enum model_kind kind, const char *id);
// May it become `object` (NULL: be deleted) now? -EBUSY says why not. *ret_status is what to store
// with it (a balancer's address), or stays as it is.
int engine_object_check(struct engine *engine, enum model_kind kind, const char *id,
			const struct model_object *object, bool dry_run, struct arena *arena,
			const char **ret_status, struct error *err);

// --- Tasks ---

// What a task would get, or gets: chosen, admitted, not stored. -ENOSPC: no capacity, with numbers;
// -EAGAIN: all are being stopped, or the record of one cannot be read. The status lives in the
// arena.
int engine_task_plan(struct engine *engine, const struct model_object *object, struct arena *arena,
		     struct task_status *ret_status, struct error *err);
// The same, and takes it on: puts spec (the canonical text), status and references into the store
// (this turn), holds the identities. The walk begins in engine_turn().
int engine_task_create(struct engine *engine, const struct model_object *object, const char *spec,
		       struct error *err);
// Stops it; success when it is stopping or stopped. `drain_seconds` TASK_DRAIN_DEFAULT: the target
// groups'.
int engine_task_stop(struct engine *engine, const char *id, const struct task_stop_request *stop,
		     struct error *err);
// Forgets a stopped task with its logs (`dry_run`: only says whether it could). -EBUSY while it is
// not STOPPED.
int engine_task_delete(struct engine *engine, const char *id, bool dry_run, struct error *err);
// Stops all of them, for the shutdown with --stop-tasks, and takes no new ones. True once they are
// STOPPED and all that janitors had to remove is gone: then engine_leave() takes back what the
// install itself has on the host. Call it every turn.
bool engine_stop_all(struct engine *engine, const char *reason);
void engine_leave(struct engine *engine);

// Takes a cell back that the database has no record of, from the record beside it: the task is put
// into the store (this turn) and goes on as after a restart. `end`: it is stopped as by a stop
// call. -ENOENT: there is no such cell. -EEXIST: it cannot be taken back as things are; `missing`
// has the paths of the objects to be put first. 1 (`end` only): the cell has no record beside it
// and is killed; there is no task.
int engine_cell_adopt(struct engine *engine, const char *id, bool end, struct fault_list *missing,
		      struct error *err);
// A JSON array of those cells: {taskId, record: readable|missing|unreadable, missing: [paths]}.
void engine_unrecorded_render(struct engine *engine, struct buffer *out);

const struct task_status *engine_task_status(struct engine *engine, const char *id);
const struct task_spec *engine_task_spec(struct engine *engine, const char *id);
// logs/<container>.log of a task; see cell_log_open().
int engine_task_log_open(struct engine *engine, const char *id, const char *container, bool rotated,
			 int *ret_fd, struct error *err);

typedef int engine_task_fn(void *context, const char *id, const struct task_spec *spec,
			   const struct task_status *status);
void engine_tasks_each(struct engine *engine, engine_task_fn *function, void *context);

// --- What is ---

struct lb *engine_lb(struct engine *engine);

struct engine_capacity {
	uint32_t cpu_units, memory_mib, disk_gib; // to promise at all
	uint32_t cpu_units_promised, memory_mib_promised,
		disk_gib_promised; // VMM overhead included
	uint32_t log_mib_promised; // of that, rounded up: what logs may take
	uint32_t disk_gib_headroom;
	uint32_t tasks, uids_free;
};
struct engine_capacity engine_capacity(struct engine *engine);

struct engine_host {
	const char *install, *driver, *accelerator, *cgroup_mode, *kernel_release, *guest_kernel;
	const char *boot_id;
};
struct engine_host engine_host(struct engine *engine);
// False, and why, until everything found at the start was taken up, and while no new task is taken.
bool engine_is_ready(const struct engine *engine, struct error *err);

// Measures every task, ENI, subnet and target anew into the registry, a slice at each call: true
// when all is done. A slice takes about 1 ms, or some 10 µs for each ENI of one VPC.
bool engine_metrics_update(struct engine *engine);
