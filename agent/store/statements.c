// SPDX-License-Identifier: Apache-2.0
// The store's SQL, all of it prepared once, and the binding of values to it.
#include <errno.h>
#include <stdarg.h>

#include "agent/base/scope.h"
#include "agent/store/internal.h"

#define OBJECT_COLUMNS                                                                             \
	"o.kind, o.id, o.revision, o.created_ms, o.changed_ms, s.spec, o.status, "                 \
	"o.spec_revision FROM objects o "                                                          \
	"JOIN specs s ON s.revision = o.spec_revision "

static const char *const statement_sql[STATEMENT_COUNT] = {
	[STATEMENT_BEGIN] = "BEGIN IMMEDIATE",
	[STATEMENT_COMMIT] = "COMMIT",
	[STATEMENT_ROLLBACK] = "ROLLBACK",
	[STATEMENT_OBJECT_GET] = "SELECT " OBJECT_COLUMNS "WHERE o.kind = ?1 AND o.id = ?2",
	[STATEMENT_OBJECT_PLACE] = "SELECT spec_revision, created_ms, status FROM objects "
				   "WHERE kind = ?1 AND id = ?2",
	[STATEMENT_OBJECT_PUT] =
		"INSERT OR REPLACE INTO objects "
		"(kind, id, revision, spec_revision, status, created_ms, changed_ms) "
		"VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
	[STATEMENT_OBJECT_DELETE] = "DELETE FROM objects WHERE kind = ?1 AND id = ?2",
	[STATEMENT_OBJECT_EACH] = "SELECT " OBJECT_COLUMNS "WHERE o.kind = ?1 ORDER BY o.id",
	[STATEMENT_SPEC_PUT] = "INSERT INTO specs (revision, spec) VALUES (?1, ?2)",
	[STATEMENT_SPEC_DROP] = "DELETE FROM specs WHERE revision = ?1 "
				"AND NOT EXISTS (SELECT 1 FROM objects WHERE spec_revision = ?1) "
				"AND NOT EXISTS (SELECT 1 FROM events WHERE spec_revision = ?1)",
	[STATEMENT_EVENT_PUT] =
		"INSERT INTO events "
		"(revision, time_ms, deleted, kind, id, spec_revision, status, created_ms) "
		"VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
	[STATEMENT_EVENT_EACH] =
		"SELECT e.kind, e.id, e.revision, e.created_ms, e.time_ms, s.spec, e.status, "
		"e.deleted FROM events e JOIN specs s ON s.revision = e.spec_revision "
		"WHERE e.revision > ?1 ORDER BY e.revision LIMIT ?2",
	[STATEMENT_EVENT_COMPACT] = "DELETE FROM events WHERE revision <= ?1 "
				    "RETURNING spec_revision",
	[STATEMENT_EVENT_RANGE] = "SELECT (SELECT min(revision) FROM events), "
				  "(SELECT max(revision) FROM events)",
	[STATEMENT_REFERENCE_PUT] =
		"INSERT OR IGNORE INTO refs (kind, id, used_kind, used_id) VALUES (?1, ?2, ?3, ?4)",
	[STATEMENT_REFERENCE_DROP] = "DELETE FROM refs WHERE kind = ?1 AND id = ?2",
	[STATEMENT_REFERENCE_USERS] = "SELECT kind, id FROM refs WHERE used_kind = ?1 "
				      "AND used_id = ?2 ORDER BY kind, id",
	[STATEMENT_META_GET] = "SELECT value FROM meta WHERE name = ?1",
	[STATEMENT_META_SET] = "INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)",
	[STATEMENT_RESERVE_COUNT] = "PRAGMA freelist_count",
	[STATEMENT_RESERVE_PUT] =
		"INSERT OR REPLACE INTO meta (name, value) VALUES ('reserve', zeroblob(?1))",
	[STATEMENT_RESERVE_DROP] = "DELETE FROM meta WHERE name = 'reserve'",
	[STATEMENT_LEASE_PUT] =
		"INSERT OR REPLACE INTO leases (subnet, address, until_ms) VALUES (?1, ?2, ?3)",
	[STATEMENT_LEASE_EACH] =
		"SELECT subnet, address, until_ms FROM leases ORDER BY subnet, until_ms",
	[STATEMENT_LEASE_EXPIRE] = "DELETE FROM leases WHERE until_ms <= ?1",
	[STATEMENT_LEASE_CLEAR] = "DELETE FROM leases",
};

