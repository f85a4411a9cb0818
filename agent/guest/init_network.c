// SPDX-License-Identifier: Apache-2.0
// The task's interface, by the classic ioctls: one address, two routes and one
// neighbour need no netlink. Idempotent.
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "agent/guest/init.h"

#include "agent/base/scope.h"

static const char interface[] = "eth0";

static struct sockaddr_in address_of(struct in_addr address)
{
	return (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = address};
}

static void put_address(struct sockaddr *place, struct in_addr address)
{
	struct sockaddr_in whole = address_of(address);

	memcpy(place, &whole, sizeof(*place));
}

static struct ifreq request_for(const char *name)
{
	struct ifreq request = {0};

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	return request;
}

static int link_up(int fd, const char *name, struct error *err)
{
	struct ifreq request = request_for(name);

	if (ioctl(fd, SIOCGIFFLAGS, &request) < 0)
		return error_errno(err, "interface %s", name);
	request.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		return error_errno(err, "set %s up", name);
	return 0;
}

static int set_address(int fd, const struct init_settings *settings, struct error *err)
{
	struct ifreq request = request_for(interface);

	request.ifr_mtu = (int)settings->mtu;
	if (ioctl(fd, SIOCSIFMTU, &request) < 0)
		return error_errno(err, "set the MTU of %s to %u", interface, settings->mtu);
	put_address(&request.ifr_addr, settings->ip);
	if (ioctl(fd, SIOCSIFADDR, &request) < 0)
		return error_errno(err, "set the address of %s", interface);
	put_address(&request.ifr_netmask, (struct in_addr){INADDR_BROADCAST});
	if (ioctl(fd, SIOCSIFNETMASK, &request) < 0)
		return error_errno(err, "set the netmask of %s", interface);
	return 0;
}

static int add_neighbour(int fd, const struct init_settings *settings, struct error *err)
{
	struct arpreq request = {.arp_flags = ATF_COM | ATF_PERM};

	put_address(&request.arp_pa, settings->gateway);
	request.arp_ha.sa_family = ARPHRD_ETHER;
	memcpy(request.arp_ha.sa_data, settings->gateway_mac, sizeof(settings->gateway_mac));
	snprintf(request.arp_dev, sizeof(request.arp_dev), "%s", interface);
	if (ioctl(fd, SIOCSARP, &request) < 0)
		return error_errno(err, "add the gateway's neighbour entry");
	return 0;
}

static int add_route(int fd, struct in_addr destination, struct in_addr gateway,
		     unsigned short flags, struct error *err)
{
	char device[IFNAMSIZ];
	struct rtentry route = {.rt_flags = RTF_UP | flags, .rt_dev = device};
	bool host = flags & RTF_HOST;

	snprintf(device, sizeof(device), "%s", interface);
	put_address(&route.rt_dst, destination);
	put_address(&route.rt_genmask, (struct in_addr){host ? INADDR_BROADCAST : INADDR_ANY});
	put_address(&route.rt_gateway, gateway);
	if (ioctl(fd, SIOCADDRT, &route) < 0 && errno != EEXIST)
		return error_errno(err, "add the %s route", host ? "gateway's" : "default");
	return 0;
}

int init_network_configure(const struct init_settings *settings, struct error *err)
{
	scoped_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	const struct in_addr any = {INADDR_ANY};
	int result;

	if (fd < 0)
		return error_errno(err, "socket");
	result = link_up(fd, "lo", err);
	if (result == 0)
		result = set_address(fd, settings, err);
	if (result == 0)
		result = link_up(fd, interface, err);
	if (result == 0)
		result = add_neighbour(fd, settings, err);
	if (result == 0)
		result = add_route(fd, settings->gateway, any, RTF_HOST, err);
	if (result == 0)
		result = add_route(fd, any, settings->gateway, RTF_GATEWAY, err);
	return result;
}
