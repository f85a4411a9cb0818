// SPDX-License-Identifier: Apache-2.0
// What the files of sg share: names of kernel objects and the mirror of a VPC's table.
#pragma once

#include "sg/sg.h"

#define SG_TABLE            "penstock"
#define SG_INTERFACE_PREFIX "ps" // of every ENI's interface, and of nothing else in a VPC

enum { SG_LABEL_SIZE = SG_ID_SIZE + 16 };

// --- Pure ---

enum sg_kind sg_rule_kind(const struct sg_rule *rule);
void sg_element_list_sort(struct sg_element_list *list);

// --- Constant objects (table.c) ---

extern const struct nft_set sg_eni_source;           // interface . MAC . address
extern const struct nft_set sg_eni_router;           // interface . router's address
extern const struct nft_set sg_eni_combination;      // interface -> combination
extern const struct nft_set sg_eni_drops;            // interface . reason, counters
extern const struct nft_set sg_balancer_combination; // balancer's address -> combination

// Chains of a group or combination. Both kinds of ingress use the same sets of a group.
enum sg_variant {
	SG_VARIANT_INGRESS,
	SG_VARIANT_BALANCED, // ingress behind a balancer, whose address counts as the peer
	SG_VARIANT_EGRESS,
	SG_VARIANT_COUNT
};
const char *sg_variant_name(enum sg_variant variant); // "ingress", "balanced", "egress"
enum sg_direction sg_variant_direction(enum sg_variant variant);
// combination -> verdict
extern const struct nft_set sg_combination_chains[SG_VARIANT_COUNT];

struct sg_vpc;
// Everything that each VPC has: adds what is missing, writes constant chains again.
void sg_table_build(struct nft_batch *batch, const struct sg_vpc *vpc);
// Of each ENI; 0: none.
void sg_table_limit_connections(struct nft_batch *batch, uint32_t limit);

// The chains that drop, one for each reason (drop_chains.c): "drop_<reason>".
void sg_drop_chains_add(struct nft_batch *batch);
void sg_drop_chains_fill(struct nft_batch *batch);

// Reasons that are counted for each ENI; in marks and keys a reason is its number + 1.
bool sg_drop_reason_is_of_eni(enum sg_drop_reason reason);
enum { SG_ENI_DROP_REASONS = 8 };

// --- Objects of groups (group.c) ---

enum sg_group_object {
	SG_GROUP_CHAINS = SG_VARIANT_COUNT,
	SG_GROUP_OBJECTS =
		SG_GROUP_CHAINS + 1, // and the set of members; the other sets come and stay
	SG_GROUP_SETS = SG_DIRECTION_COUNT * SG_KIND_COUNT, // at most
};

void sg_group_chain_name(const char *group_id, enum sg_variant variant, char name[NFT_NAME_SIZE]);
// Of the sets of one kind and direction: the one that is there as long as the group, and one that
// is there during a change, see group.c.
enum sg_set_life { SG_SET_LASTING, SG_SET_INTERIM };
// Description of a set; its name is written to `name`, which the result points to.
struct nft_set sg_group_set_of(const char *group_id, enum sg_direction direction, enum sg_kind kind,
			       enum sg_set_life life, char name[NFT_NAME_SIZE]);
struct nft_set sg_group_members_of(const char *group_id, char name[NFT_NAME_SIZE]);
// "group_<id>_..." -> id and what follows it; false for other names.
bool sg_group_name_split(const char *name, char ret_id[SG_ID_SIZE], const char **ret_rest);
// Of what follows the id: which set it is; false for other sets.
bool sg_group_set_parse(const char *rest, enum sg_direction *ret_direction, enum sg_kind *ret_kind,
			enum sg_set_life *ret_life);

struct sg_element sg_element_from_nft(enum sg_kind kind, const struct nft_element *element);
void sg_element_to_nft(const struct sg_element *element, struct nft_element *ret_element);

// nft_elements_add or nft_elements_delete.
typedef void sg_elements_operation(struct nft_batch *batch, const struct nft_set *set,
				   const struct nft_element *elements, size_t count);
// Of a sorted list, each into the set of its kind.
void sg_group_send_elements(struct nft_batch *batch, const char *group_id,
			    enum sg_direction direction, enum sg_set_life life,
			    const struct sg_element_list *list, sg_elements_operation *operation);
// What the kernel has of a reference as its comment; two that say the same are the same. free() it.
char *sg_reference_comment(const struct sg_rule *reference);
// One rule behind those that the chain has: of a set, of a reference.
void sg_group_add_kind(struct nft_batch *batch, const char *group_id, enum sg_variant variant,
		       enum sg_kind kind, enum sg_set_life life);
void sg_group_add_reference(struct nft_batch *batch, const char *group_id, enum sg_variant variant,
			    const struct sg_rule *reference);
