// SPDX-License-Identifier: Apache-2.0
// The life of ENIs against the real kernel, crashes included.
#include "tests/netns/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "agent/base/file.h"
#include "agent/base/scope.h"
#include "netif/link.h"
#include "netif/namespace.h"
#include "netif/rtnl.h"

enum { UNLINKED = NETIF_ENI_DOWN | NETIF_ENI_NO_NEIGHBOUR | NETIF_ENI_NO_ROUTE };

static const struct ipv4_cidr block_one = {0x0a000100, 24}, block_two = {0x0a000200, 24};

static struct netif *netif;
static unsigned long home;

// Each test begins with one VPC of two subnets, and with nothing else.
static int setup(void **state)
{
	struct error err = {0};

	(void)state;
	assert_ok(netif_open("blue", &netif, &err), &err);
	assert_ok(netif_vpc_create(netif, "prod", &err), &err);
	assert_ok(netif_subnet_ensure(netif, "prod", &block_one, &err), &err);
	assert_ok(netif_subnet_ensure(netif, "prod", &block_two, &err), &err);
	return 0;
}

static int teardown(void **state)
{
	struct netif_object *objects;
	struct error err = {0};
	size_t count;

	(void)state;
	assert_ok(netif_inventory(netif, &objects, &count, &err), &err);
	for (size_t i = count; i-- > 0;) // VPCs come before what is in them
		assert_ok(netif_object_delete(netif, &objects[i], &err), &err);
	free(objects);
	assert_ok(netif_inventory(netif, &objects, &count, &err), &err);
	assert_int_equal(count, 0);
	free(objects);
	netif_close(netif);
	assert_int_equal(namespace_identity(), home);
	return 0;
}

static struct link_info interface_of(const struct netif_eni *eni)
{
	__attribute__((cleanup(rtnl_close))) struct nl_sock *socket = rtnl_inside(netif, eni->vpc);
	struct link_info link;
	struct error err = {0};
	char name[IFNAMSIZ];

	eni_interface_name("blue", eni->eni_id, name);
	assert_int_equal(link_find(socket, name, LINK_WITH_STATS, &link, &err), 1);
	return link;
}

// --- TAP ENIs ---

