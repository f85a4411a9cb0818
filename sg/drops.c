// SPDX-License-Identifier: Apache-2.0
// Counters of dropped packets.
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "sg/internal.h"

static int drops_compare(const void *left, const void *right)
{
	const struct sg_drops *one = left, *other = right;

	return strcmp(one->eni_id, other->eni_id);
}

// Each element becomes an entry with one reason: entries of one ENI are then united.
static size_t read_elements(const struct nft_element_list *list, struct sg_drops *drops)
{
	size_t count = 0;

	for (size_t i = 0; i < list->count; i++) {
		const struct nft_element *element = &list->elements[i];
		uint32_t reason;

		memcpy(&reason, element->key.bytes + IFNAMSIZ, sizeof(reason));
		if (reason == 0 || reason > SG_DROP_REASON_COUNT ||
		    strncmp(element->comment, "eni ", 4) != 0)
			continue;
		memcpy(drops[count].eni_id, element->comment + 4,
		       strnlen(element->comment + 4, SG_ID_SIZE - 1));
		drops[count].packets[reason - 1] = element->packets;
		drops[count].bytes[reason - 1] = element->bytes;
		count++;
	}
	return count;
}

static size_t unite(struct sg_drops *drops, size_t count)
{
	size_t last = 0;

	for (size_t i = 1; i < count; i++) {
		if (strcmp(drops[last].eni_id, drops[i].eni_id) != 0) {
			drops[++last] = drops[i];
			continue;
		}
		for (int reason = 0; reason < SG_DROP_REASON_COUNT; reason++) {
			drops[last].packets[reason] += drops[i].packets[reason];
			drops[last].bytes[reason] += drops[i].bytes[reason];
		}
	}
	return count ? last + 1 : 0;
}

int sg_eni_drops_read(int netfilter_socket, struct sg_drops **ret_drops, size_t *ret_count,
		      struct error *err)
{
	scoped(nft_element_list_release) struct nft_element_list list = {0};
	struct sg_drops *drops;
	size_t count;

	if (nft_elements_dump(netfilter_socket, &sg_eni_drops, &list, err) < 0)
		return -err->code;
	drops = sg_allocate(list.count * sizeof(*drops));
	count = read_elements(&list, drops);
	qsort(drops, count, sizeof(*drops), drops_compare);
	*ret_drops = drops;
	*ret_count = unite(drops, count);
	return 0;
}

int sg_vpc_drops_read(int netfilter_socket, struct sg_drops *ret_drops, struct error *err)
{
	scoped_free struct nft_object *counters = NULL;
	size_t count;

	if (nft_counters_dump(netfilter_socket, SG_TABLE, &counters, &count, err) < 0)
		return -err->code;
	*ret_drops = (struct sg_drops){0};
	for (size_t i = 0; i < count; i++)
		for (int reason = 0; reason < SG_DROP_REASON_COUNT; reason++) {
			if (strcmp(counters[i].name,
				   sg_drop_reason_name((enum sg_drop_reason)reason)) != 0)
				continue;
			ret_drops->packets[reason] = counters[i].packets;
			ret_drops->bytes[reason] = counters[i].bytes;
		}
	return 0;
}
