// SPDX-License-Identifier: Apache-2.0
// Netlink sockets for nf_tables: for requests, and to hear of what others change.
#include <linux/filter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stddef.h>
#include <sys/socket.h>

#include "agent/base/scope.h"
#include "netif/namespace.h"
#include "netif/nft_internal.h"

static int socket_new(int *ret_fd, struct error *err)
{
	static const struct sockaddr_nl any = {.nl_family = AF_NETLINK};
	scoped_fd int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);

	if (fd < 0)
		return error_errno(err, "netfilter socket");
	if (bind(fd, (const struct sockaddr *)&any, sizeof(any)) < 0)
		return error_errno(err, "bind netfilter socket");
	// Errors come without a copy of what was refused.
	setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &(int){1}, sizeof(int));
	*ret_fd = take_fd(&fd);
	return 0;
}

int nft_socket_open(int netns_fd, int *ret_fd, struct error *err)
{
	scoped_fd int home = -1;

	if (netns_fd < 0)
		return socket_new(ret_fd, err);
	if (namespace_open_current(&home, err) < 0)
		return -err->code;
	scoped_visit struct namespace_visit visit = NAMESPACE_VISIT(home);
	if (namespace_enter(&visit, netns_fd, err) < 0)
		return -err->code;
	return socket_new(ret_fd, err);
}

// --- Hearing of changes ---

// Of all that is said of a transaction only its end passes, and only of transactions of others:
// what we do ourselves never fills the socket.
static int pass_ends_of_others(int fd, uint32_t own_port, struct error *err)
{
	enum { NEW_GENERATION = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN };
	struct sock_filter code[] = {
		// loads turn the host's order into the network's
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_type)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(NEW_GENERATION), 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_pid)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(own_port), 1, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	const struct sock_fprog program = {.len = ARRAY_LENGTH(code), .filter = code};

	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0)
		return error_errno(err, "filter nf_tables notifications");
	return 0;
}

int nft_watch_open(int netns_fd, int own_socket, int *ret_fd, struct error *err)
{
	scoped_fd int fd = -1;
	struct sockaddr_nl own = {0};
	socklen_t length = sizeof(own);
	int group = NFNLGRP_NFTABLES;

	if (getsockname(own_socket, (struct sockaddr *)&own, &length) < 0)
		return error_errno(err, "port of the netfilter socket");
	if (nft_socket_open(netns_fd, &fd, err) < 0 || pass_ends_of_others(fd, own.nl_pid, err) < 0)
		return -err->code;
	if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
		return error_errno(err, "listen to nf_tables");
	*ret_fd = take_fd(&fd);
	return 0;
}

bool nft_socket_drain(int socket_fd)
{
	bool any = false;
	char byte;

	while (recv(socket_fd, &byte, sizeof(byte), MSG_DONTWAIT | MSG_TRUNC) >= 0 ||
	       errno == ENOBUFS || errno == EINTR)
		any = true;
	return any;
}
