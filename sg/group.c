// SPDX-License-Identifier: Apache-2.0
// Groups over time: creation, change by differences, removal. What they consist of: group_object.c.
//
// A packet that the rules before and after a change let in must not fall between. A transaction is
// no moment to a packet on its way through a chain: the kernel first switches all rules, then the
// elements that transactions deleted stop matching (a generation bit), and only then, set by set,
// do sets of intervals get their new elements (nf_tables_commit(), nft_pipapo_commit(); 50 to 110
// µs were measured between the first and the last). So what takes over must be committed before
// what it replaces is removed:
//
//   1. Sets that are needed for the first time, new elements, and rules for new references behind
//      those that the chains have. A new element may overlap one that is to be removed, which the
//      set would refuse; it goes into an interim set, with a rule of its own.
//   2. Elements are removed, and those of the interim sets added to the sets that last.
//   3. The chains are written as they shall be, and the interim sets are deleted.
//
// Steps 2 and 3 are one transaction if there is no interim set. If the agent ends between the
// transactions, the next one finds a group with more rules than it wants and goes on from there.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "sg/internal.h"

// --- Creation and difference ---

static void declare_members(struct nft_batch *batch, const char *group_id)
{
	char name[NFT_NAME_SIZE];
	struct nft_set members = sg_group_members_of(group_id, name);

	nft_set_add(batch, &members);
}

typedef void set_operation(struct nft_batch *batch, const char *table, const char *set);

// Calls `operation` for each set that the group has.
static void each_set(struct nft_batch *batch, const struct sg_group_state *group,
		     set_operation *operation)
{
	char name[NFT_NAME_SIZE];

	for (int i = 0; i < SG_GROUP_SETS; i++) {
		enum sg_direction direction = (enum sg_direction)(i / SG_KIND_COUNT);
		enum sg_kind kind = (enum sg_kind)(i % SG_KIND_COUNT);

		if (!(group->kinds[direction] & 1U << kind))
			continue;
		sg_group_set_of(group->id, direction, kind, SG_SET_LASTING, name);
		operation(batch, SG_TABLE, name);
	}
}

static void delete_interim_sets(struct nft_batch *batch, const char *group_id,
				enum sg_direction direction, unsigned kinds)
{
	char name[NFT_NAME_SIZE];

	for (int kind = 0; kind < SG_KIND_COUNT; kind++) {
		if (!(kinds & 1U << kind))
			continue;
		sg_group_set_of(group_id, direction, (enum sg_kind)kind, SG_SET_INTERIM, name);
		nft_set_delete(batch, SG_TABLE, name);
	}
}

// The set of members, and the chains, empty; so are the sets that a damaged group has.
static void create_objects(struct nft_batch *batch, const struct sg_group_state *group)
{
	const char *group_id = group->id;
	char name[NFT_NAME_SIZE];

	declare_members(batch, group_id);
	each_set(batch, group, nft_set_flush);
	for (int variant = 0; variant < SG_VARIANT_COUNT; variant++) {
		sg_group_chain_name(group_id, (enum sg_variant)variant, name);
		nft_chain_add(batch, &(struct nft_chain){.table = SG_TABLE, .name = name});
	}
}

static bool references_equal(const struct sg_rules_state *state, const struct sg_compiled *compiled)
{
	bool equal = state->reference_count == compiled->reference_count;

	for (size_t i = 0; equal && i < compiled->reference_count; i++) {
		scoped_free char *comment = sg_reference_comment(compiled->references[i]);

		equal = strcmp(comment, state->references[i]) == 0;
	}
	return equal;
}

static bool state_has_reference(const struct sg_rules_state *state, const struct sg_rule *reference)
{
	scoped_free char *comment = sg_reference_comment(reference);

	for (size_t i = 0; i < state->reference_count; i++)
		if (strcmp(comment, state->references[i]) == 0)
			return true;
	return false;
}

