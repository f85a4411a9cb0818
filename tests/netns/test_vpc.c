// SPDX-License-Identifier: Apache-2.0
// VPCs against the real kernel: made, found, refused, half made, replaced.
#include "tests/netns/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/file.h"
#include "agent/base/scope.h"
#include "netif/namespace.h"
#include "netif/nft.h"

static const struct ipv4_cidr block_one = {0x0a000100, 24};

static struct netif *netif;
static unsigned long home;

static int setup(void **state)
{
	struct error err = {0};

	(void)state;
	assert_ok(netif_open("blue", &netif, &err), &err);
	assert_ok(netif_vpc_create(netif, "prod", &err), &err);
	assert_ok(netif_subnet_ensure(netif, "prod", &block_one, &err), &err);
	return 0;
}

static int teardown(void **state)
{
	struct error err = {0};

	(void)state;
	assert_int_equal(namespace_identity(), home);
	assert_ok(netif_vpc_delete(netif, "prod", &err), &err);
	netif_close(netif);
	return 0;
}

static void assert_setting(const char *path, const char *wanted)
{
	scoped_free char *value = NULL;
	struct error err = {0};
	char full[128];

	snprintf(full, sizeof(full), "/proc/sys/net/%s", path);
	assert_ok(file_read(AT_FDCWD, full, 64, &value, NULL, &err), &err);
	value[strcspn(value, "\n")] = '\0';
	assert_string_equal(value, wanted);
}

static void test_vpc_settings(void **state)
{
	scoped_fd int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), there = -1;
	struct error err = {0};

	(void)state;
	assert_setting("ipv4/ip_forward", "0"); // the host is untouched
	assert_ok(netif_vpc_open(netif, "prod", &there, &err), &err);
	{
		scoped_visit struct namespace_visit visit = NAMESPACE_VISIT(here);

		assert_ok(namespace_enter(&visit, there, &err), &err);
		assert_int_not_equal(namespace_identity(), home);
		assert_setting("ipv4/ip_forward", "1");
		assert_setting("ipv4/conf/all/rp_filter", "1");
		assert_setting("ipv4/conf/all/send_redirects", "0");
		assert_setting("ipv4/conf/default/send_redirects", "0");
		assert_setting("ipv4/conf/all/accept_redirects", "0");
		assert_setting("ipv6/conf/all/disable_ipv6", "1");
		assert_setting("ipv6/conf/default/disable_ipv6", "1");
		assert_setting("ipv6/conf/lo/disable_ipv6", "1");
		assert_setting("netfilter/nf_conntrack_acct", "1");
	}
	assert_int_equal(namespace_identity(), home);
}

