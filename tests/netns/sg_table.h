// SPDX-License-Identifier: Apache-2.0
// A VPC's table without a VPC, for tests: the kernel takes names of interfaces as they come.
#pragma once

#include "tests/netns/harness.h"

#include "sg/sg.h"

extern int netfilter;
extern struct sg_vpc *vpc;
extern struct nft_batch *batch; // of the moment

// A namespace of its own for each test.
int table_setup(void **state);
int table_teardown(void **state);

// As another process would after a crash.
void open_vpc(void);
// Commits what was added and starts a new batch; returns the number of owners that failed.
size_t commit(void);

extern const struct sg_rule web, from_web; // ingress: by CIDR, and by group sg-web
// With one ingress rule (or none) and all egress.
void add_group(const char *id, const struct sg_rule *ingress);

struct named_member {
	char id[SG_ID_SIZE], interface[IFNAMSIZ];
	struct sg_member member;
};

extern const char *const web_only[1], *const web_and_db[2]; // lists of groups

// The n-th ENI; `named` must stay where it is.
void name_member(struct named_member *named, unsigned n, const char *const *groups, size_t count);
void add_member(const struct named_member *named);
void remove_member(const char *id);

// All chains, sets and rules of the table.
void count_objects(size_t *ret_chains, size_t *ret_sets, size_t *ret_rules);
// Somebody else takes the element of this interface out of eni_combination.
void take_from_map(const char *interface);
