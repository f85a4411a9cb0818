// SPDX-License-Identifier: Apache-2.0
// What the files of the task engine share. Nobody else includes it.
//
//   engine.c    opens the modules, the turn, timers
//   objects.c   the parsed network objects of the store
//   effects.c   when they take effect, what became of it, what is tried again
//   hold.c      what of the network somebody else removed is made again; rules.c: of
//               rules
//   network.c   the effects of VPCs, subnets, groups; balancers.c: of balancers, target groups
//   guards.c    the lock of the install, the files of the database
//   vpc_namespace.c  finds a VPC's namespace by what lives in it, and keeps it pinned
//   record.c    a task's life as data: created, changed, recorded, finished
//   turn.c      stopped, forgotten; what a turn did to tasks until its commit
//   room.c      whether the disk takes more
//   admit.c     choosing identities, the ledger of promised capacity
//   steps.c     the table of steps; images.c, place.c (cell, disk), plumbing.c (eni, policy,
//               link) and launch.c (volumes, vmm, guest, targets) hold the steps themselves
//   cells.c     the connections to the shims: what they say, adoption
//   cell_record.c  the record beside a cell: written, read
//   unrecorded.c   cells without a record in the database: left alone, taken back, ended
//   reboot.c    tasks of an earlier boot; status_change.c: how often a guest's changes are recorded
//   measure.c   metrics; meter.c: metering
#pragma once

#include <event2/event.h>
#include <sys/queue.h>

#include "agent/base/damper.h"
#include "agent/cell/cell.h"
#include "agent/guest/image.h"
#include "agent/model/image_config.h"
#include "agent/task/janitor.h"
#include "agent/task/status_change.h"
#include "agent/task/task.h"
#include "agent/task/walk.h"
#include "agent/vmm/vmm.h"
#include "ephemeral/ephemeral.h"
#include "metrics/metering.h"
#include "netif/netif.h"
#include "sg/sg.h"

// --- Network objects ---

struct object {
	struct object *next;
	struct arena arena;
	struct model_object model;
	struct object_status status; // as stored
};

// What hears of changes that others make to nftables rules; see rules.c.
struct rules_watch {
	int fd;
	struct event *event, *timer;
	struct damper restoring, shutting;
	int64_t began_us;  // of the restoration that is not sent to its end yet, or 0
	int64_t logged_us; // when that was last written into the log
};

// What hears of changes to links, addresses, routes and neighbours; see hold.c.
struct hold {
	int fd;
	struct event *event, *timer;
	struct damper damper;
	// The look that is under way.
	struct netif_look *look;
	struct event *look_event;
	int64_t cost_us;
	bool again;      // something changed meanwhile
	bool unfinished; // there was more to repair than one look may
	// What the status of the VPC says is lost; NULL: nothing.
	char *reported;
	int64_t lost_us;         // when something was lost last, or 0
	int64_t report_until_us; // it stays until then
};

struct network_vpc {
	struct network_vpc *next;
	struct engine *engine;
	char id[NETIF_ID_SIZE];
	struct sg_vpc *sg;
	struct nft_batch *batch; // of this round; NULL: nothing to send
	struct error refused;    // the whole of it was
	struct task *sent;       // whose policy is in it
	int64_t sending_us;      // how long the kernel took for it
	struct reaper reaper;    // deletes retired ENIs
	struct rules_watch rules;
	struct hold hold;
	bool unpinned; // its namespace has no pin, and its status says so
};

struct network_subnet {
	struct network_subnet *next;
	char id[NETIF_ID_SIZE];
	char vpc_id[NETIF_ID_SIZE];
	struct ipv4_cidr block;
	struct ipam *ipam;
};

// An address that a load balancer has, or had until its deletion takes effect.
struct network_balancer {
	struct network_balancer *next;
	char id[NETIF_ID_SIZE];
	char vpc_id[NETIF_ID_SIZE], subnet_id[NETIF_ID_SIZE];
	uint32_t address;
};

struct changed_object {
	struct changed_object *next;
	enum model_kind kind;
	char id[NETIF_ID_SIZE];
};

// --- Tasks ---

enum policy_state { POLICY_IDLE, POLICY_SENT, POLICY_DONE };
enum meter_state { METER_IDLE, METER_APPENDED, METER_SYNCED };

struct task_image {
	struct image image;
	struct image_config config;
	char directory[PATH_MAX]; // netns driver: unpacked
};

// A stop that was asked for in this turn and not committed yet.
struct task_stop_asked {
	bool wanted;
	enum stop_code code;
	char reason[STOPPED_REASON_SIZE];
	uint32_t drain_seconds;
	struct boot_time time;
};