static void test_vpc_idempotent(void **state)
{
	struct stat before, after;
	struct netif_id *vpcs;
	struct error err = {0};
	size_t count;

	(void)state;
	assert_int_equal(stat("/run/netns/penstock-blue-prod", &before), 0);
	assert_ok(netif_vpc_create(netif, "prod", &err), &err);
	assert_int_equal(stat("/run/netns/penstock-blue-prod", &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	assert_ok(netif_subnet_ensure(netif, "prod", &block_one, &err), &err);
	assert_ok(netif_vpc_list(netif, &vpcs, &count, &err), &err);
	assert_int_equal(count, 1);
	assert_string_equal(vpcs[0].text, "prod");
	free(vpcs);
	assert_ok(netif_vpc_delete(netif, "prod", &err), &err);
	assert_int_equal(stat("/run/netns/penstock-blue-prod", &after), -1);
	assert_ok(netif_vpc_delete(netif, "prod", &err), &err);
	assert_ok(netif_subnet_remove(netif, "prod", &block_one, &err), &err);
}

static void test_vpc_missing(void **state)
{
	const struct netif_eni eni = {.vpc = "none", .eni_id = "eni-1", .mtu = 1500};
	struct error err = {0};
	int fd = 77;

	(void)state;
	assert_int_equal(netif_vpc_open(netif, "none", &fd, &err), -ENOENT);
	assert_string_equal(err.message,
			    "vpc none: there is no namespace /run/netns/penstock-blue-none");
	assert_int_equal(netif_eni_create(netif, &eni, &fd, &err), -ENOENT);
	assert_int_equal(netif_subnet_ensure(netif, "none", &block_one, &err), -ENOENT);
	assert_int_equal(netif_vpc_open(netif, "../x", &fd, &err), -EINVAL);
	assert_int_equal(fd, 77);
	assert_int_equal(eni_faults(netif, &eni), NETIF_ENI_MISSING);
	assert_ok(netif_eni_retire(netif, "none", "eni-1", &err), &err);
	assert_ok(netif_reap(netif, "none", &err), &err);
}

// Install "blue" with VPC "a-x" and install "blue-a" with VPC "x" want the same file.
static void test_vpc_of_other_install(void **state)
{
	struct netif *other;
	struct netif_object *objects;
	struct error err = {0};
	size_t count;

	(void)state;
	assert_ok(netif_open("blue-a", &other, &err), &err);
	assert_ok(netif_vpc_create(other, "x", &err), &err);
	assert_int_equal(netif_vpc_create(netif, "a-x", &err), -EEXIST);
	assert_string_equal(err.message, "/run/netns/penstock-blue-a-x belongs to vpc x of install "
					 "blue-a");
	assert_int_equal(netif_vpc_delete(netif, "a-x", &err), -EEXIST);
	assert_ok(netif_inventory(netif, &objects, &count, &err), &err);
	for (size_t i = 0; i < count; i++)
		assert_string_equal(objects[i].vpc, "prod");
	free(objects);
	assert_ok(netif_vpc_delete(other, "x", &err), &err);
	netif_close(other);
}

// A crash between the file's birth and the mount leaves the file, with our mark.
static void test_vpc_half_made(void **state)
{
	struct netif_id *vpcs;
	struct error err = {0};
	size_t count;

	(void)state;
	netif_close(netif);
	assert_int_equal(umount2("/run/netns/penstock-blue-prod", MNT_DETACH), 0);
	assert_ok(netif_open("blue", &netif, &err), &err);
	assert_ok(netif_vpc_list(netif, &vpcs, &count, &err), &err);
	assert_int_equal(count, 1);
	free(vpcs);
	assert_int_equal(netif_subnet_ensure(netif, "prod", &block_one, &err), -ENOENT);
	assert_ok(netif_vpc_create(netif, "prod", &err), &err);
	assert_ok(netif_subnet_ensure(netif, "prod", &block_one, &err), &err);
	assert_int_equal(umount2("/run/netns/penstock-blue-prod", MNT_DETACH), 0);
	assert_ok(netif_vpc_delete(netif, "prod", &err), &err);
	assert_int_equal(access("/run/netns/penstock-blue-prod", F_OK), -1);
	// A file that is not ours is not touched.
	assert_ok(
		file_write_atomic(AT_FDCWD, "/run/netns/penstock-blue-prod", "x\n", 2, 0644, &err),
		&err);
	assert_int_equal(netif_vpc_create(netif, "prod", &err), -EEXIST);
	assert_int_equal(netif_vpc_delete(netif, "prod", &err), -EEXIST);
	assert_int_equal(unlink("/run/netns/penstock-blue-prod"), 0);
}

static void test_vpc_busy_and_replaced(void **state)
{
	const struct netif_eni eni = {
		.vpc = "prod",
		.eni_id = "eni-1",
		.kind = NETIF_ENI_TAP,
		.address = 0x0a000105,
		.gateway = 0x0a000101,
		.mtu = 1500,
	};
	scoped_fd int tap_fd = -1;
	struct netif *agent;
	struct error err = {0};
	int first, second;

	(void)state;
	assert_ok(netif_eni_create(netif, &eni, &tap_fd, &err), &err);
	assert_int_equal(netif_vpc_delete(netif, "prod", &err), -EBUSY);
	assert_non_null(strstr(err.message, "eni eni-1 of install blue"));
	assert_ok(netif_netfilter_socket(netif, "prod", &first, &err), &err);
	assert_ok(netif_eni_retire(netif, "prod", "eni-1", &err), &err);
	// Somebody else (fsck) replaces the namespace under the handle's feet.
	assert_ok(netif_open("blue", &agent, &err), &err);
	assert_ok(netif_vpc_delete(agent, "prod", &err), &err); // dying ENIs go with it
	// The first handle still holds the old one.
	assert_ok(netif_netfilter_socket(netif, "prod", &second, &err), &err);
	assert_int_equal(first, second);
	assert_ok(netif_vpc_create(agent, "prod", &err), &err);
	assert_int_equal(eni_faults(netif, &eni), NETIF_ENI_MISSING);
	assert_ok(netif_netfilter_socket(netif, "prod", &second, &err), &err);
	assert_ok(netif_netfilter_socket(netif, NULL, &first, &err), &err);
	assert_int_not_equal(first, second);
	netif_close(agent);
}

static ino_t inode_of(const char *path)
{
	struct stat status;

	return stat(path, &status) == 0 ? status.st_ino : 0;
}

// The pin is a name; the namespace is what the handle holds.
static void test_vpc_pinned_again(void **state)
{
	static const char pin[] = "/run/netns/penstock-blue-prod";
	ino_t first = inode_of(pin);
	struct netif *other;
	struct error err = {0};
	scoped_fd int fd = -1;

	(void)state;
	assert_int_equal(netif_vpc_pin(netif, "prod", -1, &err), 0);
	assert_ok(netif_vpc_open(netif, "prod", &fd, &err), &err);
	assert_int_equal(umount2(pin, MNT_DETACH), 0);
	assert_int_equal(unlink(pin), 0);
	assert_ok(netif_subnet_ensure(netif, "prod", &block_one, &err), &err);
	assert_int_equal(netif_vpc_pin(netif, "prod", -1, &err), 1);
	assert_int_equal(inode_of(pin), first);
	// An empty namespace of ours in its place gives way to the one that is in use.
	assert_int_equal(umount2(pin, MNT_DETACH), 0);
	assert_ok(netif_open("blue", &other, &err), &err);
	assert_ok(netif_vpc_create(other, "prod", &err), &err);
	assert_int_not_equal(inode_of(pin), first);
	assert_int_equal(netif_vpc_pin(other, "prod", fd, &err), 1);
	assert_int_equal(netif_vpc_pin(other, "prod", fd, &err), 0);
	assert_int_equal(inode_of(pin), first);
	// Somebody else's stays where it is, and the handle goes on with its own.
	assert_int_equal(umount2(pin, MNT_DETACH), 0);
	assert_int_equal(mount("/proc/thread-self/ns/net", pin, "none", MS_BIND, NULL), 0);
	assert_int_equal(netif_vpc_pin(netif, "prod", -1, &err), -EEXIST);
	assert_ok(netif_subnet_ensure(netif, "prod", &block_one, &err), &err);
	assert_int_equal(umount2(pin, MNT_DETACH), 0);
	// The host's own namespace does not carry the mark.
	netif_close(other);
	assert_ok(netif_open("blue", &other, &err), &err);
	assert_int_equal(netif_vpc_pin(other, "prod", -1, &err), -ENOENT);
	close_fd(&fd);
	fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_int_equal(netif_vpc_pin(other, "prod", fd, &err), -EEXIST);
	netif_close(other);
	assert_int_equal(netif_vpc_pin(netif, "prod", -1, &err), 1);
}

static void add_table(int netfilter, const char *name)
{
	scoped(nft_batch_release) struct nft_batch *batch = nft_batch_new();
	struct error err = {0};

	nft_table_add(batch, name, "");
	assert_ok(nft_batch_send(batch, netfilter, &err), &err);
}

static void test_changes_by_others_are_heard(void **state)
{
	scoped_fd int namespace_fd = -1, other = -1, watch = -1;
	struct error err = {0};
	int own;

	(void)state;
	assert_ok(netif_netfilter_socket(netif, "prod", &own, &err), &err);
	assert_ok(netif_netfilter_watch(netif, "prod", &watch, &err), &err);
	assert_ok(netif_vpc_open(netif, "prod", &namespace_fd, &err), &err);
	assert_ok(nft_socket_open(namespace_fd, &other, &err), &err);
	add_table(own, "ours");
	assert_false(nft_socket_drain(watch));
	add_table(other, "theirs");
	assert_true(nft_socket_drain(watch));
	assert_false(nft_socket_drain(watch));
}

static struct netif_look *look_at_prod(void)
{
	struct netif_look *look;
	struct error err = {0};
	bool done = false;

	assert_ok(netif_look_start(netif, "prod", &look, &err), &err);
	while (!done) {
		struct pollfd readable = {.fd = netif_look_fd(look), .events = POLLIN};

		assert_int_equal(poll(&readable, 1, 10000), 1);
		assert_ok(netif_look_step(look, &done, &err), &err);
	}
	return look;
}

static bool has_all(const struct netif_eni *eni)
{
	static const struct ipv4_cidr vpc_block = {0x0a000000, 16};
	struct netif_look *look = look_at_prod();
	bool all = netif_look_has_vpc(look, &vpc_block) &&
		   netif_look_has_subnet(look, &block_one) && netif_look_has_eni(look, eni);

	netif_look_free(look);
	return all;
}

static void test_what_others_removed_is_seen(void **state)
{
	static const struct ipv4_cidr vpc_block = {0x0a000000, 16};
	const struct netif_eni eni = {.vpc = "prod",
				      .eni_id = "eni-1",
				      .kind = NETIF_ENI_TAP,
				      .address = 0x0a000105,
				      .gateway = 0x0a000101,
				      .mac = mac_from_eni("eni-1"),
				      .mtu = 1500};
	scoped_fd int tap_fd = -1, watch = -1;
	struct netif *other;
	struct error err = {0};

	(void)state;
	assert_ok(netif_eni_create(netif, &eni, &tap_fd, &err), &err);
	assert_ok(netif_watch_open(netif, "prod", &watch, &err), &err);
	assert_int_equal(netif_vpc_configure(netif, "prod", &vpc_block, &err), 1);
	assert_int_equal(netif_vpc_configure(netif, "prod", &vpc_block, &err), 0);
	assert_false(netif_watch_drain(watch));
	assert_int_equal(netif_address_ensure(netif, "prod", 0x0a000109, &err), 1);
	assert_int_equal(netif_address_ensure(netif, "prod", 0x0a000109, &err), 0);
	assert_false(has_all(&eni));
	assert_ok(netif_eni_link(netif, &eni, &err), &err);
	assert_true(has_all(&eni));

	netif_watch_drain(watch); // links say who changed them since kernel 6.2 only
	assert_ok(netif_open("blue", &other, &err), &err);
	assert_ok(netif_address_remove(other, "prod", 0x0a000101, &err), &err);
	assert_true(netif_watch_drain(watch));
	assert_false(has_all(&eni));
	assert_int_equal(netif_subnet_ensure(netif, "prod", &block_one, &err), 1);
	// The kernel removes the routes whose source an address was, together with it.
	assert_ok(netif_eni_link(netif, &eni, &err), &err);
	assert_true(has_all(&eni));
	assert_ok(netif_eni_unlink(other, "prod", "eni-1", &err), &err);
	assert_true(netif_watch_drain(watch));
	assert_false(has_all(&eni));
	netif_close(other);
	assert_ok(netif_eni_delete(netif, "prod", "eni-1", &err), &err);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static void test_tracking_of_a_vpc(void **state)
{
	static const struct netif_tracking tracking = {
		.tcp_established_seconds = 3600, .udp_seconds = 45, .udp_stream_seconds = 90};
	scoped_fd int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), there = -1;
	scoped_visit struct namespace_visit visit = NAMESPACE_VISIT(here);
	struct error err = {0};

	(void)state;
	assert_ok(netif_vpc_tune(netif, "prod", &tracking, &err), &err);
	assert_int_equal(namespace_identity(), home);
	assert_ok(netif_vpc_open(netif, "prod", &there, &err), &err);
	assert_ok(namespace_enter(&visit, there, &err), &err);
	assert_setting("netfilter/nf_conntrack_tcp_timeout_established", "3600");
	assert_setting("netfilter/nf_conntrack_udp_timeout", "45");
	assert_setting("netfilter/nf_conntrack_udp_timeout_stream", "90");
	assert_setting("netfilter/nf_conntrack_icmp_timeout", "600");
	assert_setting("netfilter/nf_conntrack_generic_timeout", "600");
	// Of a VPC that an earlier version made, too.
	assert_ok(file_write_kernel(AT_FDCWD, "/proc/sys/net/ipv4/ipfrag_time", "30", &err), &err);
	namespace_leave(&visit);
	assert_ok(netif_vpc_tune(netif, "prod", &tracking, &err), &err);
	assert_ok(namespace_enter(&visit, there, &err), &err);
	assert_setting("ipv4/ipfrag_time", "2");
	namespace_leave(&visit);
	assert_int_equal(netif_vpc_tune(netif, "none", &tracking, &err), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_vpc_settings),
		TEST(test_tracking_of_a_vpc),
		TEST(test_vpc_idempotent),
		TEST(test_vpc_missing),
		TEST(test_vpc_of_other_install),
		TEST(test_vpc_half_made),
		TEST(test_vpc_busy_and_replaced),
		TEST(test_vpc_pinned_again),
		TEST(test_changes_by_others_are_heard),
		TEST(test_what_others_removed_is_seen),
	};

	sandbox_enter();
	home = namespace_identity();
	return cmocka_run_group_tests_name("vpc", tests, NULL, NULL);
}
