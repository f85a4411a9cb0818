// SPDX-License-Identifier: Apache-2.0
// The steps eni, policy and link of one task, by the same calls as agent/task/steps.c: a
// tap for the VMM, or with the netns driver a veth. The latter's namespace is made inside
// `eni`: that is timed too.
#include <errno.h>
#include <stdio.h>

#include "agent/base/scope.h"
#include "netif/netif.h"
#include "sg/sg.h"
#include "tests/bench/plumber.h"

enum { ENIS_MAX = 4096, NAME_SIZE = 64 };

static const char *const install = "bench", *const vpc_id = "bench", *const group_id = "web";

struct penstock {
	struct netif *netif;
	struct sg_vpc *policy;
	enum netif_eni_kind kind;
	int fds[ENIS_MAX]; // the tap, or what keeps the task's namespace alive
};

static struct netif_eni eni_of(enum netif_eni_kind kind, unsigned index, char eni_id[NAME_SIZE])
{
	snprintf(eni_id, NAME_SIZE, "eni-%u", index);
	return (struct netif_eni){.vpc = vpc_id,
				  .eni_id = eni_id,
				  .kind = kind,
				  .address = UINT32_C(0x0a4d0004) + index, // 10.77.0.4 on
				  .gateway = UINT32_C(0x0a4d0001),
				  .mac = mac_from_eni(eni_id),
				  .mtu = 1500};
}

static int commit(struct penstock *penstock, struct nft_batch *batch, struct error *err)
{
	int socket_fd;

	if (netif_netfilter_socket(penstock->netif, vpc_id, &socket_fd, err) < 0 ||
	    sg_vpc_commit(penstock->policy, batch, socket_fd, err) < 0)
		return -err->code;
	if (nft_batch_failure_count(batch) > 0)
		return error_set(err, EIO, "the kernel refused a part of the policy");
	return 0;
}

static int add(void *context, unsigned index, struct error *err)
{
	scoped(nft_batch_release) struct nft_batch *batch = nft_batch_new();
	struct penstock *penstock = context;
	char eni_id[NAME_SIZE], interface[IFNAMSIZ];
	struct netif_eni eni = eni_of(penstock->kind, index, eni_id);
	struct sg_member member = {.eni_id = eni_id,
				   .interface = eni_interface_name(install, eni_id, interface),
				   .mac = eni.mac,
				   .address = eni.address,
				   .router = eni.gateway,
				   .groups = &group_id,
				   .group_count = 1};

	if (index >= ENIS_MAX)
		return error_set(err, EINVAL, "no more than %d tasks", ENIS_MAX);
	if (netif_eni_create(penstock->netif, &eni, &penstock->fds[index], err) < 0 ||
	    sg_member_set(penstock->policy, batch, &member, err) < 0 ||
	    commit(penstock, batch, err) < 0)
		return -err->code;
	return netif_eni_link(penstock->netif, &eni, err);
}

static int delete (void *context, unsigned index, struct error *err)
{
	scoped(nft_batch_release) struct nft_batch *batch = nft_batch_new();
	struct penstock *penstock = context;
	char eni_id[NAME_SIZE];

	eni_of(penstock->kind, index, eni_id);
	if (netif_eni_delete(penstock->netif, vpc_id, eni_id, err) < 0 ||
	    sg_member_remove(penstock->policy, batch, eni_id, err) < 0)
		return -err->code;
	close_fd(&penstock->fds[index]);
	return commit(penstock, batch, err);
}

// As a stop does it: links down and policies out at once, then the reaper deletes by group.
static int delete_many(void *context, unsigned first, unsigned count, struct error *err)
{
	scoped(nft_batch_release) struct nft_batch *batch = nft_batch_new();
	struct penstock *penstock = context;
	char eni_id[NAME_SIZE];

	for (unsigned index = first; index < first + count; index++) {
		eni_of(penstock->kind, index, eni_id);
		if (netif_eni_unlink(penstock->netif, vpc_id, eni_id, err) < 0 ||
		    sg_member_remove(penstock->policy, batch, eni_id, err) < 0 ||
		    netif_eni_retire(penstock->netif, vpc_id, eni_id, err) < 0)
			return -err->code;
		close_fd(&penstock->fds[index]);
	}
	if (commit(penstock, batch, err) < 0)
		return -err->code;
	return netif_reap(penstock->netif, vpc_id, err);
}

static int make_group(struct penstock *penstock, struct error *err)
{
	static const struct sg_rule web = {.id = "1",
					   .protocol = IPPROTO_TCP,
					   .from_port = 80,
					   .to_port = 80,
					   .cidr = {.base = 0, .prefix = 0}};
	static const struct sg_rule all = {.id = "2", .protocol = SG_PROTOCOL_ALL};
	const struct sg_group group = {.id = group_id, .rules = {{&web, 1}, {&all, 1}}};
	scoped(nft_batch_release) struct nft_batch *batch = nft_batch_new();

	if (sg_group_set(penstock->policy, batch, &group, err) < 0)
		return -err->code;
	return commit(penstock, batch, err);
}

int penstock_plumber_open(enum netif_eni_kind kind, struct plumber *ret_plumber, struct error *err)
{
	static struct penstock penstock;
	const struct ipv4_cidr block = {.base = UINT32_C(0x0a4d0000), .prefix = 16};
	int socket_fd;

	penstock.kind = kind;
	if (netif_open(install, &penstock.netif, err) < 0 ||
	    netif_vpc_create(penstock.netif, vpc_id, err) < 0 ||
	    netif_subnet_ensure(penstock.netif, vpc_id, &block, err) < 0 ||
	    netif_netfilter_socket(penstock.netif, vpc_id, &socket_fd, err) < 0 ||
	    sg_vpc_open(install, vpc_id, socket_fd, &penstock.policy, err) < 0 ||
	    make_group(&penstock, err) < 0)
		return error_wrap(err, "penstock");
	*ret_plumber = (struct plumber){.name = kind == NETIF_ENI_TAP ? "plumb_tap" : "plumb",
					.context = &penstock,
					.add = add,
					.delete = delete,
					.delete_many = delete_many};
	return 0;
}