// What this turn did to a task; see turn.c.
struct task_turn {
	TAILQ_ENTRY(task) link;
	bool entered;
	bool created, taken_back, deleted;
	bool recorded; // its status was put
	struct task_stop_asked stop;
};

struct task {
	struct task *next;
	struct engine *engine;
	char id[NETIF_ID_SIZE];
	struct arena arena; // spec, and the chosen texts of the status
	const struct task_spec *spec;
	struct task_status status;
	const struct vmm_ops *vmm; // it stays with the driver that it began with
	struct walk walk;
	struct event *timer;
	int64_t created_us;              // monotonic: the zero of its timeline
	int64_t stop_us;                 // monotonic: when it was first asked to stop, 0: not
	struct boot_time retained_since; // of a STOPPED one

	TAILQ_ENTRY(task) ready_link, dirty_link, dying_link;
	bool ready;        // its walk is to be called in this turn
	bool dirty;        // the status has to be recorded
	bool dying;        // its cell was killed and is not empty yet
	bool after_commit; // ready as soon as the status is recorded
	struct task_turn turn;

	// The cell's shim, while connected.
	struct process shim;
	int channel_fd;
	struct event *channel_event;
	struct cell_status cell;
	struct status_change_limit change_limit;
	bool shim_gone;          // the connection ended: there is no more to come
	bool adopting;           // after a restart: waits for the shim's first word
	int64_t adopt_wake_us;   // connects again then; 0: it is connected
	int64_t adopt_report_us; // its silence is reported then
	int64_t adopt_kill_us;   // its cell is killed then; 0: the task is not to stop
	bool leased;             // its address is marked as its own in the subnet
	bool may_be_linked;      // its link was up, or may have been under a previous agent
	bool launched;           // the VMM was started, by this agent or an earlier one
	bool copied;             // the record beside the cell was written by this agent,
	enum task_state copied_last, copied_desired; // ... with these states
	bool stop_sent;
	int64_t guest_deadline_us; // of the guest's start or stop; 0: none

	struct task_image *images; // pinned, until the VMM has them
	unsigned image_count;
	unsigned image_of[TASK_CONTAINERS_MAX]; // container -> image
	int link_fd, listener_fd;               // until the shim has them
	enum policy_state policy;
	struct task *next_sent; // of those whose policy is in the batch of their VPC
	struct error policy_error;
	enum meter_state meter;
	struct task *next_metered; // of those whose record waits for the sync of this round
	struct error meter_error;  // of that sync
	uint32_t log_mib;          // of a STOPPED task: what its logs take
	bool janitor_running;
	struct error janitor_error;
};

TAILQ_HEAD(task_queue, task);

// A cell that may live and that no record of the database speaks of (unrecorded.c).
struct unrecorded_cell {
	struct unrecorded_cell *next;
	char id[NETIF_ID_SIZE];
	bool taken_back; // it has a record as of this turn
	bool ending;     // it was killed, without a record, on an operator's word
};

struct fault_plan { // PENSTOCK_FAULT, for tests: make one step fail, or the agent die or spin after
		    // it
	int step;   // enum task_step, -1: none
	enum walk_direction direction;
	bool die, spin;
};

// When an agent was here last, as far as its file says.
struct alive {
	int64_t wall_ms;            // 0: never
	char boot_id[BOOT_ID_SIZE]; // "": not known
	struct boot_time time;      // of that boot
};

// Whether the disk under the state directory takes more.
struct room {
	bool is_short;
	char why[ERROR_MESSAGE_MAX];
	bool unrecorded; // the store does not say so yet
	bool put;        // ... but will with the commit of this turn
};

struct engine {
	const struct config *config;
	struct event_base *base;
	struct store *store;
	struct metrics *metrics;
	struct metering *metering;
	struct netif *netif;
	struct ephemeral pool;
	struct lb *lb;
	struct cgroup_tree tree;
	struct janitors janitors;
	const struct vmm_ops *vmm;
	struct guest_bundle bundle;
	enum vmm_accelerator accelerator;
	uint32_t tsc_khz;
	char boot_id[BOOT_ID_SIZE];
	struct alive last_alive;
	struct fault_plan fault;
	struct engine_capacity capacity; // totals only
	bool stopping;                   // all tasks, for good
	char unreadable[NETIF_ID_SIZE];  // a task whose record is: nobody knows its address and uid

