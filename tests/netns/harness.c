// SPDX-License-Identifier: Apache-2.0
#include "tests/netns/harness.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "agent/base/scope.h"
#include "netif/inet.h"
#include "netif/link.h"
#include "netif/namespace.h"
#include "netif/rtnl.h"

enum { DEADLINE_MS = 60000 }; // bounds a hang

void sandbox_enter(void)
{
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0) {
		fprintf(stderr, "SKIPPED: needs root to make namespaces: %m\n");
		exit(EXIT_SKIPPED);
	}
	if (mount("", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", "/run", "tmpfs", 0, "mode=0755") < 0) {
		fprintf(stderr, "cannot make a private /run: %m\n");
		exit(EXIT_FAILURE);
	}
}

size_t descriptor_count(void)
{
	scoped_directory DIR *directory = opendir("/proc/self/fd");
	size_t count = 0;

	assert_non_null(directory);
	while (readdir(directory))
		count++;
	return count;
}

unsigned long namespace_identity(void)
{
	struct stat status;

	assert_int_equal(stat("/proc/thread-self/ns/net", &status), 0);
	return status.st_ino;
}

static int home_fd(void)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

struct nl_sock *rtnl_inside(struct netif *netif, const char *vpc)
{
	scoped_fd int home = home_fd(), there = -1;
	scoped_visit struct namespace_visit visit = NAMESPACE_VISIT(home);
	struct nl_sock *socket;
	struct error err = {0};

	assert_ok(netif_vpc_open(netif, vpc, &there, &err), &err);
	assert_ok(namespace_enter(&visit, there, &err), &err);
	assert_ok(rtnl_open(&socket, &err), &err);
	return socket;
}

void cable_create(const char *one, const char *other)
{
	const struct ifinfomsg header = {0};
	__attribute__((cleanup(rtnl_close))) struct nl_sock *socket = NULL;
	scoped_message struct nl_msg *message =
		rtnl_message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof(header));
	struct nlattr *info, *data, *peer;
	struct error err = {0};

	rtnl_put_text(message, IFLA_IFNAME, one);
	info = rtnl_nest(message, IFLA_LINKINFO);
	rtnl_put_text(message, IFLA_INFO_KIND, "veth");
	data = rtnl_nest(message, IFLA_INFO_DATA);
	peer = rtnl_nest(message, VETH_INFO_PEER);
	rtnl_put_header(message, &header, sizeof(header));
	rtnl_put_text(message, IFLA_IFNAME, other);
	nla_nest_end(message, peer);
	nla_nest_end(message, data);
	nla_nest_end(message, info);
	assert_ok(rtnl_open(&socket, &err), &err);
	assert_ok(rtnl_request(socket, message, &err), &err);
}

// The kernel lets packets out of a link a moment after its carrier came, from a work queue; until
// then it drops them without a word.
void wait_running(int namespace_fd, const char *interface)
{
	scoped_fd int fd = socket_inside(namespace_fd, SOCK_DGRAM);
	struct ifreq request = {0};

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", interface);
	for (int waited_ms = 0; !(request.ifr_flags & IFF_RUNNING); waited_ms++) {
		assert_in_range(waited_ms, 0, DEADLINE_MS);
		if (waited_ms > 0)
			poll(NULL, 0, 1);
		assert_int_equal(ioctl(fd, SIOCGIFFLAGS, &request), 0);
	}
}

static void configure_eth0(struct nl_sock *socket, const struct netif_eni *eni)
{
	struct error err = {0};
	struct link_info eth0;
	struct inet_address address = {.address = eni->address, .prefix = 32};
	struct inet_route gateway = {.destination = {eni->gateway, 32}, .type = RTN_UNICAST};
	struct inet_route all = {.type = RTN_UNICAST, .via = eni->gateway};

	assert_int_equal(link_find(socket, "eth0", LINK_WITHOUT_STATS, &eth0, &err), 1);
	assert_true(eth0.up);
	assert_int_equal(eth0.mtu, eni->mtu);
	assert_memory_equal(&eth0.mac, &eni->mac, sizeof(eth0.mac));
	address.index = gateway.index = all.index = eth0.index;
	assert_ok(link_change(socket, LINK_CHANGE(.index = 1, .state = LINK_STATE_UP), &err), &err);
	assert_ok(
		link_change(socket, LINK_CHANGE(.index = eth0.index, .state = LINK_STATE_UP), &err),
		&err);
	assert_ok(address_add(socket, &address, &err), &err);
	assert_ok(neighbour_set(socket, eth0.index, eni->gateway, &netif_gateway_mac, &err), &err);
	assert_ok(route_add(socket, &gateway, &err), &err);
	assert_ok(route_add(socket, &all, &err), &err);
}

