// SPDX-License-Identifier: Apache-2.0
// What the files of the store share: the connection, its prepared statements, and
// the few calls that turn SQLite's answers into ours.
#pragma once

#include <sqlite3.h>
#include <sys/types.h>

#include "agent/store/store.h"

enum store_statement {
	STATEMENT_BEGIN,
	STATEMENT_COMMIT,
	STATEMENT_ROLLBACK,
	STATEMENT_OBJECT_GET,
	STATEMENT_OBJECT_PLACE,
	STATEMENT_OBJECT_PUT,
	STATEMENT_OBJECT_DELETE,
	STATEMENT_OBJECT_EACH,
	STATEMENT_SPEC_PUT,
	STATEMENT_SPEC_DROP,
	STATEMENT_EVENT_PUT,
	STATEMENT_EVENT_EACH,
	STATEMENT_EVENT_COMPACT,
	STATEMENT_EVENT_RANGE,
	STATEMENT_REFERENCE_PUT,
	STATEMENT_REFERENCE_DROP,
	STATEMENT_REFERENCE_USERS,
	STATEMENT_META_GET,
	STATEMENT_META_SET,
	STATEMENT_RESERVE_COUNT,
	STATEMENT_RESERVE_PUT,
	STATEMENT_RESERVE_DROP,
	STATEMENT_LEASE_PUT,
	STATEMENT_LEASE_EACH,
	STATEMENT_LEASE_EXPIRE,
	STATEMENT_LEASE_CLEAR,
	STATEMENT_COUNT,
};

// The database, its write-ahead log, the log's index in shared memory.
enum { STORE_FILE_COUNT = 3 };

struct store_file_id {
	dev_t device;
	ino_t inode; // 0: there is no such file
};

struct store {
	char *path;
	struct store_file_id files[STORE_FILE_COUNT]; // as they were opened
	sqlite3 *database;
	sqlite3_stmt *statements[STATEMENT_COUNT];
	int lock_fd;
	bool read_only;
	bool is_open; // store_open() is done
	bool turn_open;
	struct error turn_error; // why this turn can only be rolled back; code 0: it can go on
	int log_pages;           // in the write-ahead log, as of the last commit
	bool is_short;           // of room: the log must stay within its reserve
	uint64_t event_limit;
	uint64_t revision, turn_start_revision;
	uint64_t compacted, turn_start_compacted;
	char epoch[STORE_EPOCH_SIZE];
};

// Remembers which files the store has open.
void store_files_note(struct store *store);

// Our errno for an SQLite result.
int store_errno(int result);
// Sets `err` from the connection's last error; returns the negative errno.
int store_fail(struct store *store, struct error *err, const char *what);

// The prepared statement, reset and with its parameters bound by `types`: 's' a text
// (const char *, NULL is SQL NULL), 'i' an int64_t. NULL with `err` set on failure.
sqlite3_stmt *store_bind(struct store *store, enum store_statement which, struct error *err,
			 const char *types, ...);
// Resets the statement on scope exit, so that no read transaction stays open.
static inline void store_statement_reset(sqlite3_stmt **statement)
{
	if (*statement)
		sqlite3_reset(*statement);
}
#define scoped_statement scoped(store_statement_reset) sqlite3_stmt *

// 1: a row, 0: done, negative errno.
int store_step(struct store *store, sqlite3_stmt *statement, struct error *err, const char *what);

// Opens the turn and remembers a failure of the write that follows.
int store_write(struct store *store, enum store_statement which, struct error *err,
		const char *types, ...);

// A write of this turn failed: its commit fails with this error.
void store_turn_fail(struct store *store, const struct error *err);

const char *store_text(sqlite3_stmt *statement, int column); // NULL for SQL NULL

// Drops events beyond the limit and the specs that only they kept.
int store_events_compact(struct store *store, struct error *err);
