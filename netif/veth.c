// SPDX-License-Identifier: Apache-2.0
// ENIs of tasks without a VM: one end in the VPC, the other is eth0 of a namespace of the
// task's own that nothing but descriptors holds. If the process ends before it hands
// the namespace over, the kernel removes namespace and veth.
//
// The kernel takes an alias only after creation; it takes a link group with it. So the
// interface is born in the group of the unfinished, and gets mark and group 0 at once.
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <string.h>

#include "agent/base/scope.h"
#include "netif/handle.h"
#include "netif/namespace.h"
#include "netif/rtnl.h"

static int make_task_namespace(struct netif *netif, int *ret_fd, struct error *err)
{
	scoped_visit struct namespace_visit visit = NAMESPACE_VISIT(netif->host.fd);
	scoped_fd int fd = -1;

	if (namespace_enter_new(&visit, err) < 0 ||
	    namespace_configure(namespace_ipv6_off, ARRAY_LENGTH(namespace_ipv6_off), err) < 0 ||
	    namespace_open_current(&fd, err) < 0)
		return -err->code;
	*ret_fd = take_fd(&fd);
	return 0;
}

static void put_end(struct nl_msg *message, const char *name, const struct mac_address *mac,
		    unsigned mtu)
{
	rtnl_put_text(message, IFLA_IFNAME, name);
	rtnl_put(message, IFLA_ADDRESS, mac->bytes, sizeof(mac->bytes));
	rtnl_put_u32(message, IFLA_MTU, mtu);
	// One queue by request: from the default, one per CPU, the kernel comes down to one by
	// waiting for RCU.
	rtnl_put_u32(message, IFLA_NUM_TX_QUEUES, 1);
	rtnl_put_u32(message, IFLA_NUM_RX_QUEUES, 1);
}

static int create_pair(struct netif_namespace *space, const struct netif_eni *eni, const char *name,
		       int task_fd, struct error *err)
{
	const struct ifinfomsg header = {0};
	scoped_message struct nl_msg *message =
		rtnl_message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof(header));
	struct nlattr *info, *data, *peer;

	put_end(message, name, &netif_gateway_mac, eni->mtu);
	rtnl_put_u32(message, IFLA_GROUP, UNFINISHED_GROUP);
	info = rtnl_nest(message, IFLA_LINKINFO);
	rtnl_put_text(message, IFLA_INFO_KIND, "veth");
	data = rtnl_nest(message, IFLA_INFO_DATA);
	peer = rtnl_nest(message, VETH_INFO_PEER);
	rtnl_put_header(message, &header, sizeof(header));
	put_end(message, "eth0", &eni->mac, eni->mtu);
	rtnl_put_u32(message, IFLA_NET_NS_FD, (uint32_t)task_fd);
	nla_nest_end(message, peer);
	nla_nest_end(message, data);
	nla_nest_end(message, info);
	if (rtnl_request(space->rtnl, message, err) < 0)
		return error_wrap(err, "create veth %s", name);
	return 0;
}

static int mark_pair(struct netif *netif, struct netif_namespace *space,
		     const struct netif_eni *eni, const char *name, struct error *err)
{
	char alias[LINK_ALIAS_SIZE];

	if (link_change(space->rtnl,
			LINK_CHANGE(.name = name,
				    .alias = mark_format_eni(netif->install, eni->eni_id, alias),
				    .set_group = true),
			err) < 0)
		return error_wrap(err, "mark veth %s", name);
	return 0;
}

int veth_create(struct netif *netif, struct netif_namespace *space, const struct netif_eni *eni,
		const char *name, int *ret_fd, struct error *err)
{
	scoped_fd int task_fd = -1;

	if (make_task_namespace(netif, &task_fd, err) < 0 ||
	    create_pair(space, eni, name, task_fd, err) < 0 ||
	    mark_pair(netif, space, eni, name, err) < 0)
		return -err->code;
	*ret_fd = take_fd(&task_fd);
	return 0;
}
