// SPDX-License-Identifier: Apache-2.0
// Hearing of changes to links, addresses, routes and neighbours. What changed is not read: a change
// is only the reason to look at everything again.
#include <errno.h>
#include <linux/filter.h>
#include <linux/rtnetlink.h>
#include <stddef.h>
#include <sys/socket.h>

#include "agent/base/scope.h"
#include "netif/handle.h"
#include "netif/namespace.h"

enum { DRAIN_MAX = 1024 }; // messages; whoever sends more is drained again in the next turn

// Two kinds of events are filtered out in the kernel, since they come with every task or guest:
// - what our own socket did, where the kernel says so: of routes, addresses and neighbours on all
//   kernels, of links since 6.2. A tap made by ioctl, and the local route that comes with an
//   address, are nobody's.
// - neighbours that the kernel resolved, or did not: a guest makes as many of them as it likes.
static int attach_filter(int fd, uint32_t own_port, struct error *err)
{
	enum { STATE = sizeof(struct nlmsghdr) + offsetof(struct ndmsg, ndm_state) };
	struct sock_filter code[] = {
		// Loads turn the host's order into the network's.
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_pid)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(own_port), 5, 0),
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_type)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_NEWNEIGH), 0, 2),
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, STATE),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(NUD_PERMANENT), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	const struct sock_fprog program = {.len = ARRAY_LENGTH(code), .filter = code};

	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0)
		return error_errno(err, "filter rtnetlink notifications");
	return 0;
}

static int open_watch(const int *groups, size_t count, uint32_t own_port, int *ret_fd,
		      struct error *err)
{
	static const struct sockaddr_nl any = {.nl_family = AF_NETLINK};
	scoped_fd int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0)
		return error_errno(err, "rtnetlink socket");
	if (attach_filter(fd, own_port, err) < 0)
		return -err->code;
	if (bind(fd, (const struct sockaddr *)&any, sizeof(any)) < 0)
		return error_errno(err, "bind rtnetlink socket");
	for (size_t i = 0; i < count; i++)
		if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i],
			       sizeof(groups[i])) < 0)
			return error_errno(err, "listen to rtnetlink group %d", groups[i]);
	*ret_fd = take_fd(&fd);
	return 0;
}

int netif_watch_open(struct netif *netif, const char *vpc, int *ret_fd, struct error *err)
{
	static const int groups[] = {RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE,
				     RTNLGRP_NEIGH};
	scoped_visit struct namespace_visit visit = NAMESPACE_VISIT(netif->host.fd);
	struct netif_namespace *space = &netif->host;

	if (vpc && (namespace_get(netif, vpc, &space, err) < 0 ||
		    namespace_enter(&visit, space->fd, err) < 0))
		return -err->code;
	return open_watch(groups, vpc ? ARRAY_LENGTH(groups) : 1,
			  nl_socket_get_local_port(space->rtnl), ret_fd, err);
}

bool netif_watch_drain(int fd)
{
	bool any = false;
	char byte;

	for (int i = 0; i < DRAIN_MAX; i++) {
		if (recv(fd, &byte, sizeof(byte), MSG_DONTWAIT | MSG_TRUNC) < 0 &&
		    errno != ENOBUFS && errno != EINTR)
			break;
		any = true;
	}
	return any;
}
