// SPDX-License-Identifier: Apache-2.0
// Events, small values and cooling addresses.
#include <errno.h>

#include "agent/base/scope.h"
#include "agent/store/internal.h"

// The spec's text goes when neither an object nor an event needs it any more.
static int specs_drop(struct store *store, const int64_t *revisions, size_t count,
		      struct error *err)
{
	int result = 0;

	for (size_t i = 0; i < count && result == 0; i++)
		result = store_write(store, STATEMENT_SPEC_DROP, err, "i", revisions[i]);
	return result;
}

// Each revision has one event, so the limit is a distance of revisions. Mostly one row
// goes for one that comes; after a smaller limit was set, SLICE rows at a time.
int store_events_compact(struct store *store, struct error *err)
{
	enum { SLICE = 64 };
	int64_t spec_revisions[SLICE];
	uint64_t until;
	size_t count = 0;
	int result;

	if (store->revision - store->compacted <= store->event_limit)
		return 0;
	until = store->revision - store->event_limit;
	if (until > store->compacted + SLICE)
		until = store->compacted + SLICE;
	scoped_statement statement =
		store_bind(store, STATEMENT_EVENT_COMPACT, err, "i", (int64_t)until);
	if (!statement)
		return -err->code;
	while ((result = store_step(store, statement, err, "compact events")) > 0)
		if (count < SLICE)
			spec_revisions[count++] = sqlite3_column_int64(statement, 0);
	if (result < 0) {
		store_turn_fail(store, err);
		return result;
	}
	store->compacted = until;
	return specs_drop(store, spec_revisions, count, err);
}

static struct store_event event_read(sqlite3_stmt *statement)
{
	struct store_event event = {
		.revision = (uint64_t)sqlite3_column_int64(statement, 2),
		.time_ms = sqlite3_column_int64(statement, 4),
		.deleted = sqlite3_column_int64(statement, 7) != 0,
		.object.kind = store_text(statement, 0),
		.object.id = store_text(statement, 1),
		.object.created_ms = sqlite3_column_int64(statement, 3),
		.object.spec = store_text(statement, 5),
		.object.status = store_text(statement, 6),
	};

	event.object.revision = event.revision;
	event.object.changed_ms = event.time_ms;
	return event;
}

int store_event_each(struct store *store, uint64_t since, unsigned limit, store_event_fn *function,
		     void *context, struct error *err)
{
	scoped_statement statement =
		store_bind(store, STATEMENT_EVENT_EACH, err, "ii", (int64_t)since, (int64_t)limit);
	int result;

	if (!statement)
		return -err->code;
	while ((result = store_step(store, statement, err, "read events")) > 0) {
		struct store_event event = event_read(statement);

		result = function(&event, context);
		if (result != 0)
			break;
	}
	return result < 0 ? result : 0;
}

int store_meta_get(struct store *store, const char *name, struct arena *arena,
		   const char **ret_value, struct error *err)
{
	scoped_statement statement = store_bind(store, STATEMENT_META_GET, err, "s", name);
	int result = statement ? store_step(store, statement, err, "read a value") : -err->code;

	if (result < 0)
		return result;
	if (result == 0)
		return error_set(err, ENOENT, "store: no value named %s", name);
	*ret_value = arena_strdup(arena, store_text(statement, 0));
	return 0;
}

int store_meta_set(struct store *store, const char *name, const char *value, struct error *err)
{
	return store_write(store, STATEMENT_META_SET, err, "ss", name, value);
}

int store_lease_put(struct store *store, const struct store_lease *lease, struct error *err)
{
	return store_write(store, STATEMENT_LEASE_PUT, err, "ssi", lease->subnet, lease->address,
			   lease->until_ms);
}

int store_lease_each(struct store *store, store_lease_fn *function, void *context,
		     struct error *err)
{
	scoped_statement statement = store_bind(store, STATEMENT_LEASE_EACH, err, "");
	int result;

	if (!statement)
		return -err->code;
	while ((result = store_step(store, statement, err, "list leases")) > 0) {
		struct store_lease lease = {
			.subnet = store_text(statement, 0),
			.address = store_text(statement, 1),
			.until_ms = sqlite3_column_int64(statement, 2),
		};

		result = function(&lease, context);
		if (result < 0)
			break;
	}
	return result;
}

int store_lease_expire(struct store *store, int64_t now_ms, struct error *err)
{
	return store_write(store, STATEMENT_LEASE_EXPIRE, err, "i", now_ms);
}
