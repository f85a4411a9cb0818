// SPDX-License-Identifier: Apache-2.0
// Whether the files that the store has open are the ones an operator sees. SQLite goes on with
// files that were moved, removed or replaced: it answers and commits, into what is lost when it
// closes them.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/base/buffer.h"
#include "agent/base/scope.h"
#include "agent/store/internal.h"

static const char *const suffixes[STORE_FILE_COUNT] = {"", "-wal", "-shm"};

static struct store_file_id file_id(const struct store *store, size_t index)
{
	scoped(buffer_release) struct buffer path = {0};
	struct stat status;

	buffer_addf(&path, "%s%s", store->path, suffixes[index]);
	if (stat(buffer_text(&path), &status) < 0)
		return (struct store_file_id){0};
	return (struct store_file_id){status.st_dev, status.st_ino};
}

void store_files_note(struct store *store)
{
	for (size_t i = 0; i < STORE_FILE_COUNT; i++)
		store->files[i] = file_id(store, i);
}

int store_check_files(const struct store *store, struct error *err)
{
	for (size_t i = 0; i < STORE_FILE_COUNT; i++) {
		struct store_file_id now = file_id(store, i);

		if (now.device == store->files[i].device && now.inode == store->files[i].inode)
			continue;
		return error_set(err, EAGAIN,
				 "%s%s is not the file that this agent has open any more: it was "
				 "moved, removed or replaced. No new task or object is taken. Put "
				 "it back, or end the agent and start it again: tasks that the "
				 "database then lacks go on (penstockctl adopt)",
				 store->path, suffixes[i]);
	}
	return 0;
}
