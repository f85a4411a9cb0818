// SPDX-License-Identifier: Apache-2.0
// Room for what cannot be refused: records of tasks that run, stops, deletions.
//
// Theory of operation. A commit writes the changed pages to the write-ahead log; a checkpoint
// copies them into the database file. Neither may need a new block of the disk when the disk is
// full.
//
// The log: its blocks are allocated beyond its end (FALLOC_FL_KEEP_SIZE). SQLite never truncates
// the log while the store is open (journal_size_limit is not set), it starts again at its beginning
// once everything is copied. A store that is short of room copies early, so that the log stays
// within.
//
// The database file: pages on SQLite's free list, made by inserting a value of that size and
// deleting it again. `secure_delete` makes SQLite write a page that becomes free, so the file
// system has given it a block. What was used of them is topped up when there is room again.
//
// A file system that writes every block to a new place (btrfs, say) may still refuse: then the turn
// fails and is tried again later.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/buffer.h"
#include "agent/base/scope.h"
#include "agent/store/internal.h"

enum {
	PAGE_BYTES = 4096,
	FREE_PAGES_MIN = 256, // 1 MiB: some 300 changes of tasks
	FREE_PAGES_MORE = 256,
	LOG_BYTES = 8 * 1024 * 1024,
};

// The log may be opened and closed beside SQLite: its locks are on the other two files.
static int reserve_log(const struct store *store, struct error *err)
{
	scoped(buffer_release) struct buffer name = {0};
	scoped_fd int fd = -1;

	buffer_addf(&name, "%s-wal", store->path);
	fd = open(buffer_text(&name), O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? 0 : error_errno(err, "store: open %s", buffer_text(&name));
	if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, LOG_BYTES) == 0 || errno == EOPNOTSUPP)
		return 0;
	if (errno == ENOSPC)
		errno = EDQUOT;
	return error_errno(err, "store: reserve room for the log");
}

static int count_free_pages(struct store *store, int64_t *ret_count, struct error *err)
{
	scoped_statement statement = store_bind(store, STATEMENT_RESERVE_COUNT, err, "");
	int result = statement ? store_step(store, statement, err, "count free pages") : -err->code;

	if (result < 0)
		return result;
	*ret_count = result > 0 ? sqlite3_column_int64(statement, 0) : 0;
	return 0;
}

static int reserve_pages(struct store *store, struct error *err)
{
	int64_t count;

	if (count_free_pages(store, &count, err) < 0)
		return -err->code;
	if (count >= FREE_PAGES_MIN)
		return 0;
	count = (FREE_PAGES_MIN + FREE_PAGES_MORE) * PAGE_BYTES;
	if (store_write(store, STATEMENT_RESERVE_PUT, err, "i", count) == 0)
		store_write(store, STATEMENT_RESERVE_DROP, err, "");
	if (store_turn_commit(store, false, err) < 0)
		return -err->code;
	return store_checkpoint(store, err);
}

int store_reserve(struct store *store, struct error *err)
{
	if (store->turn_open || store->read_only)
		return 0;
	if (reserve_pages(store, err) < 0 || reserve_log(store, err) < 0)
		return -err->code;
	return 0;
}

void store_set_short(struct store *store, bool is_short)
{
	store->is_short = is_short;
}
