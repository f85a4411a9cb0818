// SPDX-License-Identifier: Apache-2.0
#include "tests/netns/sg_table.h"

#include <stdio.h>

#include "agent/base/scope.h"

static const struct sg_rule everything = {.id = "out/0", .protocol = -1};
const struct sg_rule web = {
	.id = "in/0", .protocol = 6, .from_port = 80, .to_port = 443, .cidr = {0x0a000000, 8}};
const struct sg_rule from_web = {.id = "in/0", .protocol = -1, .group_id = "sg-web"};

int netfilter = -1;
struct sg_vpc *vpc;
struct nft_batch *batch;

void open_vpc(void)
{
	struct error err = {0};

	sg_vpc_close(vpc);
	vpc = NULL;
	assert_ok(sg_vpc_open("blue", "prod", netfilter, &vpc, &err), &err);
}

int table_setup(void **state)
{
	struct error err = {0};

	(void)state;
	sandbox_enter();
	assert_ok(nft_socket_open(-1, &netfilter, &err), &err);
	open_vpc();
	batch = nft_batch_new();
	return 0;
}

int table_teardown(void **state)
{
	(void)state;
	sg_vpc_close(vpc);
	vpc = NULL;
	nft_batch_free(batch);
	close_fd(&netfilter);
	return 0;
}

size_t commit(void)
{
	struct error err = {0};
	size_t failures;

	assert_ok(sg_vpc_commit(vpc, batch, netfilter, &err), &err);
	failures = nft_batch_failure_count(batch);
	nft_batch_free(batch);
	batch = nft_batch_new();
	return failures;
}

void add_group(const char *id, const struct sg_rule *ingress)
{
	const struct sg_group group = {.id = id,
				       .rules = {{ingress, ingress ? 1 : 0}, {&everything, 1}}};
	struct error err = {0};

	assert_ok(sg_group_set(vpc, batch, &group, &err), &err);
}

const char *const web_only[] = {"sg-web"}, *const web_and_db[] = {"sg-web", "sg-db"};

void name_member(struct named_member *named, unsigned n, const char *const *groups, size_t count)
{
	snprintf(named->id, sizeof(named->id), "eni-%u", n);
	eni_interface_name("blue", named->id, named->interface);
	named->member = (struct sg_member){.eni_id = named->id,
					   .interface = named->interface,
					   .mac = mac_from_eni(named->id),
					   .address = 0x0a000000 + n,
					   .router = 0x0a000001,
					   .groups = groups,
					   .group_count = count};
}

void add_member(const struct named_member *named)
{
	struct error err = {0};

	assert_ok(sg_member_set(vpc, batch, &named->member, &err), &err);
}

void remove_member(const char *id)
{
	struct error err = {0};

	assert_ok(sg_member_remove(vpc, batch, id, &err), &err);
}

void count_objects(size_t *ret_chains, size_t *ret_sets, size_t *ret_rules)
{
	scoped_free struct nft_object *chains = NULL, *sets = NULL;
	scoped_free struct nft_rule_info *rules = NULL;
	struct error err = {0};

	assert_ok(nft_chains_dump(netfilter, "penstock", &chains, ret_chains, &err), &err);
	assert_ok(nft_sets_dump(netfilter, "penstock", &sets, ret_sets, &err), &err);
	assert_ok(nft_rules_dump(netfilter, "penstock", NULL, &rules, ret_rules, &err), &err);
}

void take_from_map(const char *interface)
{
	static const struct nft_set map = {.table = "penstock",
					   .name = "eni_combination",
					   .key = {{NFT_TYPE_IFNAME}},
					   .data = {{NFT_TYPE_MARK}}};
	scoped(nft_batch_release) struct nft_batch *damage = nft_batch_new();
	struct nft_element element = {0};
	struct error err = {0};

	nft_value_add_ifname(&element.key, interface);
	nft_elements_delete(damage, &map, &element, 1);
	assert_ok(nft_batch_send(damage, netfilter, &err), &err);
	assert_int_equal(nft_batch_failure_count(damage), 0);
}