static void state_assign(struct sg_rules_state *state, const struct sg_compiled *compiled)
{
	const struct sg_element_list *from = &compiled->elements;

	sg_rules_state_release(state);
	state->elements.count = from->count;
	state->elements.elements = sg_allocate(from->count * sizeof(*from->elements));
	for (size_t i = 0; i < from->count; i++) {
		state->elements.elements[i] = from->elements[i];
		state->elements.elements[i].rule_id = sg_strdup(from->elements[i].rule_id);
	}
	state->reference_count = compiled->reference_count;
	state->references = sg_allocate(compiled->reference_count * sizeof(*state->references));
	for (size_t i = 0; i < compiled->reference_count; i++)
		state->references[i] = sg_reference_comment(compiled->references[i]);
}

// What is to be done to one direction.
struct change {
	struct sg_element_list early, removed, late; // late: additions that overlap removed ones
	unsigned kinds;                              // whose sets are needed for the first time
	unsigned interim;                            // kinds of late additions
	bool rewrite;                                // the chains
};

static bool overlap(const struct sg_element *one, const struct sg_element *other)
{
	return one->kind == other->kind && ipv4_cidr_overlaps(&one->peer, &other->peer) &&
	       one->first[0] <= other->last[0] && other->first[0] <= one->last[0] &&
	       one->first[1] <= other->last[1] && other->first[1] <= one->last[1];
}

static bool overlaps_any(const struct sg_element *element, const struct sg_element_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		if (overlap(element, &list->elements[i]))
			return true;
	return false;
}

static unsigned kinds_of(const struct sg_element_list *list)
{
	unsigned kinds = 0;

	for (size_t i = 0; i < list->count; i++)
		kinds |= 1U << list->elements[i].kind;
	return kinds;
}

static struct change plan_change(const struct sg_group_state *group, enum sg_direction direction,
				 const struct sg_compiled *compiled, struct arena *arena)
{
	const struct sg_rules_state *state = &group->rules[direction];
	struct change change = {.kinds = kinds_of(&compiled->elements) & ~group->kinds[direction]};
	struct sg_element_list added;

	change.rewrite = !group->complete || group->doubted || change.kinds ||
			 !references_equal(state, compiled);
	sg_element_difference(&state->elements, &compiled->elements, arena, &change.removed,
			      &added);
	change.early.elements = arena_array(arena, struct sg_element, added.count);
	change.late.elements = arena_array(arena, struct sg_element, added.count);
	for (size_t i = 0; i < added.count; i++) {
		struct sg_element_list *list = overlaps_any(&added.elements[i], &change.removed)
						       ? &change.late
						       : &change.early;

		list->elements[list->count++] = added.elements[i];
	}
	change.interim = kinds_of(&change.late);
	change.rewrite |= change.interim || group->interim[direction];
	return change;
}

static void create_sets(struct nft_batch *batch, const char *group_id, enum sg_direction direction,
			unsigned kinds, enum sg_set_life life)
{
	char name[NFT_NAME_SIZE];

	for (int kind = 0; kind < SG_KIND_COUNT; kind++) {
		struct nft_set set =
			sg_group_set_of(group_id, direction, (enum sg_kind)kind, life, name);

		if (kinds & 1U << kind)
			nft_set_add(batch, &set);
	}
}

// New rules behind the old ones, until the chains are written as they shall be.
static void append_kinds(struct nft_batch *batch, const char *group_id, enum sg_direction direction,
			 unsigned kinds, enum sg_set_life life)
{
	for (int variant = 0; variant < SG_VARIANT_COUNT; variant++)
		for (int kind = 0; kind < SG_KIND_COUNT; kind++)
			if (sg_variant_direction((enum sg_variant)variant) == direction &&
			    (kinds & 1U << kind))
				sg_group_add_kind(batch, group_id, (enum sg_variant)variant,
						  (enum sg_kind)kind, life);
}

static size_t append_references(struct nft_batch *batch, const char *group_id,
				enum sg_direction direction, const struct sg_rules_state *state,
				const struct sg_compiled *compiled)
{
	size_t appended = 0;

	for (size_t i = 0; i < compiled->reference_count; i++) {
		if (state_has_reference(state, compiled->references[i]))
			continue;
		for (int variant = 0; variant < SG_VARIANT_COUNT; variant++)
			if (sg_variant_direction((enum sg_variant)variant) == direction)
				sg_group_add_reference(batch, group_id, (enum sg_variant)variant,
						       compiled->references[i]);
		appended++;
	}
	return appended;
}

