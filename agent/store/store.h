// SPDX-License-Identifier: Apache-2.0
// The store: the durable truth of one install, in one SQLite file (mode 0600).
//
// It holds text and numbers only: what a text means is agent/model's business. An
// object is (kind, id) with the spec its owner wrote and the status we report; every
// change moves one global revision and leaves an event, in the same transaction.
//
// Turns. Writes gather in one transaction per turn of the event loop:
//
//     store_turn_begin(store, &err);                  // idempotent, also done by each write
//     store_object_put(store, &change, &revision, &err);
//     store_turn_commit(store, durable, &err);        // durable: on the disk when it returns
//     ... only now act on the kernel and reply to the client ...
//
// `durable` is for turns that acknowledge something to a client (one fsync, ~0.15 ms
// on an SSD); other commits survive a crash of the agent but perhaps not of the host.
// When a commit fails, nothing of the turn happened. Reads see the turn's own writes.
//
// Ownership: returned texts live in the arena given by the caller. Calls block on the
// local disk only. Errors: -ENOENT (no such object), -EDQUOT (the disk is full; -ENOSPC is the
// engine's word for a host without capacity), -EIO (the database did not take or give it); of
// store_open also -EBUSY (another agent has the store), -EILSEQ (corrupt), -EPROTO (written by a
// newer penstock), -EROFS.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/arena.h"
#include "agent/base/error.h"

struct store;

struct store_options {
	const char *path;     // its directory must exist
	const char *boot_id;  // of the running kernel; NULL only when read_only
	uint64_t event_limit; // events kept; 0: 10,000
	bool read_only;       // for fsck, with or without a running agent
};

enum { STORE_EPOCH_SIZE = 17, STORE_EVENT_LIMIT_DEFAULT = 10000 };

// Creates the file or brings its schema up to date. One writer at a time.
int store_open(const struct store_options *options, struct store **ret_store, struct error *err);
// Rolls an open turn back. NULL is fine.
void store_close(struct store *store);
static inline void store_closep(struct store **store)
{
	store_close(*store);
}

int store_turn_begin(struct store *store, struct error *err);
// Success without an open turn. `durable` false may still be as good as durable. Every error but
// -EREMOTEIO has rolled the turn back; after that one the turn is committed, but perhaps not on the
// disk: no client may be told that nothing happened.
int store_turn_commit(struct store *store, bool durable, struct error *err);
// The turn cannot be acknowledged as it is: its commit will fail.
void store_turn_refuse(struct store *store);
void store_turn_rollback(struct store *store);

// Committed turns gather in a log, which has to be folded into the file now and then: some
// milliseconds, best spent when nobody waits (`idle`); a log that grew very long must not wait.
bool store_checkpoint_is_due(const struct store *store, bool idle);
// Inside a turn it does nothing.
int store_checkpoint(struct store *store, struct error *err);

// Holds room for the changes of what runs already, should the disk become full: free pages inside
// the file, and blocks of the log beyond its end. Tops both up; -EDQUOT when there is no room for
// that. Inside a turn it does nothing.
int store_reserve(struct store *store, struct error *err);
// While the disk is full the log is copied into the file early, so that it stays within its
// reserve.
void store_set_short(struct store *store, bool is_short);

// The revision of the newest change, the open turn's included.
uint64_t store_revision(const struct store *store);
// The newest revision whose event is gone: a watch may start at it or later.
uint64_t store_compacted_revision(const struct store *store);
// Names one unbroken history of revisions: changes when the store is new and when
// the host was rebooted (its last commits may be lost, their revisions used again).
const char *store_epoch(const struct store *store);

// -EAGAIN: the database, or a file that belongs to it, was moved, removed or replaced since it was
// opened. What is committed from then on is lost with the next start. Three stat(2).
int store_check_files(const struct store *store, struct error *err);

struct store_object {
	const char *kind, *id;
	uint64_t revision;
	uint64_t spec_revision;         // of the last change of its spec; not told with an event
	int64_t created_ms, changed_ms; // wall clock
	const char *spec;               // as given to store_object_put
	const char *status;             // NULL: none
};

// What is to stand from now on; `spec` or `status` NULL keeps what is there, a status "" takes it
// away.
struct store_change {
	const char *kind, *id;
	const char *spec;
	const char *status;
};

int store_object_get(struct store *store, const char *kind, const char *id, struct arena *arena,
		     struct store_object *ret_object, struct error *err);
// Creates or replaces it; `ret_revision` may be NULL.
int store_object_put(struct store *store, const struct store_change *change, uint64_t *ret_revision,
		     struct error *err);
// Takes its references with it. Success when it is already gone (no new revision then).
int store_object_delete(struct store *store, const char *kind, const char *id,
			uint64_t *ret_revision, struct error *err);

// Called for each object of the kind in the order of their ids; a negative return ends the
// walk and is returned. The object is valid during the call. Inside it: neither writes nor
// another walk of the same sort.
typedef int store_object_fn(const struct store_object *object, void *context);
int store_object_each(struct store *store, const char *kind, store_object_fn *function,
		      void *context, struct error *err);

// Who uses whom: what an object refers to, so that its users are found without reading all
// specs. A task gives its references up when it is STOPPED (count 0).
struct store_reference {
	const char *kind, *id;
};

int store_references_set(struct store *store, const char *kind, const char *id,
			 const struct store_reference *references, size_t count, struct error *err);

// The users of an object, by kind and id; same rules as above.
typedef int store_reference_fn(const struct store_reference *user, void *context);
int store_users_each(struct store *store, const char *kind, const char *id,
		     store_reference_fn *function, void *context, struct error *err);

struct store_event {
	uint64_t revision;
	int64_t time_ms;
	bool deleted;               // the object is gone; it is given as it last was
	struct store_object object; // as it was at that revision
};

// Events with revision > since, oldest first, at most `limit`; same rules as above.
// A positive return of the function ends the walk quietly.
typedef int store_event_fn(const struct store_event *event, void *context);
int store_event_each(struct store *store, uint64_t since, unsigned limit, store_event_fn *function,
		     void *context, struct error *err);

// Small values of other modules, by name.
int store_meta_get(struct store *store, const char *name, struct arena *arena,
		   const char **ret_value, struct error *err); // -ENOENT
int store_meta_set(struct store *store, const char *name, const char *value, struct error *err);

// Addresses that cool down after their ENI is gone, until `until_ms` of the boot's clock.
// A reboot of the host frees them all (store_open does it).
struct store_lease {
	const char *subnet, *address;
	int64_t until_ms;
};

typedef int store_lease_fn(const struct store_lease *lease, void *context);
int store_lease_put(struct store *store, const struct store_lease *lease, struct error *err);
int store_lease_each(struct store *store, store_lease_fn *function, void *context,
		     struct error *err);
int store_lease_expire(struct store *store, int64_t now_ms, struct error *err);
