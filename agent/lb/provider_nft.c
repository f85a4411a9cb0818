// SPDX-License-Identifier: Apache-2.0
// The nft provider. Theory of operation, in nft's words:
//
//   table inet penstock_lb {
//     map services { type inet_proto . ipv4_addr . inet_service : verdict    # VIP -> its group
//                    elements = { tcp . 10.0.1.9 . 80 : goto group-web } }
//     map group-web { type integer : ipv4_addr . inet_service                # in service
//                     elements = { 0 : 10.0.1.5 . 8080, 1 : 10.0.1.6 . 8080 } }
//     set hairpin { type ipv4_addr . ipv4_addr }                             # each of them, twice
//     chain prerouting  { type nat hook prerouting priority dstnat;  ... vmap @services }
//     chain output      { type nat hook output priority dstnat;      ... vmap @services }
//     chain group-web   { meta l4proto tcp dnat ip to numgen inc mod 2 map @group-web }
//     chain postrouting { type nat hook postrouting priority srcnat;
//                         ct status dnat ip saddr . ip daddr @hairpin goto hairpin }
//     chain hairpin     { ct original ip daddr 10.0.1.9 snat ip to 10.0.1.9 }
//   }
//
// NAT chains see the first packet of a connection only: conntrack carries on with it,
// whatever becomes of these rules. A resize replaces one map and then one rule, so each new
// connection meets either the old targets or the new ones: the map has an element for each number
// that the rule before or after may draw.
//
// A target that calls its own VIP and is chosen would see its own address as the source
// and answer itself directly; its connection is given the VIP as the source instead.
#include "agent/lb/provider_nft.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"

struct lb_provider {
	struct netif *netif;
	char *vpc_id;
	char comment[NFT_COMMENT_SIZE]; // of the table
	struct lb_nft_served served;
};

static void provider_close(struct lb_provider *provider)
{
	if (!provider)
		return;
	lb_nft_served_release(&provider->served);
	free(provider->vpc_id);
	free(provider);
}

static void provider_release(struct lb_provider **provider)
{
	provider_close(*provider);
}

static int provider_open(struct netif *netif, const char *vpc_id, struct lb_provider **ret_provider,
			 struct error *err)
{
	scoped(provider_release) struct lb_provider *provider = lb_allocate(1, sizeof(*provider));
	int socket_fd;

	provider->netif = netif;
	provider->vpc_id = strdup(vpc_id);
	if (!provider->vpc_id)
		abort();
	snprintf(provider->comment, sizeof(provider->comment), "penstock %s vpc %s balancing",
		 netif_install(netif), vpc_id);
	if (netif_netfilter_socket(netif, vpc_id, &socket_fd, err) < 0 ||
	    lb_nft_served_read(socket_fd, &provider->served, err) < 0)
		return -err->code;
	*ret_provider = take_ptr(&provider);
	return 0;
}

static bool provider_serves(const struct lb_provider *provider, const char *group_id,
			    const struct lb_endpoint *endpoint)
{
	const struct lb_nft_served_group *group =
		lb_nft_served_group_find(&provider->served, group_id);

	for (size_t i = 0; group && i < group->count; i++)
		if (group->endpoints[i].address == endpoint->address &&
		    group->endpoints[i].port == endpoint->port)
			return true;
	return false;
}

static int provider_apply(struct lb_provider *provider, const struct lb_plan *plan,
			  struct error *err)
{
	scoped(nft_batch_release) struct nft_batch *batch = nft_batch_new();
	scoped(lb_nft_served_release) struct lb_nft_served after = {0};
	const struct error *failure;
	int socket_fd;

	lb_nft_served_after(&provider->served, plan, &after);
	lb_nft_plan_batch(&provider->served, &after, plan->resync ? provider->comment : NULL,
			  batch);
	if (netif_netfilter_socket(provider->netif, provider->vpc_id, &socket_fd, err) < 0 ||
	    nft_batch_send(batch, socket_fd, err) < 0)
		return -err->code;
	failure = nft_batch_failure(batch, LB_NFT_TABLE);
	if (failure)
		return error_set(err, failure->code, "%s", failure->message);
	lb_nft_served_release(&provider->served);
	provider->served = after;
	after = (struct lb_nft_served){0};
	return 0;
}

static int provider_count_start(struct lb_provider *provider, int *ret_fd, struct error *err)
{
	return netif_connections_start(provider->netif, provider->vpc_id, ret_fd, err);
}

const struct lb_provider_ops lb_provider_nft = {
	.name = "nft",
	.open = provider_open,
	.close = provider_close,
	.serves = provider_serves,
	.apply = provider_apply,
	.count_start = provider_count_start,
	.count_step = netif_connections_step,
};