	struct object *objects[MODEL_KIND_COUNT];
	struct network_vpc *vpcs;
	struct network_subnet *subnets;
	struct network_balancer *balancers;
	struct changed_object *changed; // to be applied
	struct changed_object *applied; // to be settled once the batches of this round are sent
	struct changed_object *failed;  // to be tried again
	struct changed_object *said;    // their status was put in this turn

	struct task *tasks;
	// Where an update of the metrics goes on.
	struct task *task_to_measure;
	struct network_vpc *vpc_to_measure;
	struct task_queue ready_tasks, dirty_tasks, dying_tasks, turn_tasks;
	struct task *metered; // their records are to be synced in this round
	bool recorded;        // something was put into the store in this round
	struct room room;
	int64_t record_retry_us; // no record is tried before; 0: none failed
	struct event *record_timer;
	struct reaper disk_reaper, cell_reaper;
	struct unrecorded_cell *unrecorded;

	struct rules_watch host_rules;
	struct hold host_links; // without a look
	bool store_moved;       // the database's files are not the open ones, and that was logged
	int install_lock_fd;    // install_lock.h
	int cgroup_watch_fd;
	struct event *cgroup_event, *lb_event, *lb_timer, *sweep_timer;
};

// engine.c
void timer_arm(struct event *timer, int64_t wake_us); // monotonic; INT64_MAX: never
void task_arm_timer(struct task *task);
void engine_retire_cell(struct engine *engine,
			const char *id); // moves its directory out of the way
// -EAGAIN while a task runs, or may run, whose record is lost or cannot be read: which addresses,
// uids and objects are in use is not known then.
int engine_records_check(const struct engine *engine, struct error *err);
// Whether new tasks are taken: -EAGAIN says why not.
int engine_admits(const struct engine *engine, struct error *err);

// objects.c
int objects_load(struct engine *engine, struct error *err);
int object_refresh(struct engine *engine, enum model_kind kind, const char *id, struct error *err);
const struct object_status *object_status(struct engine *engine, enum model_kind kind,
					  const char *id); // NULL: there is no such object
// Stores (this turn) why the object is not effective, "" when it is; the same again is no change.
// False: that failed, say it again.
bool object_set_error(struct engine *engine, enum model_kind kind, const char *id,
		      const char *message);
void objects_free(struct engine *engine);

// effects.c
int effects_start(struct engine *engine, struct error *err);
void effects_apply(struct engine *engine);                // what changed
void effects_commit(struct engine *engine);               // sends the batches of this round
void effects_retry(struct engine *engine);                // what failed
void effects_of_vpc_again(struct network_vpc *vpc);       // what has rules in its tables
void effects_of_balancing_again(struct network_vpc *vpc); // its target groups, load balancers
// Deletes what no object owns. Nothing while there are unrecorded cells: it may be theirs.
int effects_sweep(struct engine *engine, struct error *err);
void effects_free(struct engine *engine);
// The object's status was put in this turn; and when that is committed, or rolled back.
void effects_said(struct engine *engine, enum model_kind kind, const char *id);
void effects_said_end(struct engine *engine, bool committed);

// network.c
int vpc_apply(struct engine *engine, const char *id, struct error *err);
int subnet_apply(struct engine *engine, const char *id, struct error *err);
int group_apply(struct engine *engine, const char *id, struct error *err);
void network_free(struct engine *engine);
struct network_vpc *network_vpc_find(struct engine *engine, const char *id);
struct network_subnet *network_subnet_find(struct engine *engine, const char *id);
// Leases a free address of the subnet; when there is none and `resting`, the longest rested.
int network_lease_address(struct engine *engine, const struct network_subnet *subnet, bool resting,
			  uint32_t *ret_address, struct error *err);
// It cools down, unless it was never on a link in this boot of the host.
void network_release_address(struct engine *engine, const char *subnet_id, uint32_t address,
			     bool used);
void network_record_lease(struct engine *engine, const char *subnet_id, uint32_t address);
struct nft_batch *network_batch(struct network_vpc *vpc);
void network_reap(struct network_vpc *vpc);   // deletes retired ENIs in a janitor, many at once
void network_reap_all(struct engine *engine); // now
// The time by which an address must have cooled down to be leased.
int64_t network_lease_ms(struct engine *engine, const struct network_subnet *subnet);
void network_keep_namespaces(struct engine *engine);
void network_retry(struct engine *engine); // what failed of that, and damaged tables
// A group or balancer leaves every VPC but `home` (NULL: every one): where a deleted one was, or
// one that was deleted and made anew, is not known any more.
typedef int policy_remove(struct sg_vpc *vpc, struct nft_batch *batch, const char *id,
			  struct error *err);
