// SPDX-License-Identifier: Apache-2.0
// What the nft provider has in the kernel: copied, changed by plans, read back.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "agent/lb/provider_nft.h"

static void *copy_array(const void *array, size_t count, size_t size)
{
	void *copy = lb_allocate(count, size);

	if (count)
		memcpy(copy, array, count * size);
	return copy;
}

static void group_free(struct lb_nft_served_group *group)
{
	free(group->endpoints);
	free(group);
}

void lb_nft_served_release(struct lb_nft_served *served)
{
	struct lb_nft_served_group *group;

	while ((group = served->groups)) {
		served->groups = group->next;
		group_free(group);
	}
	free(served->services);
	*served = (struct lb_nft_served){0};
}

struct lb_nft_served_group *lb_nft_served_group_find(const struct lb_nft_served *served,
						     const char *id)
{
	struct lb_nft_served_group *group = served->groups;

	while (group && strcmp(group->id, id) != 0)
		group = group->next;
	return group;
}

static void group_add(struct lb_nft_served *served, const char *id,
		      const struct lb_endpoint *endpoints, size_t count)
{
	struct lb_nft_served_group *group = lb_allocate(1, sizeof(*group));

	snprintf(group->id, sizeof(group->id), "%s", id);
	group->endpoints = copy_array(endpoints, count, sizeof(*endpoints));
	group->count = count;
	group->next = served->groups;
	served->groups = group;
}

static bool is_replaced(const struct lb_plan *plan, const char *id)
{
	for (size_t i = 0; i < plan->group_count; i++)
		if (strcmp(plan->groups[i].id, id) == 0)
			return true;
	for (size_t i = 0; i < plan->removed_count; i++)
		if (strcmp(plan->removed[i], id) == 0)
			return true;
	return plan->resync;
}

static void copy_services(const struct lb_plan *plan, struct lb_nft_served *after)
{
	after->services = lb_allocate(plan->service_count, sizeof(*after->services));
	for (size_t i = 0; i < plan->service_count; i++) {
		struct lb_nft_service *service = &after->services[i];

		service->address = plan->services[i].address;
		service->port = plan->services[i].port;
		snprintf(service->group_id, sizeof(service->group_id), "%s",
			 plan->services[i].group_id);
		snprintf(service->balancer_id, sizeof(service->balancer_id), "%s",
			 plan->services[i].balancer_id);
	}
	after->service_count = plan->service_count;
}

void lb_nft_served_after(const struct lb_nft_served *before, const struct lb_plan *plan,
			 struct lb_nft_served *ret_after)
{
	struct lb_nft_served after = {0};

	for (const struct lb_nft_served_group *group = before->groups; group; group = group->next)
		if (!is_replaced(plan, group->id))
			group_add(&after, group->id, group->endpoints, group->count);
	for (size_t i = 0; i < plan->group_count; i++)
		group_add(&after, plan->groups[i].id, plan->groups[i].endpoints,
			  plan->groups[i].count);
	if (plan->services_changed || plan->resync) {
		copy_services(plan, &after);
	} else {
		after.services = copy_array(before->services, before->service_count,
					    sizeof(*before->services));
		after.service_count = before->service_count;
	}
	*ret_after = after;
}

static int read_group(int socket_fd, const char *name, struct lb_nft_served *served,
		      struct error *err)
{
	struct nft_set map = {.table = LB_NFT_TABLE,
			      .name = name,
			      .key = NFT_TYPES(NFT_TYPE_NUMBER),
			      .data = NFT_TYPES(NFT_TYPE_IPV4, NFT_TYPE_PORT)};
	scoped(nft_element_list_release) struct nft_element_list list = {0};
	scoped_free struct lb_endpoint *endpoints = NULL;

	if (nft_elements_dump(socket_fd, &map, &list, err) < 0)
		return -err->code;
	endpoints = lb_allocate(list.count, sizeof(*endpoints));
	for (size_t i = 0; i < list.count; i++)
		endpoints[i] = (struct lb_endpoint){
			.address = nft_value_ipv4_at(&list.elements[i].data, 0),
			.port = nft_value_port_at(&list.elements[i].data, 4),
		};
	group_add(served, name + strlen(LB_NFT_GROUP_PREFIX), endpoints, list.count);
	return 0;
}

int lb_nft_served_read(int netfilter_socket, struct lb_nft_served *ret_served, struct error *err)
{
	scoped(lb_nft_served_release) struct lb_nft_served served = {0};
	scoped_free struct nft_object *sets = NULL;
	size_t count = 0;
	int r = nft_sets_dump(netfilter_socket, LB_NFT_TABLE, &sets, &count, err);

	if (r < 0 && r != -ENOENT)
		return r;
	if (r < 0)
		error_clear(err);
	for (size_t i = 0; i < count; i++)
		if (strncmp(sets[i].name, LB_NFT_GROUP_PREFIX, strlen(LB_NFT_GROUP_PREFIX)) == 0 &&
		    read_group(netfilter_socket, sets[i].name, &served, err) < 0)
			return -err->code;
	*ret_served = served;
	served = (struct lb_nft_served){0};
	return 0;
}
