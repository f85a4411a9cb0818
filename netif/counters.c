// SPDX-License-Identifier: Apache-2.0
// Counters. To dump whole interfaces costs 10 µs each, their statistics alone 1 µs; but
// those name an interface by its index only. So each namespace remembers which ENI has which
// index, learnt from the alias when an index first appears: within a namespace the
// kernel gives an index to one interface only (it counts up to 2^31), and an ENI's
// mark never changes.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "netif/handle.h"

// The host's end receives what the task transmits.
static struct netif_counters counters_of(const char *eni_id, const struct rtnl_link_stats64 *stats)
{
	struct netif_counters counters = {
		.tx_bytes = stats->rx_bytes,
		.tx_packets = stats->rx_packets,
		.tx_dropped = stats->rx_dropped,
		.rx_bytes = stats->tx_bytes,
		.rx_packets = stats->tx_packets,
		.rx_dropped = stats->tx_dropped,
	};

	strncpy(counters.eni_id, eni_id, sizeof(counters.eni_id) - 1);
	return counters;
}

int netif_eni_counters(struct netif *netif, const char *vpc, const char *eni_id,
		       struct netif_counters *ret_counters, struct error *err)
{
	struct netif_namespace *space;
	struct link_info link;
	struct mark mark;
	char name[IFNAMSIZ];
	int found;

	if (namespace_get(netif, vpc, &space, err) < 0)
		return error_wrap(err, "eni %s", eni_id);
	found = link_find(space->rtnl, eni_interface_name(netif->install, eni_id, name),
			  LINK_WITH_STATS, &link, err);
	if (found < 0)
		return error_wrap(err, "eni %s", eni_id);
	mark = mark_parse(found ? link.alias : "");
	if (!mark_matches(&mark, MARK_ENI, netif->install, eni_id))
		return error_set(err, ENOENT, "eni %s: there is no such interface in vpc %s",
				 eni_id, vpc);
	*ret_counters = counters_of(eni_id, &link.stats);
	return 0;
}

static int compare_known(const void *one, const void *other)
{
	const struct known_eni *a = one, *b = other;

	return (a->index > b->index) - (a->index < b->index);
}

// 1 and *ret_known, or 0: no ENI of ours. What is none now (lo, or a veth without a mark
// yet) is not remembered, but asked for again.
static int know(const struct netif *netif, struct netif_namespace *space, int index,
		struct known_eni *ret_known, struct error *err)
{
	const struct known_eni key = {.index = index}, *known = NULL;
	struct link_info link;
	struct mark mark;
	int found;

	if (space->known_count > 0)
		known = bsearch(&key, space->known, space->known_count, sizeof(key), compare_known);
	if (known) {
		*ret_known = *known;
		return 1;
	}
	found = link_find_index(space->rtnl, index, &link, err);
	if (found <= 0)
		return found;
	mark = mark_parse(link.alias);
	if (!mark_matches(&mark, MARK_ENI, netif->install, mark.owner))
		return 0;
	ret_known->index = index;
	memcpy(ret_known->eni_id, mark.owner, sizeof(mark.owner));
	return 1;
}

static void *allocate(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (!memory)
		abort();
	return memory;
}

static int collect(const struct netif *netif, struct netif_namespace *space,
		   const struct link_statistics *statistics, size_t link_count,
		   struct netif_counters *counters, size_t *ret_count, struct error *err)
{
	scoped_free struct known_eni *known = allocate(link_count, sizeof(*known));
	size_t count = 0;

	for (size_t i = 0; i < link_count; i++) {
		int ours = know(netif, space, statistics[i].index, &known[count], err);

		if (ours < 0)
			return ours;
		if (ours == 0)
			continue;
		counters[count] = counters_of(known[count].eni_id, &statistics[i].stats);
		count++;
	}
	// What was not seen this time is gone.
	qsort(known, count, sizeof(*known), compare_known);
	free(space->known);
	space->known = take_ptr(&known);
	space->known_count = count;
	*ret_count = count;
	return 0;
}

int netif_vpc_counters(struct netif *netif, const char *vpc, struct netif_counters **ret_counters,
		       size_t *ret_count, struct error *err)
{
	scoped_free struct link_statistics *statistics = NULL;
	scoped_free struct netif_counters *counters = NULL;
	struct netif_namespace *space;
	size_t link_count;

	if (namespace_get(netif, vpc, &space, err) < 0)
		return -err->code;
	if (link_list_statistics(space->rtnl, &statistics, &link_count, err) < 0)
		return error_wrap(err, "vpc %s", vpc);
	counters = allocate(link_count, sizeof(*counters));
	if (collect(netif, space, statistics, link_count, counters, ret_count, err) < 0)
		return error_wrap(err, "vpc %s", vpc);
	*ret_counters = take_ptr(&counters);
	return 0;
}