static const struct {
	int result, code;
} result_errnos[] = {
	{SQLITE_BUSY, EBUSY},    {SQLITE_LOCKED, EBUSY},      {SQLITE_CORRUPT, EILSEQ},
	{SQLITE_NOTADB, EILSEQ}, {SQLITE_READONLY, EROFS},    {SQLITE_FULL, EDQUOT},
	{SQLITE_NOMEM, ENOMEM},  {SQLITE_PERM, EACCES},       {SQLITE_AUTH, EACCES},
	{SQLITE_TOOBIG, E2BIG},  {SQLITE_CONSTRAINT, EINVAL}, {SQLITE_CANTOPEN, ENOENT},
	{SQLITE_RANGE, EINVAL},
};

int store_errno(int result)
{
	for (size_t i = 0; i < ARRAY_LENGTH(result_errnos); i++)
		if (result_errnos[i].result == (result & 0xff))
			return result_errnos[i].code;
	return EIO;
}

// SQLite tells a full disk from a broken one only for writes to its files: a shared-memory file
// that cannot grow, or an exceeded quota, is an I/O error to it.
static bool is_disk_full(struct store *store)
{
	int code = sqlite3_system_errno(store->database);

	switch (sqlite3_extended_errcode(store->database)) {
	case SQLITE_FULL:
	case SQLITE_IOERR_SHMSIZE:
		return true;
	case SQLITE_IOERR_WRITE:
	case SQLITE_IOERR_TRUNCATE:
	case SQLITE_IOERR_SHMMAP:
	case SQLITE_CANTOPEN:
		return code == ENOSPC || code == EDQUOT;
	default:
		return false;
	}
}

int store_fail(struct store *store, struct error *err, const char *what)
{
	int code = EIO;

	// Once it is open, what SQLite may say must not be taken for an answer: "cannot open" is
	// not "no such object".
	if (is_disk_full(store))
		code = EDQUOT;
	else if (!store->is_open)
		code = store_errno(sqlite3_errcode(store->database));
	return error_set(err, code, "store: %s: %s", what, sqlite3_errmsg(store->database));
}

static int bind_values(sqlite3_stmt *statement, const char *types, va_list values)
{
	int result = SQLITE_OK;

	for (int i = 0; types[i] && result == SQLITE_OK; i++) {
		if (types[i] == 's')
			result = sqlite3_bind_text(statement, i + 1, va_arg(values, const char *),
						   -1, SQLITE_TRANSIENT);
		else
			result = sqlite3_bind_int64(statement, i + 1, va_arg(values, int64_t));
	}
	return result;
}

static sqlite3_stmt *bind_list(struct store *store, enum store_statement which, struct error *err,
			       const char *types, va_list values)
{
	sqlite3_stmt **place = &store->statements[which];

	if (!*place && sqlite3_prepare_v3(store->database, statement_sql[which], -1,
					  SQLITE_PREPARE_PERSISTENT, place, NULL) != SQLITE_OK) {
		store_fail(store, err, "prepare a statement");
		return NULL;
	}
	sqlite3_reset(*place);
	if (bind_values(*place, types, values) != SQLITE_OK) {
		store_fail(store, err, "bind a value");
		return NULL;
	}
	return *place;
}

sqlite3_stmt *store_bind(struct store *store, enum store_statement which, struct error *err,
			 const char *types, ...)
{
	va_list values;
	sqlite3_stmt *statement;

	va_start(values, types);
	statement = bind_list(store, which, err, types, values);
	va_end(values);
	return statement;
}

int store_step(struct store *store, sqlite3_stmt *statement, struct error *err, const char *what)
{
	switch (sqlite3_step(statement)) {
	case SQLITE_ROW:
		return 1;
	case SQLITE_DONE:
		return 0;
	default:
		return store_fail(store, err, what);
	}
}

int store_write(struct store *store, enum store_statement which, struct error *err,
		const char *types, ...)
{
	va_list values;
	int result = store_turn_begin(store, err);

	if (result < 0)
		return result;
	// SQLite ends a transaction by itself when a write finds the disk full, and would commit
	// each later write of this turn at once. Nothing is written any more in a turn that failed.
	if (!store->turn_error.code && sqlite3_get_autocommit(store->database)) {
		error_set(err, EIO, "store: the turn was rolled back by the database");
		store_turn_fail(store, err);
	}
	if (store->turn_error.code) {
		*err = store->turn_error;
		return -err->code;
	}
	va_start(values, types);
	scoped_statement statement = bind_list(store, which, err, types, values);
	va_end(values);
	result = statement ? store_step(store, statement, err, "write") : -err->code;
	if (result < 0)
		store_turn_fail(store, err);
	return result < 0 ? result : 0;
}

const char *store_text(sqlite3_stmt *statement, int column)
{
	return (const char *)sqlite3_column_text(statement, column);
}
