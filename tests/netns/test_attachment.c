// SPDX-License-Identifier: Apache-2.0
// VPC attachments against the real kernel: out of the host, back again, and what a
// crash leaves on the way.
#include "tests/netns/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/base/scope.h"
#include "netif/inet.h"
#include "netif/link.h"
#include "netif/namespace.h"
#include "netif/rtnl.h"

static const struct ipv4_cidr block = {0x0a000100, 24};
static const struct netif_route all_routes[] = {
	{.destination = {0xac100000, 12}, .via = 0xc0a80702}, // 172.16.0.0/12 via 192.168.7.2
	{.destination = {0xc0a80800, 24}},                    // 192.168.8.0/24 on-link
};
static const struct netif_attachment uplink = {
	.vpc = "prod",
	.interface = "uplink",
	.address = 0xc0a80701, // 192.168.7.1
	.prefix = 24,
	.routes = all_routes,
	.route_count = 2,
};

static struct netif *netif;
static struct nl_sock *host;
static unsigned long home;

static int setup(void **state)
{
	struct error err = {0};

	(void)state;
	assert_ok(rtnl_open(&host, &err), &err);
	assert_ok(netif_open("blue", &netif, &err), &err);
	assert_ok(netif_vpc_create(netif, "prod", &err), &err);
	assert_ok(netif_vpc_create(netif, "test", &err), &err);
	assert_ok(netif_subnet_ensure(netif, "prod", &block, &err), &err);
	cable_create("uplink", "client");
	return 0;
}

static int teardown(void **state)
{
	struct error err = {0};
	struct link_info link;

	(void)state;
	assert_int_equal(namespace_identity(), home);
	assert_ok(netif_eni_delete(netif, "prod", "eni-1", &err), &err);
	assert_ok(netif_attachment_remove(netif, "prod", "uplink", &err), &err);
	assert_ok(netif_vpc_delete(netif, "prod", &err), &err);
	assert_ok(netif_vpc_delete(netif, "test", &err), &err);
	if (link_find(host, "uplink", LINK_WITHOUT_STATS, &link, &err) == 1)
		assert_ok(link_delete(host, link.index, &err), &err);
	netif_close(netif);
	rtnl_close(&host);
	return 0;
}

static bool in_host(struct link_info *ret_link)
{
	struct error err = {0};
	int found = link_find(host, "uplink", LINK_WITHOUT_STATS, ret_link, &err);

	assert_ok(found, &err);
	return found;
}

static void attach(const struct netif_attachment *attachment)
{
	struct error err = {0};

	assert_ok(netif_attachment_ensure(netif, attachment, &err), &err);
	assert_int_equal(namespace_identity(), home);
}

static void test_out_and_back(void **state)
{
	struct link_info link;
	struct error err = {0};

	(void)state;
	assert_ok(link_change(host, LINK_CHANGE(.name = "uplink", .alias = "rack 7 port 3"), &err),
		  &err);
	for (int again = 0; again < 2; again++) {
		attach(&uplink);
		assert_false(in_host(&link));
	}
	assert_int_equal(netif_vpc_delete(netif, "prod", &err), -EBUSY);
	for (int again = 0; again < 2; again++) {
		assert_ok(netif_attachment_remove(netif, "prod", "uplink", &err), &err);
		assert_true(in_host(&link));
		assert_string_equal(link.alias, "rack 7 port 3");
		assert_false(link.up);
	}
}

static void assert_routes(struct nl_sock *socket, int index, size_t wanted)
{
	struct inet_route *routes;
	struct error err = {0};
	size_t count;

	assert_ok(route_list(socket, index, &routes, &count, &err), &err);
	assert_int_equal(count, wanted);
	free(routes);
}

static void test_update(void **state)
{
	const struct netif_route other = {.destination = {0, 0}, .via = 0xc0a80702};
	struct netif_attachment changed = uplink;
	struct inet_address *addresses;
	struct link_info link;
	struct error err = {0};
	size_t count;

	(void)state;
	attach(&uplink);
	__attribute__((cleanup(rtnl_close))) struct nl_sock *inside = rtnl_inside(netif, "prod");
	assert_int_equal(link_find(inside, "uplink", LINK_WITHOUT_STATS, &link, &err), 1);
	assert_true(link.up);
	assert_routes(inside, link.index, 2);
	changed.address = 0xc0a80703;
	changed.prefix = 16;
	changed.routes = &other;
	changed.route_count = 1;
	attach(&changed);
	assert_routes(inside, link.index, 1);
	assert_ok(address_list(inside, link.index, &addresses, &count, &err), &err);
	assert_int_equal(count, 1);
	assert_int_equal(addresses[0].address, 0xc0a80703);
	assert_int_equal(addresses[0].prefix, 16);
	free(addresses);
	changed.route_count = 0;
	attach(&changed);
	assert_routes(inside, link.index, 0);
}