static void test_tap_life(void **state)
{
	struct netif_eni eni = eni_of(NETIF_ENI_TAP, "eni-1", 0x0a000105);
	struct link_info link;
	struct ifreq request = {0};
	struct error err = {0};
	held_fd int tap_fd = eni_make(netif, &eni);

	(void)state;
	assert_int_equal(ioctl(tap_fd, TUNGETIFF, &request), 0);
	assert_int_equal(request.ifr_flags & (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR),
			 IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	link = interface_of(&eni);
	assert_string_equal(link.alias, "penstock blue eni-1");
	assert_int_equal(link.mtu, 1450);
	assert_memory_equal(&link.mac, &netif_gateway_mac, sizeof(link.mac));
	assert_int_equal(eni_faults(netif, &eni), UNLINKED);
	for (int again = 0; again < 2; again++) {
		assert_ok(netif_eni_link(netif, &eni, &err), &err);
		assert_int_equal(eni_faults(netif, &eni), 0);
	}
	for (int again = 0; again < 2; again++) {
		assert_ok(netif_eni_unlink(netif, "prod", "eni-1", &err), &err);
		assert_int_equal(eni_faults(netif, &eni), UNLINKED);
	}
	for (int again = 0; again < 2; again++) {
		assert_ok(netif_eni_retire(netif, "prod", "eni-1", &err), &err);
		assert_int_equal(eni_faults(netif, &eni), UNLINKED | NETIF_ENI_DYING);
		assert_int_equal(netif_eni_link(netif, &eni, &err), -ENOENT);
	}
	for (int again = 0; again < 2; again++) {
		assert_ok(netif_reap(netif, "prod", &err), &err);
		assert_int_equal(eni_faults(netif, &eni), NETIF_ENI_MISSING);
	}
}

static void test_tap_after_crash(void **state)
{
	struct netif_eni eni = eni_of(NETIF_ENI_TAP, "eni-1", 0x0a000105);
	struct error err = {0};
	int tap_fd = eni_make(netif, &eni), index = interface_of(&eni).index, second;

	(void)state;
	assert_ok(netif_eni_link(netif, &eni, &err), &err);
	// The shim still holds it: nothing may be taken away, nor put down.
	assert_int_equal(netif_eni_create(netif, &eni, &second, &err), -EBUSY);
	assert_int_equal(eni_faults(netif, &eni), 0);
	// The agent died with the only descriptor: the tap is still there, and is taken again.
	close(tap_fd);
	netif_close(netif);
	assert_ok(netif_open("blue", &netif, &err), &err);
	assert_int_equal(eni_faults(netif, &eni), NETIF_ENI_DETACHED);
	eni.mtu = 9000;
	assert_int_equal(eni_faults(netif, &eni), NETIF_ENI_DETACHED | NETIF_ENI_WRONG);
	tap_fd = eni_make(netif, &eni);
	assert_int_equal(interface_of(&eni).index, index);
	assert_int_equal(eni_faults(netif, &eni), UNLINKED);
	assert_ok(netif_eni_link(netif, &eni, &err), &err);
	assert_int_equal(eni_faults(netif, &eni), 0);
	close(tap_fd);
	// A retired one is made anew.
	assert_ok(netif_eni_retire(netif, "prod", "eni-1", &err), &err);
	tap_fd = eni_make(netif, &eni);
	assert_int_not_equal(interface_of(&eni).index, index);
	assert_int_equal(eni_faults(netif, &eni), UNLINKED);
	close(tap_fd);
	assert_ok(netif_eni_delete(netif, "prod", "eni-1", &err), &err);
	assert_int_equal(eni_faults(netif, &eni), NETIF_ENI_MISSING);
}

// The owner may attach, but nobody else.
static void test_tap_owner(void **state)
{
	struct netif_eni eni = eni_of(NETIF_ENI_TAP, "eni-1", 0x0a000105);
	held_fd int tap_fd = eni_make(netif, &eni);
	struct ifreq request = {0};
	scoped_free char *owner = NULL;
	char path[64];
	struct error err = {0};
	scoped_fd int there = -1, here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_int_equal(ioctl(tap_fd, TUNGETIFF, &request), 0);
	assert_ok(netif_vpc_open(netif, "prod", &there, &err), &err);
	{
		scoped_visit struct namespace_visit visit = NAMESPACE_VISIT(here);
		char directory[] = "/run/sysfs";

		// /sys shows the namespace that mounted it.
		assert_ok(namespace_enter(&visit, there, &err), &err);
		assert_int_equal(mkdir(directory, 0755), 0);
		assert_int_equal(mount("sysfs", directory, "sysfs", 0, NULL), 0);
		snprintf(path, sizeof(path), "%s/class/net/%s/owner", directory, request.ifr_name);
		assert_ok(file_read(AT_FDCWD, path, 64, &owner, NULL, &err), &err);
		assert_string_equal(owner, "70001\n");
		assert_int_equal(umount2(directory, MNT_DETACH), 0);
		assert_int_equal(rmdir(directory), 0);
	}
}

static void test_foreign_interface(void **state)
{
	__attribute__((cleanup(rtnl_close))) struct nl_sock *socket = rtnl_inside(netif, "prod");
	struct netif_eni eni = eni_of(NETIF_ENI_TAP, "eni-1", 0x0a000105);
	char name[IFNAMSIZ];
	struct error err = {0};
	int tap_fd = eni_make(netif, &eni), fd;

	(void)state;
	eni_interface_name("blue", "eni-1", name);
	assert_ok(link_change(socket, LINK_CHANGE(.name = name, .alias = "penstock green eni-1"),
			      &err),
		  &err);
	assert_int_equal(eni_faults(netif, &eni), NETIF_ENI_FOREIGN);
	assert_int_equal(netif_eni_create(netif, &eni, &fd, &err), -EEXIST);
	assert_non_null(strstr(err.message, "belongs to eni eni-1 of install green"));
	assert_int_equal(netif_eni_link(netif, &eni, &err), -EEXIST);
	assert_ok(netif_eni_retire(netif, "prod", "eni-1", &err), &err); // not ours: nothing to do
	assert_ok(netif_eni_delete(netif, "prod", "eni-1", &err), &err);
	assert_ok(link_change(socket, LINK_CHANGE(.name = name, .alias = ""), &err), &err);
	assert_int_equal(eni_faults(netif, &eni), NETIF_ENI_FOREIGN);
	assert_ok(link_change(socket, LINK_CHANGE(.name = name, .alias = "penstock blue eni-1"),
			      &err),
		  &err);
	assert_int_equal(eni_faults(netif, &eni), UNLINKED);
	close(tap_fd);
}

static void test_address_taken(void **state)
{
	struct netif_eni one = eni_of(NETIF_ENI_TAP, "eni-1", 0x0a000105),
			 two = eni_of(NETIF_ENI_TAP, "eni-2", 0x0a000105);
	held_fd int one_fd = eni_make(netif, &one), two_fd = eni_make(netif, &two);
	struct error err = {0};

	(void)state;
	assert_ok(netif_eni_link(netif, &one, &err), &err);
	assert_int_equal(netif_eni_link(netif, &two, &err), -EADDRINUSE);
	assert_non_null(strstr(err.message, "eni eni-2: 10.0.1.5 is routed to another interface"));
	assert_int_equal(eni_faults(netif, &one), 0);
	assert_int_equal(eni_faults(netif, &two), NETIF_ENI_NO_ROUTE);
}

static void test_veth_after_crash(void **state)
{
	struct netif_eni eni = eni_of(NETIF_ENI_VETH, "eni-1", 0x0a000105);
	struct error err = {0};
	int task_fd = task_start(netif, &eni), index = interface_of(&eni).index;

	(void)state;
	// The shim lives and holds the namespace, the agent has lost its descriptor.
	scoped_fd int again_fd = eni_make(netif, &eni);
	assert_int_not_equal(interface_of(&eni).index, index);
	assert_int_equal(eni_faults(netif, &eni), UNLINKED);
	assert_ok(netif_eni_link(netif, &eni, &err), &err);
	task_configure(again_fd, &eni);
	assert_int_equal(eni_faults(netif, &eni), 0);
	close(task_fd);
	assert_int_equal(eni_faults(netif, &eni), 0);
}

// A crash between the creation of a veth and its marking, with the task namespace kept alive.
static void test_veth_unfinished(void **state)
{
	__attribute__((cleanup(rtnl_close))) struct nl_sock *socket = rtnl_inside(netif, "prod");
	struct netif_eni eni = eni_of(NETIF_ENI_VETH, "eni-1", 0x0a000105);
	struct netif_object *objects;
	struct error err = {0};
	char name[IFNAMSIZ];
	size_t count, enis = 0;
	int task_fd = eni_make(netif, &eni), again_fd;

	(void)state;
	eni_interface_name("blue", "eni-1", name);
	assert_ok(link_change(socket,
			      LINK_CHANGE(.name = name, .alias = "", .set_group = true,
					  .group = NETIF_DYING_GROUP + 1),
			      &err),
		  &err);
	assert_int_equal(eni_faults(netif, &eni), UNLINKED | NETIF_ENI_WRONG);
	assert_ok(netif_inventory(netif, &objects, &count, &err), &err);
	for (size_t i = 0; i < count; i++)
		enis += objects[i].kind == NETIF_OBJECT_ENI && strcmp(objects[i].name, name) == 0;
	assert_int_equal(enis, 1);
	free(objects);
	again_fd = eni_make(netif, &eni);
	assert_int_equal(eni_faults(netif, &eni), UNLINKED);
	close(task_fd);
	close(again_fd);
}

// The kernel gives it no address of its own accord ("1": none).
static void test_veth_without_ipv6(void **state)
{
	static const char path[] = "/proc/sys/net/ipv6/conf/eth0/addr_gen_mode";
	struct netif_eni eni = eni_of(NETIF_ENI_VETH, "eni-1", 0x0a000105);
	held_fd int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	held_fd int task_fd = task_start(netif, &eni);
	scoped_visit struct namespace_visit visit = NAMESPACE_VISIT(here);
	scoped_free char *mode = NULL;
	struct error err = {0};

	(void)state;
	assert_ok(namespace_enter(&visit, task_fd, &err), &err);
	assert_ok(file_read(AT_FDCWD, path, 64, &mode, NULL, &err), &err);
	assert_string_equal(mode, "1\n");
}

static struct link_info eth0_of(int task_fd)
{
	held_fd int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	scoped_visit struct namespace_visit visit = NAMESPACE_VISIT(here);
	__attribute__((cleanup(rtnl_close))) struct nl_sock *socket = NULL;
	struct link_info link;
	struct error err = {0};

	assert_ok(namespace_enter(&visit, task_fd, &err), &err);
	assert_ok(rtnl_open(&socket, &err), &err);
	assert_int_equal(link_find(socket, "eth0", LINK_WITHOUT_STATS, &link, &err), 1);
	return link;
}

// The task's end is up before the VPC's end: see veth.c. Until the VPC's end goes up, which is
// after the policy is committed, it has no carrier, and no packet passes.
static void test_veth_end_of_the_task_is_up_first(void **state)
{
	struct netif_eni eni = eni_of(NETIF_ENI_VETH, "eni-1", 0x0a000105);
	held_fd int task_fd = eni_make(netif, &eni);
	struct link_info eth0 = eth0_of(task_fd);
	struct error err = {0};

	(void)state;
	assert_true(eth0.up && !eth0.carrier);
	assert_false(interface_of(&eni).up);
	assert_ok(netif_eni_link(netif, &eni, &err), &err);
	assert_true(eth0_of(task_fd).carrier && interface_of(&eni).carrier);
	assert_ok(netif_eni_unlink(netif, eni.vpc, eni.eni_id, &err), &err);
	eth0 = eth0_of(task_fd);
	assert_true(eth0.up && !eth0.carrier);
}

static void test_no_descriptor_leaks(void **state)
{
	struct netif_eni tap = eni_of(NETIF_ENI_TAP, "eni-1", 0x0a000105),
			 veth = eni_of(NETIF_ENI_VETH, "eni-2", 0x0a000205);
	struct error err = {0};
	size_t before = descriptor_count();

	(void)state;
	for (int i = 0; i < 3; i++) {
		int tap_fd = eni_make(netif, &tap), veth_fd = eni_make(netif, &veth), fd;

		assert_int_equal(netif_eni_create(netif, &tap, &fd, &err), -EBUSY);
		close(tap_fd);
		close(veth_fd);
	}
	assert_int_equal(descriptor_count(), before);
}

static void test_reap_many(void **state)
{
	enum { COUNT = 50 };
	struct netif_eni kept = eni_of(NETIF_ENI_TAP, "eni-kept", 0x0a0001fe);
	held_fd int kept_fd = eni_make(netif, &kept);
	struct netif_object *objects;
	struct error err = {0};
	size_t count, dying = 0;

	(void)state;
	for (unsigned i = 0; i < COUNT; i++) {
		char id[32];

		snprintf(id, sizeof(id), "eni-%u", i);
		struct netif_eni eni = eni_of(NETIF_ENI_TAP, id, 0x0a000110 + i);
		held_fd int tap_fd = eni_make(netif, &eni);

		assert_ok(netif_eni_link(netif, &eni, &err), &err);
		assert_ok(netif_eni_retire(netif, "prod", id, &err), &err);
	}
	assert_ok(netif_inventory(netif, &objects, &count, &err), &err);
	for (size_t i = 0; i < count; i++)
		dying += objects[i].dying;
	assert_int_equal(dying, COUNT);
	free(objects);
	assert_ok(netif_reap(netif, "prod", &err), &err);
	assert_ok(netif_inventory(netif, &objects, &count, &err), &err);
	assert_int_equal(count, 1 + 1 + 2); // the VPC, the ENI, two subnets
	free(objects);
	assert_int_equal(eni_faults(netif, &kept), UNLINKED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_tap_life),
		TEST(test_tap_after_crash),
		TEST(test_tap_owner),
		TEST(test_foreign_interface),
		TEST(test_address_taken),
		TEST(test_veth_after_crash),
		TEST(test_veth_unfinished),
		TEST(test_veth_without_ipv6),
		TEST(test_veth_end_of_the_task_is_up_first),
		TEST(test_no_descriptor_leaks),
		TEST(test_reap_many),
	};

	sandbox_enter();
	home = namespace_identity();
	return cmocka_run_group_tests_name("netif", tests, NULL, NULL);
}
