// SPDX-License-Identifier: Apache-2.0
#include "netif/link.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

#include "netif/rtnl.h"

static struct nla_policy link_policy[IFLA_MAX + 1] = {
	[IFLA_IFNAME] = {.type = NLA_STRING, .maxlen = IFNAMSIZ},
	[IFLA_MTU] = {.type = NLA_U32},
	[IFLA_GROUP] = {.type = NLA_U32},
	[IFLA_CARRIER] = {.type = NLA_U8},
	[IFLA_LINKINFO] = {.type = NLA_NESTED},
};

static struct nla_policy kind_policy[IFLA_INFO_MAX + 1] = {
	[IFLA_INFO_KIND] = {.type = NLA_STRING},
};

static void copy_text(char *place, size_t size, const struct nlattr *attribute)
{
	if (attribute)
		nla_strlcpy(place, attribute, size);
}

static void parse_kind(struct link_info *link, struct nlattr *attribute)
{
	struct nlattr *info[IFLA_INFO_MAX + 1];

	if (attribute && nla_parse_nested(info, IFLA_INFO_MAX, attribute, kind_policy) == 0)
		copy_text(link->kind, sizeof(link->kind), info[IFLA_INFO_KIND]);
}

static void parse_stats(struct rtnl_link_stats64 *stats, const struct nlattr *attribute)
{
	size_t size = attribute ? (size_t)nla_len(attribute) : 0;

	// The struct grows with the kernel: take what both know.
	if (size > sizeof(*stats))
		size = sizeof(*stats);
	if (size > 0)
		memcpy(stats, nla_data(attribute), size);
}

static int parse_link(const struct nlmsghdr *reply, struct link_info *ret_link, struct error *err)
{
	struct nlattr *found[IFLA_MAX + 1];
	const struct ifinfomsg *header = nlmsg_data(reply);
	struct link_info link = {0};

	if (nlmsg_parse((struct nlmsghdr *)reply, sizeof(*header), found, IFLA_MAX, link_policy) <
	    0)
		return error_set(err, EBADMSG, "interface: a malformed reply");
	link.index = header->ifi_index;
	link.up = header->ifi_flags & IFF_UP;
	link.carrier = found[IFLA_CARRIER] && nla_get_u8(found[IFLA_CARRIER]);
	link.mtu = found[IFLA_MTU] ? nla_get_u32(found[IFLA_MTU]) : 0;
	link.group = found[IFLA_GROUP] ? nla_get_u32(found[IFLA_GROUP]) : 0;
	copy_text(link.name, sizeof(link.name), found[IFLA_IFNAME]);
	copy_text(link.alias, sizeof(link.alias), found[IFLA_IFALIAS]);
	parse_kind(&link, found[IFLA_LINKINFO]);
	parse_stats(&link.stats, found[IFLA_STATS64]);
	if (found[IFLA_ADDRESS] && nla_len(found[IFLA_ADDRESS]) == (int)sizeof(link.mac.bytes))
		memcpy(link.mac.bytes, nla_data(found[IFLA_ADDRESS]), sizeof(link.mac.bytes));
	*ret_link = link;
	return 0;
}

static struct nl_msg *link_query(int index, enum link_stats stats)
{
	struct ifinfomsg header = {.ifi_index = index};
	struct nl_msg *message = rtnl_message(RTM_GETLINK, 0, &header, sizeof(header));

	if (stats == LINK_WITHOUT_STATS)
		rtnl_put_u32(message, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	return message;
}

static int take_one(const struct nlmsghdr *reply, void *context, struct error *err)
{
	return parse_link(reply, context, err);
}

static int find(struct nl_sock *socket, struct nl_msg *message, struct link_info *ret_link,
		struct error *err)
{
	int result = rtnl_query(socket, message, take_one, ret_link, err);

	if (result == -ENODEV) {
		error_clear(err);
		return 0;
	}
	return result < 0 ? result : 1;
}

int link_find(struct nl_sock *socket, const char *name, enum link_stats stats,
	      struct link_info *ret_link, struct error *err)
{
	scoped_message struct nl_msg *message = link_query(0, stats);
	int result;

	rtnl_put_text(message, IFLA_IFNAME, name);
	result = find(socket, message, ret_link, err);
	return result < 0 ? error_wrap(err, "interface %s", name) : result;
}

int link_find_index(struct nl_sock *socket, int index, struct link_info *ret_link,
		    struct error *err)
{
	scoped_message struct nl_msg *message = link_query(index, LINK_WITHOUT_STATS);
	int result = find(socket, message, ret_link, err);