// A previous agent may have left an interim set: its elements are of no use, because a set that
// lasts has them, or those that they were to replace.
static void add_interim(struct nft_batch *batch, const struct sg_group_state *group,
			enum sg_direction direction, const struct change *change)
{
	char name[NFT_NAME_SIZE];

	create_sets(batch, group->id, direction, change->interim, SG_SET_INTERIM);
	for (int kind = 0; kind < SG_KIND_COUNT; kind++) {
		if (!(change->interim & group->interim[direction] & 1U << kind))
			continue;
		sg_group_set_of(group->id, direction, (enum sg_kind)kind, SG_SET_INTERIM, name);
		nft_set_flush(batch, SG_TABLE, name);
	}
	sg_group_send_elements(batch, group->id, direction, SG_SET_INTERIM, &change->late,
			       nft_elements_add);
	append_kinds(batch, group->id, direction, change->interim, SG_SET_INTERIM);
}

static void change_add(struct nft_batch *batch, struct sg_group_state *group,
		       enum sg_direction direction, const struct change *change,
		       const struct sg_compiled *compiled, bool *ret_added)
{
	const struct sg_rules_state *state = &group->rules[direction];
	size_t appended = 0;

	create_sets(batch, group->id, direction, change->kinds, SG_SET_LASTING);
	sg_group_send_elements(batch, group->id, direction, SG_SET_LASTING, &change->early,
			       nft_elements_add);
	if (change->rewrite && group->complete) {
		append_kinds(batch, group->id, direction, change->kinds, SG_SET_LASTING);
		appended = append_references(batch, group->id, direction, state, compiled);
		add_interim(batch, group, direction, change);
	}
	group->kinds[direction] |= change->kinds;
	*ret_added |= change->early.count || appended || change->interim;
}

static void change_elements(struct nft_batch *batch, const struct sg_group_state *group,
			    enum sg_direction direction, const struct change *change)
{
	sg_group_send_elements(batch, group->id, direction, SG_SET_LASTING, &change->removed,
			       nft_elements_delete);
	sg_group_send_elements(batch, group->id, direction, SG_SET_LASTING, &change->late,
			       nft_elements_add);
}

static void change_chains(struct nft_batch *batch, struct sg_group_state *group,
			  enum sg_direction direction, const struct change *change,
			  const struct sg_compiled *compiled)
{
	for (int variant = 0; change->rewrite && variant < SG_VARIANT_COUNT; variant++)
		if (sg_variant_direction((enum sg_variant)variant) == direction)
			sg_group_write_chain(batch, group, (enum sg_variant)variant, compiled);
	delete_interim_sets(batch, group->id, direction,
			    group->interim[direction] | change->interim);
	group->interim[direction] = 0;
	if (change->rewrite || change->removed.count || change->early.count)
		state_assign(&group->rules[direction], compiled);
}

static void change_group(struct nft_batch *batch, struct sg_group_state *group,
			 const struct sg_compiled *compiled, struct arena *arena)
{
	struct change changes[SG_DIRECTION_COUNT];
	bool added = false, removed = false, interim = false;

	for (int i = 0; i < SG_DIRECTION_COUNT; i++) {
		enum sg_direction direction = (enum sg_direction)i;

		if (!group->complete)
			sg_rules_state_release(&group->rules[i]); // the sets are empty now
		changes[i] = plan_change(group, direction, &compiled[i], arena);
		change_add(batch, group, direction, &changes[i], &compiled[i], &added);
		removed |= changes[i].removed.count || (changes[i].rewrite && group->complete);
		interim |= changes[i].interim != 0;
	}
	if (added && removed)
		nft_batch_barrier(batch);
	for (int i = 0; i < SG_DIRECTION_COUNT; i++)
		change_elements(batch, group, (enum sg_direction)i, &changes[i]);
	if (interim)
		nft_batch_barrier(batch);
	for (int i = 0; i < SG_DIRECTION_COUNT; i++)
		change_chains(batch, group, (enum sg_direction)i, &changes[i], &compiled[i]);
}