int network_remove_elsewhere(struct engine *engine, const struct network_vpc *home, const char *id,
			     policy_remove *remove, struct error *err);

// The attachment as it is configured, against what the kernel has.
int vpc_attachment_check(struct engine *engine, const char *vpc_id,
			 const struct vpc_attachment *spec, unsigned *ret_faults,
			 struct error *err);

// hold.c
int hold_vpc_open(struct network_vpc *vpc, struct error *err);
void hold_vpc_close(struct network_vpc *vpc);
int hold_host_open(struct engine *engine, struct error *err);
void hold_host_close(struct engine *engine);
void hold_look(struct network_vpc *vpc); // soon
void hold_sweep(struct engine *engine);  // at every VPC

// rules.c
int rules_watch_vpc(struct network_vpc *vpc, struct error *err);
int rules_watch_host(struct engine *engine, struct error *err);
void rules_watch_close(struct rules_watch *watch);
void rules_sent(struct network_vpc *vpc);  // the batch of this round
void rules_retry(struct network_vpc *vpc); // what is damaged
void rules_check_host(struct engine *engine);

// guards.c
void guards_check(struct engine *engine);

// vpc_namespace.c
// Before the VPC is opened: its namespace is the one that its tasks live in. Success as well when
// no task does: then it may be made. An error: it cannot be told, and none may be made.
int vpc_namespace_find(struct engine *engine, const char *vpc_id, struct error *err);
void vpc_namespace_keep(struct network_vpc *vpc); // now and then: pins it again

// balancers.c
int balancer_apply(struct engine *engine, const char *id, struct error *err);
int target_group_apply(struct engine *engine, const char *id, struct error *err);
bool is_balancer_of(const struct engine *engine, const char *vpc_id, const char *address);
void balancers_free(struct engine *engine);

// record.c
struct task *task_find(struct engine *engine, const char *id);
struct task *task_new(struct engine *engine, const char *id);
void task_free(struct task *task);
int tasks_load(struct engine *engine, struct error *err);
void task_ready(struct task *task); // call its walk in this turn
void task_changed(struct task *task);
void tasks_record(struct engine *engine); // puts every changed status into the store
void task_stop(struct task *task, enum stop_code code, const char *reason);
struct task *task_find_or_fail(struct engine *engine, const char *id, struct error *err); // -ENOENT
// Puts a status into the store, with the spec of a new task.
int task_put(struct task *task, const struct task_status *status, const char *spec,
	     struct error *err);
void status_stop(struct task_status *status, enum stop_code code, const char *reason);
void task_turn_down(struct task *task);
void task_advance(struct task *task);

// turn.c
void turn_enter(struct task *task); // this turn did something to it
void turn_leave(struct task *task);
void tasks_sweep(struct engine *engine); // forgets stopped tasks past their retention

// Gives a task whose spec and status are set its place in the store (this turn) and among the
// tasks.
int task_take_back(struct task *task, const char *spec, struct error *err);

// cell_record.c
// Writes the record beside the cell: before its shim runs.
int cell_record_put(struct task *task, struct error *err);
// The same when the task's state is another one than it says.
void cell_record_refresh(struct task *task);
// Fills in spec and status of a task from the record beside its cell; *ret_spec is the canonical
// text. -ENOENT: there is none. -EBADMSG: it cannot be read.
int cell_record_load(struct task *task, const char **ret_spec, struct error *err);
// A database that lost its last commits is behind the record beside the cell: then that one counts.
void cell_record_prefer(struct task *task);

// unrecorded.c
// Finds cells that no record speaks of: at the start, and once those found before are settled. When
// none of them may live, the dead ones are removed.
int unrecorded_find(struct engine *engine, struct error *err);
// A living cell is of a later task of the same id than the one that was loaded: then the cell is
// one without a record, and the task is not taken up.
bool unrecorded_replaces(struct task *task);
// -EAGAIN names the cells, if there are any.
int unrecorded_check(const struct engine *engine, struct error *err);
bool is_unrecorded(const struct engine *engine, const char *id);
void unrecorded_undone(struct engine *engine, const char *id); // its record was rolled back
void unrecorded_settle(struct engine *engine); // after a commit: takes up again what was taken back
void unrecorded_free(struct engine *engine);
// room.c
void room_start(struct engine *engine);
void room_check(struct engine *engine);                             // now and then
void room_lost(struct engine *engine, const struct error *failure); // a commit failed
void room_regained(struct engine *engine);                          // a commit succeeded
void room_record(struct engine *engine); // puts what is not said yet into the store
// -EDQUOT while there is no room for more, and why.
int room_admits(const struct engine *engine, struct error *err);

