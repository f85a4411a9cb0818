// SPDX-License-Identifier: Apache-2.0
// What an agent must hold as long as it runs, looked at in every sweep: the lock of its install and
// the files of its database.
#include <errno.h>
#include <unistd.h>

#include "agent/base/log.h"
#include "agent/cell/install_lock.h"
#include "agent/task/internal.h"

// What the open log holds goes into the database file: if that one is still in its place, nothing
// of it is lost with this agent.
static void check_store_files(struct engine *engine)
{
	struct error err = {0}, ignored = {0};
	bool moved = store_check_files(engine->store, &err) < 0;

	if (moved && !engine->store_moved)
		log_error(NULL, "store: %s", err.message);
	else if (!moved && engine->store_moved)
		log_info(NULL, "store: the database's files are in their place again");
	engine->store_moved = moved;
	if (moved)
		store_checkpoint(engine->store, &ignored);
}

// Another agent that has the lock now is free to change everything: this one has to end.
static void keep_install_lock(struct engine *engine)
{
	struct error err = {0};
	int result = install_lock_keep(&engine->tree, &engine->install_lock_fd, &err);

	if (result == 0)
		return;
	log_error(NULL, "%s", err.message);
	if (result == -EBUSY)
		_exit(1);
}

void guards_check(struct engine *engine)
{
	keep_install_lock(engine);
	check_store_files(engine);
}