// Groups that are referenced before they are set: their sets of members must exist.
static void declare_references(struct sg_vpc *vpc, struct nft_batch *batch,
			       const struct sg_compiled *compiled)
{
	for (size_t i = 0; i < compiled->reference_count; i++) {
		const char *id = compiled->references[i]->group_id;

		if (sg_index_find(&vpc->groups, id))
			continue;
		sg_group_ensure(vpc, id);
		declare_members(batch, id);
	}
}

static void group_owner(struct nft_batch *batch, const char *group_id)
{
	char label[SG_LABEL_SIZE];

	snprintf(label, sizeof(label), "group %s", group_id);
	nft_batch_set_owner(batch, label);
}

int sg_group_set(struct sg_vpc *vpc, struct nft_batch *batch, const struct sg_group *group,
		 struct error *err)
{
	scoped(arena_release) struct arena arena = {0};
	struct sg_compiled compiled[SG_DIRECTION_COUNT];
	struct sg_group_state *state;

	if (sg_group_check(group, err) < 0)
		return error_wrap(err, "group %s", group->id ?: "");
	if (sg_vpc_require(vpc, err) < 0)
		return -err->code;
	group_owner(batch, group->id);
	state = sg_group_ensure(vpc, group->id);
	if (!state->complete)
		create_objects(batch, state);
	for (int direction = 0; direction < SG_DIRECTION_COUNT; direction++) {
		sg_compile(&group->rules[direction], &arena, &compiled[direction]);
		declare_references(vpc, batch, &compiled[direction]);
	}
	change_group(batch, state, compiled, &arena);
	state->complete = true;
	state->doubted = false;
	return 0;
}

// --- Removal ---

static bool refers_to(const struct sg_group_state *group, const char *group_id)
{
	size_t length = strlen(group_id);

	for (int direction = 0; direction < SG_DIRECTION_COUNT; direction++)
		for (size_t i = 0; i < group->rules[direction].reference_count; i++) {
			const char *comment = group->rules[direction].references[i];
			const char *last = strrchr(comment, ' ');

			if (last && strlen(last + 1) == length && strcmp(last + 1, group_id) == 0)
				return true;
		}
	return false;
}

static int check_unused(const struct sg_vpc *vpc, const struct sg_group_state *group,
			struct error *err)
{
	if (group->users)
		return error_set(err, EBUSY, "group %s has members", group->id);
	for (size_t i = 0; i < vpc->groups.count; i++) {
		const struct sg_group_state *other = vpc->groups.items[i];

		if (other != group && refers_to(other, group->id))
			return error_set(err, EBUSY, "group %s is referenced by group %s",
					 group->id, other->id);
	}
	return 0;
}

// Only what is there for certain can be deleted: first everything is made complete.
static void delete_objects(struct nft_batch *batch, const struct sg_group_state *group)
{
	char name[NFT_NAME_SIZE];

	if (!group->complete)
		create_objects(batch, group);
	for (int variant = 0; variant < SG_VARIANT_COUNT; variant++) {
		sg_group_chain_name(group->id, (enum sg_variant)variant, name);
		nft_chain_flush(batch, SG_TABLE, name);
		nft_chain_delete(batch, SG_TABLE, name);
	}
	each_set(batch, group, nft_set_delete);
	for (int direction = 0; direction < SG_DIRECTION_COUNT; direction++)
		delete_interim_sets(batch, group->id, (enum sg_direction)direction,
				    group->interim[direction]);
	sg_group_members_of(group->id, name);
	nft_set_delete(batch, SG_TABLE, name);
}

int sg_group_remove(struct sg_vpc *vpc, struct nft_batch *batch, const char *group_id,
		    struct error *err)
{
	struct sg_group_state *group = sg_index_find(&vpc->groups, group_id);

	if (sg_vpc_require(vpc, err) < 0)
		return -err->code;
	if (!group)
		return 0;
	if (check_unused(vpc, group, err) < 0)
		return -err->code;
	group_owner(batch, group_id);
	delete_objects(batch, group);
	sg_index_take(&vpc->groups, group_id);
	for (int direction = 0; direction < SG_DIRECTION_COUNT; direction++)
		sg_rules_state_release(&group->rules[direction]);
	free(group);
	return 0;
}