	return result < 0 ? error_wrap(err, "interface %d", index) : result;
}

static int take_link(const struct nlmsghdr *reply, void *context, struct error *err)
{
	return parse_link(reply, rtnl_array_next(context), err);
}

int link_list(struct nl_sock *socket, struct link_info **ret_links, size_t *ret_count,
	      struct error *err)
{
	scoped_message struct nl_msg *message = link_query(0, LINK_WITHOUT_STATS);
	struct rtnl_array array = {.item_size = sizeof(struct link_info)};

	if (rtnl_dump(socket, message, take_link, &array, err) < 0)
		return error_wrap(err, "list interfaces");
	*ret_links = array.items;
	*ret_count = array.count;
	return 0;
}

static int take_statistics(const struct nlmsghdr *reply, void *context, struct error *err)
{
	const struct if_stats_msg *header = nlmsg_data(reply);
	struct link_statistics *statistics = rtnl_array_next(context);
	struct nlattr *found[IFLA_STATS_MAX + 1];

	if (nlmsg_parse((struct nlmsghdr *)reply, sizeof(*header), found, IFLA_STATS_MAX, NULL) < 0)
		return error_set(err, EBADMSG, "statistics: a malformed reply");
	*statistics = (struct link_statistics){.index = (int)header->ifindex};
	parse_stats(&statistics->stats, found[IFLA_STATS_LINK_64]);
	return 0;
}

int link_list_statistics(struct nl_sock *socket, struct link_statistics **ret_statistics,
			 size_t *ret_count, struct error *err)
{
	struct if_stats_msg header = {.filter_mask = IFLA_STATS_FILTER_BIT(IFLA_STATS_LINK_64)};
	scoped_message struct nl_msg *message =
		rtnl_message(RTM_GETSTATS, 0, &header, sizeof(header));
	struct rtnl_array array = {.item_size = sizeof(struct link_statistics)};

	if (rtnl_dump(socket, message, take_statistics, &array, err) < 0)
		return error_wrap(err, "list statistics");
	*ret_statistics = array.items;
	*ret_count = array.count;
	return 0;
}

int link_change(struct nl_sock *socket, const struct link_change *change, struct error *err)
{
	struct ifinfomsg header = {.ifi_index = change->index};
	scoped_message struct nl_msg *message = NULL;

	if (change->state != LINK_STATE_KEEP)
		header.ifi_change = IFF_UP;
	if (change->state == LINK_STATE_UP)
		header.ifi_flags = IFF_UP;
	message = rtnl_message(RTM_SETLINK, 0, &header, sizeof(header));
	if (change->index == 0)
		rtnl_put_text(message, IFLA_IFNAME, change->name);
	if (change->mtu > 0)
		rtnl_put_u32(message, IFLA_MTU, change->mtu);
	if (change->alias)
		rtnl_put(message, IFLA_IFALIAS, change->alias, strlen(change->alias));
	if (change->mac)
		rtnl_put(message, IFLA_ADDRESS, change->mac->bytes, sizeof(change->mac->bytes));
	if (change->set_group)
		rtnl_put_u32(message, IFLA_GROUP, change->group);
	return rtnl_request(socket, message, err);
}

int link_move(struct nl_sock *socket, int index, int namespace_fd, struct error *err)
{
	struct ifinfomsg header = {.ifi_index = index};
	scoped_message struct nl_msg *message =
		rtnl_message(RTM_SETLINK, 0, &header, sizeof(header));

	rtnl_put_u32(message, IFLA_NET_NS_FD, (uint32_t)namespace_fd);
	return rtnl_request(socket, message, err);
}

static int delete_links(struct nl_sock *socket, struct nl_msg *message, struct error *err)
{
	int result = rtnl_request(socket, message, err);

	if (result == -ENODEV) {
		error_clear(err);
		return 0;
	}
	return result < 0 ? error_wrap(err, "delete interfaces") : 0;
}

int link_delete(struct nl_sock *socket, int index, struct error *err)
{
	struct ifinfomsg header = {.ifi_index = index};
	scoped_message struct nl_msg *message =
		rtnl_message(RTM_DELLINK, 0, &header, sizeof(header));

	return delete_links(socket, message, err);
}

int link_delete_group(struct nl_sock *socket, uint32_t group, struct error *err)
{
	scoped_message struct nl_msg *message =
		rtnl_message(RTM_DELLINK, 0, &(struct ifinfomsg){0}, sizeof(struct ifinfomsg));

	rtnl_put_u32(message, IFLA_GROUP, group);
	return delete_links(socket, message, err);
}