// admit.c
int task_admit(struct engine *engine, const struct model_object *object, struct arena *arena,
	       struct task_status *ret_status, struct error *err);
int task_adopt_identities(struct task *task, struct error *err);
void task_release_address(struct task *task);
void task_return_address(struct task *task); // which nobody got to use
void task_record_lease(struct task *task);   // the cool-down of its address
void task_vmm_request(const struct engine *engine, const struct task_spec *spec,
		      struct vmm_request *ret_request);

// measure.c
void task_expose_state(const struct task *task, enum task_state state); // which it is to have now
void task_observe_start(const struct task *task);                       // it is RUNNING
// It is STOPPED: how long after the request, or the failure that ended it.
void task_observe_stop(const struct task *task);

// steps.c
extern const struct walk_step task_steps[TASK_STEP_COUNT];
extern const struct walk_observer task_observer;
int fault_plan_read(struct fault_plan *ret_plan, struct error *err);

// images.c
int image_apply(void *object, struct error *err);
int image_undo(void *object, struct error *err);
void images_close(struct task *task);

// place.c
// Starts a janitor for the step that calls it. WALK_WAIT, or the error of the one before.
int task_wait_for_janitor(struct task *task, const char *argument, int kept_fd, janitor_work work,
			  struct error *err);
int cell_apply(void *object, struct error *err);
int cell_undo(void *object, struct error *err);
// Its containers run: from now on it is held to its share of CPU.
int cell_limit_cpu(struct task *task, struct error *err);
// What its cgroup is held to: the guest's memory and the overhead of VMM and shim.
uint64_t cell_memory_bytes(const struct task *task);
int cell_kill(struct task *task, struct error *err); // WALK_WAIT until the cell is empty
int disk_apply(void *object, struct error *err);
int disk_undo(void *object, struct error *err);

// plumbing.c
int eni_apply(void *object, struct error *err);
int eni_undo(void *object, struct error *err);
int eni_of(const struct task *task, struct netif_eni *ret_eni, struct error *err);
// Of a task whose link was set up: what is wrong with it (enum netif_eni_fault), now made again.
// When its interface is gone the task is stopped.
int eni_repair(struct task *task, unsigned *ret_faults, struct error *err);
int policy_apply(void *object, struct error *err);
int policy_undo(void *object, struct error *err);
bool task_is_of_vpc(const struct task *task, const struct network_vpc *vpc); // and not STOPPED
// All tasks of the VPC: the rules of others may be gone with its table. And those that wait for it.
void policy_again(struct network_vpc *vpc);
void policy_retry(struct network_vpc *vpc);
// Of a task that is being adopted, whose walk does not run: sets its member again if it is gone.
void policy_keep(struct task *task);
int link_apply(void *object, struct error *err);
int link_undo(void *object, struct error *err);

// launch.c
int volumes_apply(void *object, struct error *err);
int volumes_undo(void *object, struct error *err);
int vmm_apply(void *object, struct error *err);
int vmm_undo(void *object, struct error *err);
int guest_apply(void *object, struct error *err);
int guest_undo(void *object, struct error *err);
int targets_apply(void *object, struct error *err);
int targets_undo(void *object, struct error *err);
void task_note_execution_stopped(struct task *task); // now, or when its shim said; once

// manifest.c
int manifest_write(struct task *task, struct error *err);
// Containers read these at any time: they are written before the launch, and follow the record
// while the guest may live.
void metadata_write(struct task *task);
void metadata_refresh(struct task *task);

// meter.c
int meter_task(struct task *task, struct error *err); // WALK_WAIT until its record is synced
void meter_sync(struct engine *engine);               // those of this round
void meter_check(struct engine *engine);              // makes a directory that was removed again

// reboot.c
bool task_is_of_this_boot(const struct task *task);
void task_host_rebooted(struct task *task);
void alive_read(struct engine *engine); // when an agent was here last
void alive_touch(const struct engine *engine);

// cells.c
struct cell task_cell(const struct task *task);
int cell_connect(struct task *task, int channel_fd, struct error *err);
void cell_disconnect(struct task *task);
void cell_take_status(struct task *task, const struct cell_status *said);
void cell_adopt_task(struct task *task);  // after a restart
void cell_adopt_again(struct task *task); // does what is due while the shim has not spoken
int64_t cell_adopt_wake_us(const struct task *task);
void cell_sweep(struct task *task); // now and then: what was held back of what its shim said
// The guest is going or gone; and why a task that was up is to be stopped for it.
bool cell_has_ended(const struct task *task);
void cell_stop_ended(struct task *task);
