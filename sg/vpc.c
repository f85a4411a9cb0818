// SPDX-License-Identifier: Apache-2.0
// The mirror of one VPC's table: what the kernel has, as of the last commit or load. It is never
// corrected after a failure but read again: failures are rare, and the kernel is right.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "sg/internal.h"

void *sg_allocate(size_t size)
{
	void *memory = calloc(1, size ? size : 1);

	if (!memory)
		abort();
	return memory;
}

char *sg_strdup(const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		abort();
	return copy;
}

// --- Index ---

// Place of the first item whose id is not less than `id`.
static size_t index_place(const struct sg_index *index, const char *id)
{
	size_t low = 0, high = index->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(index->items[middle], id) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void *sg_index_find(const struct sg_index *index, const char *id)
{
	size_t place = index_place(index, id);

	if (place == index->count || strcmp(index->items[place], id) != 0)
		return NULL;
	return index->items[place];
}

void sg_index_add(struct sg_index *index, void *item)
{
	size_t place = index_place(index, item);

	if (index->count == index->capacity) {
		index->capacity = index->capacity ? index->capacity * 2 : 16;
		index->items = reallocarray(index->items, index->capacity, sizeof(*index->items));
		if (!index->items)
			abort();
	}
	memmove(index->items + place + 1, index->items + place,
		(index->count - place) * sizeof(*index->items));
	index->items[place] = item;
	index->count++;
}

void *sg_index_take(struct sg_index *index, const char *id)
{
	size_t place = index_place(index, id);
	void *item = sg_index_find(index, id);

	if (!item)
		return NULL;
	index->count--;
	memmove(index->items + place, index->items + place + 1,
		(index->count - place) * sizeof(*index->items));
	return item;
}

static void index_clear(struct sg_index *index)
{
	for (size_t i = 0; i < index->count; i++)
		free(index->items[i]);
	free(index->items);
	*index = (struct sg_index){0};
}

// --- States ---

void sg_rules_state_release(struct sg_rules_state *state)
{
	for (size_t i = 0; i < state->elements.count; i++)
		free((char *)(uintptr_t)state->elements.elements[i].rule_id);
	free(state->elements.elements);
	for (size_t i = 0; i < state->reference_count; i++)
		free(state->references[i]);
	free(state->references);
	*state = (struct sg_rules_state){0};
}

struct sg_group_state *sg_group_ensure(struct sg_vpc *vpc, const char *id)
{
	struct sg_group_state *group = sg_index_find(&vpc->groups, id);

	if (group)
		return group;
	group = sg_allocate(sizeof(*group));
	memcpy(group->id, id, strnlen(id, sizeof(group->id) - 1));
	sg_index_add(&vpc->groups, group);
	return group;
}

void sg_vpc_clear(struct sg_vpc *vpc)
{
	for (size_t i = 0; i < vpc->groups.count; i++) {
		struct sg_group_state *group = vpc->groups.items[i];

		for (int direction = 0; direction < SG_DIRECTION_COUNT; direction++)
			sg_rules_state_release(&group->rules[direction]);
	}
	index_clear(&vpc->groups);
	index_clear(&vpc->members);
	index_clear(&vpc->balancers);
	for (size_t i = 0; i < vpc->combination_count; i++)
		free(vpc->combinations[i]);
	free(vpc->combinations);
	vpc->combinations = NULL;
	vpc->combination_count = vpc->combination_capacity = 0;
}

// --- The door ---

static struct sg_vpc *vpc_new(const char *install, const char *id)
{
	struct sg_vpc *vpc = sg_allocate(sizeof(*vpc));

	vpc->install = sg_strdup(install);
	vpc->id = sg_strdup(id);
	return vpc;
}

void sg_vpc_close(struct sg_vpc *vpc)
{
	if (!vpc)
		return;
	sg_vpc_clear(vpc);
	free(vpc->install);
	free(vpc->id);
	free(vpc);
}

int sg_vpc_find(const char *install, const char *vpc, int netfilter_socket, struct sg_vpc **ret_vpc,
		struct error *err)
{
	struct sg_vpc *found = vpc_new(install, vpc);

	if (sg_vpc_load(found, netfilter_socket, err) < 0) {
		sg_vpc_close(found);
		return error_wrap(err, "vpc %s", vpc);
	}
	*ret_vpc = found;
	return 0;
}

// The constant part is one owner's: refused means nothing of it was done.
static int send_constant(struct nft_batch *batch, int netfilter_socket, struct error *err)
{
	const struct error *failure;

	if (nft_batch_send(batch, netfilter_socket, err) < 0)
		return -err->code;
	failure = nft_batch_failure(batch, "");
	return failure ? error_set(err, failure->code, "%s", failure->message) : 0;
}

static int table_ensure(const struct sg_vpc *vpc, int netfilter_socket, struct error *err)
{
	scoped(nft_batch_release) struct nft_batch *batch = nft_batch_new();

	sg_table_build(batch, vpc);
	return send_constant(batch, netfilter_socket, err);
}

int sg_vpc_limit_connections(struct sg_vpc *vpc, int netfilter_socket, uint32_t limit,
			     struct error *err)
{
	scoped(nft_batch_release) struct nft_batch *batch = nft_batch_new();
	uint32_t before = vpc->connection_limit;

	if (limit == before)
		return 0;
	vpc->connection_limit = limit;
	sg_table_limit_connections(batch, limit);
	if (send_constant(batch, netfilter_socket, err) == 0)
		return 0;
	vpc->connection_limit = before; // try again
	return error_wrap(err, "vpc %s: limit of connections", vpc->id);
}

static int read_table(struct sg_vpc *vpc, int netfilter_socket, struct error *err)
{
	sg_vpc_clear(vpc);
	vpc->unread = sg_vpc_load(vpc, netfilter_socket, err) < 0;
	if (!vpc->unread)
		return 0;
	sg_vpc_clear(vpc);
	return -err->code;
}

static int restore(struct sg_vpc *vpc, int netfilter_socket, struct error *err)
{
	int result = table_ensure(vpc, netfilter_socket, err);

	if (result == 0)
		result = read_table(vpc, netfilter_socket, err);
	if (result == 0)
		result = sg_vpc_mend(vpc, netfilter_socket, err);
	return result > 0 ? read_table(vpc, netfilter_socket, err) : result;
}

// What a rule matches is not read back: the groups write theirs again when they are set.
static void doubt_groups(struct sg_vpc *vpc)
{
	for (size_t i = 0; i < vpc->groups.count; i++)
		((struct sg_group_state *)vpc->groups.items[i])->doubted = true;
}

int sg_vpc_restore(struct sg_vpc *vpc, int netfilter_socket, struct error *err)
{
	if (restore(vpc, netfilter_socket, err) == 0) {
		doubt_groups(vpc);
		return 0;
	}
	sg_vpc_clear(vpc);
	vpc->unread = true;
	return error_wrap(err, "vpc %s", vpc->id);
}

int sg_vpc_shut(const struct sg_vpc *vpc, int netfilter_socket, struct error *err)
{
	if (table_ensure(vpc, netfilter_socket, err) < 0)
		return error_wrap(err, "vpc %s", vpc->id);
	return 0;
}

int sg_vpc_open(const char *install, const char *vpc, int netfilter_socket, struct sg_vpc **ret_vpc,
		struct error *err)
{
	struct sg_vpc *opened = vpc_new(install, vpc);

	if (restore(opened, netfilter_socket, err) < 0) {
		sg_vpc_close(opened);
		return error_wrap(err, "vpc %s", vpc);
	}
	*ret_vpc = opened;
	return 0;
}

static bool all_complete(const struct sg_index *members)
{
	for (size_t i = 0; i < members->count; i++)
		if (!((const struct sg_member_state *)members->items[i])->complete)
			return false;
	return true;
}

bool sg_vpc_is_damaged(const struct sg_vpc *vpc)
{
	return vpc->unread || !all_complete(&vpc->members) || !all_complete(&vpc->balancers);
}

bool sg_vpc_may_have(const struct sg_vpc *vpc, const char *id)
{
	return vpc->unread || sg_index_find(&vpc->groups, id) || sg_index_find(&vpc->members, id) ||
	       sg_index_find(&vpc->balancers, id);
}

// What is not known cannot be changed: to remove it would seem done already.
int sg_vpc_require(const struct sg_vpc *vpc, struct error *err)
{
	if (!vpc->unread)
		return 0;
	return error_set(err, ESTALE, "vpc %s: its rules could not be read", vpc->id);
}

int sg_vpc_commit(struct sg_vpc *vpc, struct nft_batch *batch, int netfilter_socket,
		  struct error *err)
{
	int status = nft_batch_send(batch, netfilter_socket, err);
	struct error reload = {0};

	if (status == 0 && nft_batch_failure_count(batch) == 0)
		return 0;
	// What the batch did is done; a mirror that cannot be read takes no more until it is.
	if (read_table(vpc, netfilter_socket, &reload) < 0 && status == 0)
		return error_set(err, reload.code, "vpc %s: %s", vpc->id, reload.message);
	return status < 0 ? error_wrap(err, "vpc %s", vpc->id) : 0;
}
