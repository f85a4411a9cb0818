// SPDX-License-Identifier: Apache-2.0
// Opening, the schema, and the turn: one transaction per turn of the event loop.
//
// Durability. The connection runs in WAL mode with synchronous = NORMAL: a commit is
// a write without fsync. `synchronous` cannot be changed inside a transaction, and a
// turn learns only on its way that it must be durable; so a durable commit is an
// ordinary one followed by a sync of the WAL file, which is just what FULL does.
//
// Checkpoints. SQLite would make them inside the commit that fills the log's 1,000th page, while a
// client waits for it. Here the loop makes them when it is idle.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "agent/base/buffer.h"
#include "agent/base/scope.h"
#include "agent/store/internal.h"
#include "agent/store/schema.h"

enum {
	BUSY_TIMEOUT_MS = 250,
	APPLICATION_ID = 0x7073746b, // "pstk"
	CHECKPOINT_PAGES = 1000,     // 4 MiB of log
	CHECKPOINT_PAGES_MAX = 16384,
	CHECKPOINT_PAGES_SHORT = 250, // of room: well within the log's reserve
};

static int execute(struct store *store, const char *sql, struct error *err)
{
	if (sqlite3_exec(store->database, sql, NULL, NULL, NULL) != SQLITE_OK)
		return store_fail(store, err, "set up");
	return 0;
}

// The single integer (or text, into `ret_text`) that a PRAGMA answers.
static int pragma_read(struct store *store, const char *sql, int64_t *ret_value, char *ret_text,
		       size_t text_size, struct error *err)
{
	sqlite3_stmt *statement = NULL;
	int result = sqlite3_prepare_v2(store->database, sql, -1, &statement, NULL);

	if (result == SQLITE_OK)
		result = sqlite3_step(statement);
	if (result != SQLITE_ROW) {
		result = store_fail(store, err, "read");
		sqlite3_finalize(statement);
		return result;
	}
	if (ret_value)
		*ret_value = sqlite3_column_int64(statement, 0);
	if (ret_text)
		snprintf(ret_text, text_size, "%s",
			 store_text(statement, 0) ? store_text(statement, 0) : "");
	sqlite3_finalize(statement);
	return 0;
}