void task_configure(int task_fd, const struct netif_eni *eni)
{
	scoped_fd int home = home_fd();
	scoped_visit struct namespace_visit visit = NAMESPACE_VISIT(home);
	__attribute__((cleanup(rtnl_close))) struct nl_sock *socket = NULL;
	struct error err = {0};

	assert_ok(namespace_enter(&visit, task_fd, &err), &err);
	assert_ok(rtnl_open(&socket, &err), &err);
	configure_eth0(socket, eni);
}

struct netif_eni eni_of(enum netif_eni_kind kind, const char *id, uint32_t address)
{
	return (struct netif_eni){
		.vpc = "prod",
		.eni_id = id,
		.kind = kind,
		.address = address,
		.gateway = (address & 0xffffff00) + 1,
		.mac = mac_from_eni(id),
		.mtu = 1450,
		.owner_uid = 70001,
	};
}

int eni_make(struct netif *netif, const struct netif_eni *eni)
{
	unsigned long before = namespace_identity();
	struct error err = {0};
	int fd = -1;

	assert_ok(netif_eni_create(netif, eni, &fd, &err), &err);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(namespace_identity(), before);
	return fd;
}

unsigned eni_faults(struct netif *netif, const struct netif_eni *eni)
{
	struct error err = {0};
	unsigned faults = 0;

	assert_ok(netif_eni_check(netif, eni, &faults, &err), &err);
	return faults;
}

int task_start(struct netif *netif, const struct netif_eni *eni)
{
	char interface[IFNAMSIZ];
	scoped_fd int vpc_fd = -1;
	struct error err = {0};
	int task_fd = eni_make(netif, eni);

	assert_ok(netif_eni_link(netif, eni, &err), &err);
	task_configure(task_fd, eni);
	assert_ok(netif_vpc_open(netif, eni->vpc, &vpc_fd, &err), &err);
	wait_running(vpc_fd, eni_interface_name("blue", eni->eni_id, interface));
	assert_int_equal(eni_faults(netif, eni), 0);
	return task_fd;
}

int socket_inside(int namespace_fd, int type)
{
	scoped_fd int home = home_fd();
	scoped_visit struct namespace_visit visit = NAMESPACE_VISIT(home);
	struct error err = {0};
	int fd;

	assert_ok(namespace_enter(&visit, namespace_fd, &err), &err);
	fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(fd >= 0);
	return fd;
}

int server_inside(int namespace_fd, int type, unsigned short port)
{
	const struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket_inside(namespace_fd, type);

	assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 8), 0);
	return fd;
}

void wait_for(int fd, short events)
{
	struct pollfd wanted = {.fd = fd, .events = events};

	assert_int_equal(poll(&wanted, 1, DEADLINE_MS), 1);
}

int connect_to(int fd, uint32_t address, unsigned short port)
{
	const struct sockaddr_in peer = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(address),
	};
	int code = 0;
	socklen_t size = sizeof(code);

	if (connect(fd, (const struct sockaddr *)&peer, sizeof(peer)) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return -errno;
	wait_for(fd, POLLOUT);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size), 0);
	return -code;
}

int accept_from(int listener, struct sockaddr_in *ret_peer)
{
	struct sockaddr_in peer = {0};
	socklen_t size = sizeof(peer);
	int fd;

	wait_for(listener, POLLIN);
	fd = accept4(listener, (struct sockaddr *)&peer, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
	assert_true(fd >= 0);
	if (ret_peer)
		*ret_peer = peer;
	return fd;
}
