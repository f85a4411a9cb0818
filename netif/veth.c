// SPDX-License-Identifier: Apache-2.0
// ENIs of tasks without a VM: one end in the VPC, the other is eth0 of a namespace of the
// task's own that nothing but descriptors holds. If the process ends before it hands
// the namespace over, the kernel removes namespace and veth.
//
// The kernel takes an alias only after creation; it takes a link group with it. So the
// interface is born in the group of the unfinished, and gets mark and group 0 at once.
//
// IPv6: eth0 gets no address of its own accord, and its peer in the VPC takes no packet of it.
// To turn it off by the new namespace's /proc/sys would cost a millisecond at 1,000 tasks: the
// kernel keeps the entries of all namespaces in one hash chain.
//
// The order of going up: when one end goes up and finds its peer up, both get their carrier in that
// moment. If the end in the VPC went up first, the kernel would leave both without a queue until
// its linkwatch runs, once a second, and drop what is sent meanwhile: of 80 tasks, 25 started a
// second later, because the first SYN-ACK to penstock-init was lost. So eth0 goes up right here,
// before its peer does at netif_eni_link(). Without its peer it has no carrier, and it has no
// address yet: it sends nothing before the policy is committed.
#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <string.h>

#include "agent/base/scope.h"
#include "netif/handle.h"
#include "netif/namespace.h"
#include "netif/rtnl.h"

struct task_namespace {
	int fd;
	struct nl_sock *rtnl;
};

static void task_namespace_release(struct task_namespace *task)
{
	rtnl_close(&task->rtnl);
	close_fd(&task->fd);
}

static int make_task_namespace(struct netif *netif, struct task_namespace *task, struct error *err)
{
	scoped_visit struct namespace_visit visit = NAMESPACE_VISIT(netif->host.fd);

	if (namespace_enter_new(&visit, err) < 0 || namespace_open_current(&task->fd, err) < 0)
		return -err->code;
	return rtnl_open(&task->rtnl, err);
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

// No link-local address, hence no solicitation of neighbours and routers either.
static int withhold_ipv6(struct nl_sock *task_rtnl, struct error *err)
{
	const struct ifinfomsg header = {0};
	scoped_message struct nl_msg *message =
		rtnl_message(RTM_SETLINK, 0, &header, sizeof(header));
	struct nlattr *families, *inet6;
	int result;

	rtnl_put_text(message, IFLA_IFNAME, "eth0");
	families = rtnl_nest(message, IFLA_AF_SPEC);
	inet6 = rtnl_nest(message, AF_INET6);
	rtnl_put_u8(message, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	nla_nest_end(message, inet6);
	nla_nest_end(message, families);
	result = rtnl_request(task_rtnl, message, err);
	if (result == -EAFNOSUPPORT) { // no IPv6, in this kernel or with this MTU
		error_clear(err);
		return 0;
	}
	return result < 0 ? error_wrap(err, "withhold IPv6 from eth0") : 0;
}

static int raise_eth0(struct nl_sock *task_rtnl, struct error *err)
{
	if (link_change(task_rtnl, LINK_CHANGE(.name = "eth0", .state = LINK_STATE_UP), err) < 0)
		return error_wrap(err, "set eth0 up");
	return 0;
}

int veth_create(struct netif *netif, struct netif_namespace *space, const struct netif_eni *eni,
		const char *name, int *ret_fd, struct error *err)
{
	scoped(task_namespace_release) struct task_namespace task = {.fd = -1};

	if (make_task_namespace(netif, &task, err) < 0 ||
	    create_pair(space, eni, name, task.fd, err) < 0 || withhold_ipv6(task.rtnl, err) < 0 ||
	    raise_eth0(task.rtnl, err) < 0 || mark_pair(netif, space, eni, name, err) < 0)
		return -err->code;
	*ret_fd = take_fd(&task.fd);
	return 0;
}