// One writer per store: its lock file is held until store_close. A record lock: it belongs to the
// process, so the children of one that was killed do not keep its successor out.
static int lock_take(struct store *store, const char *path, struct error *err)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	scoped(buffer_release) struct buffer name = {0};

	buffer_addf(&name, "%s.lock", path);
	store->lock_fd = open(buffer_text(&name), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (store->lock_fd < 0)
		return error_errno(err, "store: open %s", buffer_text(&name));
	if (fcntl(store->lock_fd, F_SETLK, &lock) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return error_set(err, EBUSY, "store %s: in use by another penstockd", path);
	return error_errno(err, "store: lock %s", buffer_text(&name));
}

// The file is born private; SQLite gives its companions (-wal, -shm) the same mode.
static int file_make_private(const char *path, struct error *err)
{
	scoped_fd int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return error_errno(err, "store: open %s", path);
	if (fchmod(fd, 0600) < 0)
		return error_errno(err, "store: make %s private", path);
	return 0;
}

static int connect_database(struct store *store, const struct store_options *options,
			    struct error *err)
{
	int flags = options->read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;

	if (options->read_only && access(options->path, F_OK) < 0)
		return error_errno(err, "store %s", options->path);
	if (sqlite3_open_v2(options->path, &store->database, flags | SQLITE_OPEN_NOMUTEX, NULL) !=
	    SQLITE_OK)
		return store_fail(store, err, options->path);
	sqlite3_busy_timeout(store->database, BUSY_TIMEOUT_MS);
	sqlite3_db_config(store->database, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	return 0;
}

static int integrity_check(struct store *store, const char *path, struct error *err)
{
	char answer[200];
	int result = pragma_read(store, "PRAGMA quick_check(1)", NULL, answer, sizeof(answer), err);

	if (result == -EILSEQ || (result == 0 && strcmp(answer, "ok") != 0))
		return error_set(err, EILSEQ,
				 "store %s is damaged (%s). Tasks go on without it. Move it aside "
				 "together with its -wal and -shm, then restore a copy or start "
				 "without one: tasks that the database then lacks go on as well "
				 "(penstockctl adopt)",
				 path, result == 0 ? answer : sqlite3_errmsg(store->database));
	return result;
}

static int schema_create(struct store *store, struct error *err)
{
	scoped(buffer_release) struct buffer sql = {0};

	buffer_addf(&sql,
		    "BEGIN IMMEDIATE; %s PRAGMA application_id = %d; "
		    "PRAGMA user_version = %d; COMMIT;",
		    STORE_SCHEMA_SQL, APPLICATION_ID, STORE_SCHEMA_VERSION);
	return execute(store, buffer_text(&sql), err);
}

static int schema_check(struct store *store, const char *path, struct error *err)
{
	int64_t version = 0, tables = 0;
	int result = pragma_read(store, "PRAGMA user_version", &version, NULL, 0, err);

	if (result < 0)
		return result;
	if (version > STORE_SCHEMA_VERSION)
		return error_set(err, EPROTO,
				 "store %s has schema version %" PRId64
				 ", this penstock knows up to %d: run the newer penstock",
				 path, version, STORE_SCHEMA_VERSION);
	if (version == STORE_SCHEMA_VERSION)
		return 0;
	result = pragma_read(store, "SELECT count(*) FROM sqlite_master", &tables, NULL, 0, err);
	if (result < 0)
		return result;
	if (tables > 0)
		return error_set(err, EILSEQ, "%s is a database, but not a penstock store", path);
	if (store->read_only)
		return error_set(err, ENOENT, "store %s is empty", path);
	return schema_create(store, err);
}

static int epoch_renew(struct store *store, struct error *err)
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return error_errno(err, "store: getrandom");
	snprintf(store->epoch, sizeof(store->epoch), "%016" PRIx64, random);
	return store_meta_set(store, "epoch", store->epoch, err);
}

// After a host reboot commits may be missing: a new epoch. Cooling addresses are free,
// for the connections they were kept from are gone.
static int boot_compare(struct store *store, const char *boot_id, struct error *err)
{
	scoped(arena_release) struct arena arena = {0};
	const char *last = NULL, *epoch = NULL;
	int result = store_meta_get(store, "boot-id", &arena, &last, err);

	if (result == 0)
		result = store_meta_get(store, "epoch", &arena, &epoch, err);
	if (result < 0 && result != -ENOENT)
		return result;
	if (epoch)
		snprintf(store->epoch, sizeof(store->epoch), "%s", epoch);
	if (store->read_only || (epoch && boot_id && strcmp(last, boot_id) == 0))
		return 0;
	result = epoch_renew(store, err);
	if (result == 0)
		result = store_meta_set(store, "boot-id", boot_id, err);
	if (result == 0)
		result = store_write(store, STATEMENT_LEASE_CLEAR, err, "");
	return result < 0 ? result : store_turn_commit(store, true, err);
}

static int revisions_load(struct store *store, struct error *err)
{
	scoped_statement statement = store_bind(store, STATEMENT_EVENT_RANGE, err, "");
	int result = statement ? store_step(store, statement, err, "read revisions") : -err->code;

	if (result < 0)
		return result;
	if (sqlite3_column_type(statement, 0) == SQLITE_NULL)
		return 0;
	store->compacted = (uint64_t)sqlite3_column_int64(statement, 0) - 1;
	store->revision = (uint64_t)sqlite3_column_int64(statement, 1);
	return 0;
}

// Takes the place of SQLite's own checkpoints.
static int note_log_pages(void *context, sqlite3 *database, const char *name, int pages)
{
	struct store *store = context;

	(void)database;
	(void)name;
	store->log_pages = pages;
	return SQLITE_OK;
}

static int open_steps(struct store *store, const struct store_options *options, struct error *err)
{
	int result = 0;

	if (!options->read_only) {
		result = lock_take(store, options->path, err);
		if (result == 0)
			result = file_make_private(options->path, err);
	}
	if (result == 0)
		result = connect_database(store, options, err);
	if (result == 0)
		result = integrity_check(store, options->path, err);
	if (result == 0)
		sqlite3_wal_hook(store->database, note_log_pages, store);
	if (result == 0 && !options->read_only)
		result = execute(store,
				 "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; "
				 "PRAGMA secure_delete = ON",
				 err);
	if (result == 0)
		result = schema_check(store, options->path, err);
	if (result == 0)
		result = boot_compare(store, options->boot_id, err);
	return result < 0 ? result : revisions_load(store, err);
}

int store_open(const struct store_options *options, struct store **ret_store, struct error *err)
{
	struct store *store = calloc(1, sizeof(*store));
	int result;

	if (!store)
		return error_set(err, ENOMEM, "store: out of memory");
	store->path = strdup(options->path);
	if (!store->path) {
		free(store);
		return error_set(err, ENOMEM, "store: out of memory");
	}
	store->lock_fd = -1;
	store->read_only = options->read_only;
	store->event_limit =
		options->event_limit ? options->event_limit : STORE_EVENT_LIMIT_DEFAULT;
	result = open_steps(store, options, err);
	if (result < 0) {
		store_close(store);
		return result;
	}
	store->is_open = true;
	store_files_note(store);
	*ret_store = store;
	return 0;
}

void store_close(struct store *store)
{
	if (!store)
		return;
	if (store->turn_open)
		store_turn_rollback(store);
	for (size_t i = 0; i < STATEMENT_COUNT; i++)
		sqlite3_finalize(store->statements[i]);
	sqlite3_close(store->database);
	close_fd(&store->lock_fd);
	free(store->path);
	free(store);
}

int store_turn_begin(struct store *store, struct error *err)
{
	int result;

	if (store->turn_open)
		return 0;
	scoped_statement statement = store_bind(store, STATEMENT_BEGIN, err, "");
	result = statement ? store_step(store, statement, err, "begin a turn") : -err->code;
	if (result < 0)
		return result;
	store->turn_open = true;
	store->turn_error = (struct error){0};
	store->turn_start_revision = store->revision;
	store->turn_start_compacted = store->compacted;
	return 0;
}

static int sync_log(struct store *store, struct error *err)
{
	sqlite3_file *log = NULL;

	sqlite3_file_control(store->database, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
	if (!log || !log->pMethods || log->pMethods->xSync(log, SQLITE_SYNC_NORMAL) != SQLITE_OK)
		return error_set(err, EREMOTEIO, "store: sync of the write-ahead log failed");
	return 0;
}

void store_turn_fail(struct store *store, const struct error *err)
{
	if (!store->turn_error.code)
		store->turn_error = *err;
}

void store_turn_refuse(struct store *store)
{
	struct error err = {0};

	error_set(&err, EIO, "store: what was written could not be read again");
	store_turn_fail(store, &err);
}

int store_turn_commit(struct store *store, bool durable, struct error *err)
{
	int result = 0;

	if (!store->turn_open)
		return 0;
	if (store->turn_error.code) {
		*err = store->turn_error;
		result = -err->code;
	} else {
		scoped_statement statement = store_bind(store, STATEMENT_COMMIT, err, "");

		result = statement ? store_step(store, statement, err, "commit") : -err->code;
	}
	if (result < 0) {
		store_turn_rollback(store);
		return result;
	}
	store->turn_open = false;
	return durable ? sync_log(store, err) : 0;
}

bool store_checkpoint_is_due(const struct store *store, bool idle)
{
	if (store->is_short)
		return store->log_pages >= CHECKPOINT_PAGES_SHORT;
	return store->log_pages >= (idle ? CHECKPOINT_PAGES : CHECKPOINT_PAGES_MAX);
}

int store_checkpoint(struct store *store, struct error *err)
{
	int result;

	if (store->turn_open)
		return 0;
	store->log_pages = 0; // the next commit says how many a reader kept in
	result = sqlite3_wal_checkpoint_v2(store->database, "main", SQLITE_CHECKPOINT_PASSIVE, NULL,
					   NULL);
	if (result != SQLITE_OK && result != SQLITE_BUSY)
		return store_fail(store, err, "checkpoint");
	return 0;
}

void store_turn_rollback(struct store *store)
{
	struct error ignored = {0};

	if (!store->turn_open)
		return;
	// SQLite may have rolled back by itself (disk full, I/O error): then there is nothing to
	// do.
	if (!sqlite3_get_autocommit(store->database)) {
		scoped_statement statement = store_bind(store, STATEMENT_ROLLBACK, &ignored, "");

		if (statement)
			sqlite3_step(statement);
	}
	store->turn_open = false;
	store->revision = store->turn_start_revision;
	store->compacted = store->turn_start_compacted;
}

uint64_t store_revision(const struct store *store)
{
	return store->revision;
}

uint64_t store_compacted_revision(const struct store *store)
{
	return store->compacted;
}

const char *store_epoch(const struct store *store)
{
	return store->epoch;
}