// The client end plays a host outside: packets pass between it and a task both ways.
static void test_packets(void **state)
{
	struct netif_eni eni = {
		.vpc = "prod",
		.eni_id = "eni-1",
		.kind = NETIF_ENI_VETH,
		.address = 0x0a000105,
		.gateway = 0x0a000101,
		.mac = mac_from_eni("eni-1"),
		.mtu = 1500,
	};
	struct inet_address address = {.address = 0xc0a80702, .prefix = 24};
	struct inet_route to_vpc = {
		.destination = {0x0a000000, 16}, .type = RTN_UNICAST, .via = 0xc0a80701};
	struct link_info client;
	struct error err = {0};
	scoped_fd int task_fd = -1, server = -1,
		      here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	scoped_fd int from_client = socket_inside(here, SOCK_STREAM);
	held_fd int outside = server_inside(here, SOCK_STREAM, 7001), from_task = -1;

	(void)state;
	attach(&uplink);
	assert_int_equal(link_find(host, "client", LINK_WITHOUT_STATS, &client, &err), 1);
	address.index = to_vpc.index = client.index;
	assert_ok(address_add(host, &address, &err), &err);
	assert_ok(
		link_change(host, LINK_CHANGE(.index = client.index, .state = LINK_STATE_UP), &err),
		&err);
	assert_ok(route_add(host, &to_vpc, &err), &err);
	assert_ok(netif_eni_create(netif, &eni, &task_fd, &err), &err);
	assert_ok(netif_eni_link(netif, &eni, &err), &err);
	task_configure(task_fd, &eni);
	server = server_inside(task_fd, SOCK_STREAM, 7000);
	assert_int_equal(connect_to(from_client, eni.address, 7000), 0);
	from_task = socket_inside(task_fd, SOCK_STREAM);
	assert_int_equal(connect_to(from_task, 0xc0a80702, 7001), 0);
}

static void test_refused(void **state)
{
	static const struct {
		const char *vpc, *interface;
		int code;
		const char *message;
	} bad[] = {
		{"prod", "nosuch", ENODEV,
		 "attach interface nosuch: the host has no such interface"},
		{"prod", "", EINVAL, "1 to 15 characters are right"},
		{"prod", "a-name-too-long-1", EINVAL, "1 to 15 characters are right"},
		{"none", "uplink", ENOENT, "vpc none: there is no namespace"},
		{"prod", "lo", EBUSY, "vpc prod has another interface of that name"},
		{"test", "uplink", EBUSY, "it is attached to vpc prod: detach it first"},
	};
	struct link_info link;
	struct error err = {0};

	(void)state;
	attach(&uplink);
	for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
		struct netif_attachment attachment = uplink;

		attachment.vpc = bad[i].vpc;
		attachment.interface = bad[i].interface;
		assert_int_equal(netif_attachment_ensure(netif, &attachment, &err), -bad[i].code);
		assert_non_null(strstr(err.message, bad[i].message));
	}
	assert_ok(netif_attachment_remove(netif, "test", "uplink", &err), &err); // not its
	assert_false(in_host(&link));
	assert_ok(netif_attachment_remove(netif, "none", "uplink", &err), &err);
	assert_ok(netif_attachment_remove(netif, "prod", "nosuch", &err), &err);
}

static void test_other_install(void **state)
{
	struct link_info link;
	struct error err = {0};

	(void)state;
	assert_ok(link_change(host,
			      LINK_CHANGE(.name = "uplink",
					  .alias = "penstock green attachment prod uplink"),
			      &err),
		  &err);
	assert_int_equal(netif_attachment_ensure(netif, &uplink, &err), -EBUSY);
	assert_non_null(
		strstr(err.message, "it belongs to attachment of vpc prod of install green"));
	assert_ok(netif_attachment_remove(netif, "prod", "uplink", &err), &err);
	assert_true(in_host(&link));
	assert_string_equal(link.alias, "penstock green attachment prod uplink");
}

static size_t count_attachments(const char *vpc)
{
	struct netif_object *objects;
	struct error err = {0};
	size_t count, found = 0;

	assert_ok(netif_inventory(netif, &objects, &count, &err), &err);
	for (size_t i = 0; i < count; i++)
		found += objects[i].kind == NETIF_OBJECT_ATTACHMENT &&
			 strcmp(objects[i].vpc, vpc) == 0 && strcmp(objects[i].owner, "prod") == 0;
	free(objects);
	return found;
}

// The agent died after the mark and before the move, or between the move back and the unmarking.
static void test_crash_in_host(void **state)
{
	const char *marked = "penstock blue attachment prod uplink was rack 7";
	struct link_info link;
	struct error err = {0};

	(void)state;
	assert_ok(link_change(host, LINK_CHANGE(.name = "uplink", .alias = marked), &err), &err);
	assert_int_equal(count_attachments(""), 1);
	attach(&uplink); // forward
	assert_false(in_host(&link));
	assert_int_equal(count_attachments("prod"), 1);
	assert_ok(netif_attachment_remove(netif, "prod", "uplink", &err), &err);
	assert_true(in_host(&link));
	assert_string_equal(link.alias, "rack 7");
	assert_ok(link_change(host, LINK_CHANGE(.name = "uplink", .alias = marked), &err), &err);
	assert_ok(netif_attachment_remove(netif, "prod", "uplink", &err), &err); // back
	assert_true(in_host(&link));
	assert_string_equal(link.alias, "rack 7");
	assert_int_equal(count_attachments(""), 0);
}

// After the move, before anything was configured.
static void test_crash_inside(void **state)
{
	scoped_fd int there = -1;
	struct link_info link;
	struct error err = {0};

	(void)state;
	assert_ok(link_change(host,
			      LINK_CHANGE(.name = "uplink",
					  .alias = "penstock blue attachment prod uplink"),
			      &err),
		  &err);
	assert_true(in_host(&link));
	assert_ok(netif_vpc_open(netif, "prod", &there, &err), &err);
	assert_ok(link_move(host, link.index, there, &err), &err);
	attach(&uplink);
	__attribute__((cleanup(rtnl_close))) struct nl_sock *inside = rtnl_inside(netif, "prod");
	assert_int_equal(link_find(inside, "uplink", LINK_WITHOUT_STATS, &link, &err), 1);
	assert_true(link.up);
	assert_routes(inside, link.index, 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_out_and_back), TEST(test_update),        TEST(test_packets),
		TEST(test_refused),      TEST(test_other_install), TEST(test_crash_in_host),
		TEST(test_crash_inside),
	};

	sandbox_enter();
	home = namespace_identity();
	return cmocka_run_group_tests_name("attachment", tests, NULL, NULL);
}