struct sg_group_state;
// Empties the chain and writes all of its rules.
void sg_group_write_chain(struct nft_batch *batch, const struct sg_group_state *group,
			  enum sg_variant variant, const struct sg_compiled *compiled);

// --- The mirror ---

// Items sorted by the id they begin with; owned by the index.
struct sg_index {
	void **items;
	size_t count, capacity;
};

void *sg_index_find(const struct sg_index *index, const char *id);
void sg_index_add(struct sg_index *index, void *item);
void *sg_index_take(struct sg_index *index, const char *id); // the caller owns it; NULL: not there

// One direction of a group as the kernel has it.
struct sg_rules_state {
	struct sg_element_list elements; // sorted; rule ids are allocated each
	char **references;               // comments of the reference rules, in order
	size_t reference_count;
};

struct sg_group_state {
	char id[SG_ID_SIZE];
	bool complete; // false: only referenced so far, or damaged
	bool doubted;  // its rules are as many as they should be, and may be another's
	// 1 << sg_kind: the sets that are there. Each has its rule in the chains of its direction.
	unsigned kinds[SG_DIRECTION_COUNT];
	unsigned interim[SG_DIRECTION_COUNT]; // likewise: left by a change that did not end
	struct sg_rules_state rules[SG_DIRECTION_COUNT];
	size_t users;        // combinations
	size_t object_count; // seen by the loader
	size_t rule_counts[SG_VARIANT_COUNT];
};

struct sg_combination {
	uint32_t number;
	size_t group_count;
	char groups[SG_GROUPS_PER_ENI_MAX][SG_ID_SIZE]; // sorted
	size_t users;                                   // members
	bool complete;
	size_t chain_count, verdict_count, rule_counts[SG_VARIANT_COUNT]; // seen by the loader
	bool misled; // likewise: a rule does not jump to a group
};

// An ENI or a balancer.
struct sg_member_state {
	char id[SG_ID_SIZE];
	bool balancer;
	bool complete;
	char interface[IFNAMSIZ]; // "" of a balancer
	struct mac_address mac;
	uint32_t address, router;
	struct sg_combination *combination;
	size_t element_count, membership_count; // seen by the loader
	bool misplaced;                         // likewise: in the set of a group it is not in
};

struct sg_vpc {
	char *install, *id;
	struct sg_index groups, members, balancers;
	struct sg_combination **combinations; // in no order
	size_t combination_count, combination_capacity;
	uint32_t last_number;
	uint32_t connection_limit; // of each ENI; 0: none
	bool unread;               // nothing of this is known: reload failed
};

void *sg_allocate(size_t size);
char *sg_strdup(const char *text);
void sg_rules_state_release(struct sg_rules_state *state);
struct sg_group_state *sg_group_ensure(struct sg_vpc *vpc, const char *id);
void sg_vpc_clear(struct sg_vpc *vpc);
int sg_vpc_require(const struct sg_vpc *vpc, struct error *err); // -ESTALE while it is unread

// --- Combinations (combination.c) ---

void sg_combination_chain_name(uint32_t number, enum sg_variant variant, char name[NFT_NAME_SIZE]);
bool sg_combination_name_parse(const char *name, uint32_t *ret_number,
			       enum sg_variant *ret_variant);
struct sg_combination *sg_combination_find(const struct sg_vpc *vpc, uint32_t number);
struct sg_combination *sg_combination_new(struct sg_vpc *vpc, uint32_t number);
void sg_combination_add_group(struct sg_combination *combination, const char *group_id);
bool sg_combination_has(const struct sg_combination *combination, const char *group_id);
bool sg_combination_equals(const struct sg_combination *combination, const char *const *groups,
			   size_t count);
// The combination of exactly these groups, with one user more, made if it is new.
int sg_combination_take(struct sg_vpc *vpc, struct nft_batch *batch, const char *const *groups,
			size_t count, struct sg_combination **ret_combination, struct error *err);
// The current owner of the batch stands and falls with it.
void sg_combination_depend(struct nft_batch *batch, const struct sg_combination *combination);
// One user less; removed with the last one.
void sg_combination_drop(struct sg_vpc *vpc, struct nft_batch *batch,
			 struct sg_combination *combination, const char *member_label);

// --- Members (member.c) ---

// "eni <id>" or "balancer <id>": owner of operations and comment of elements.
void sg_member_label(const struct sg_member_state *member, char label[SG_LABEL_SIZE]);

// --- Loading (load.c) ---

// Fills the (empty) mirror from the kernel.
int sg_vpc_load(struct sg_vpc *vpc, int netfilter_socket, struct error *err);
// Removes members that are incomplete and combinations nobody uses. 1: the mirror is to be read
// again.
int sg_vpc_mend(const struct sg_vpc *vpc, int netfilter_socket, struct error *err);
