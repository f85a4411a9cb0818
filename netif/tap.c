// SPDX-License-Identifier: Apache-2.0
// Taps. /dev/net/tun binds a descriptor to the namespace it is opened in; the rest
// works from home. The tap becomes persistent last, when it carries its mark: before
// that it dies with its descriptor.
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>

#include "agent/base/scope.h"
#include "netif/handle.h"
#include "netif/namespace.h"

enum { TAP_FLAGS = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };

static int open_tun(struct netif *netif, struct netif_namespace *space, int *ret_fd,
		    struct error *err)
{
	scoped_visit struct namespace_visit visit = NAMESPACE_VISIT(netif->host.fd);
	int fd;

	if (namespace_enter(&visit, space->fd, err) < 0)
		return -err->code;
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return error_errno(err, "open /dev/net/tun");
	*ret_fd = fd;
	return 0;
}

static int set_interface(int fd, const char *name, short flags, struct error *err)
{
	struct ifreq request = {.ifr_flags = flags};

	memcpy(request.ifr_name, name, strlen(name) + 1);
	if (ioctl(fd, TUNSETIFF, &request) < 0)
		return error_errno(err, "take tap %s", name);
	return 0;
}

static int configure(struct netif *netif, struct netif_namespace *space,
		     const struct netif_eni *eni, const char *name, int fd, struct error *err)
{
	char alias[LINK_ALIAS_SIZE];

	if (link_change(space->rtnl,
			LINK_CHANGE(.name = name, .state = LINK_STATE_DOWN, .mtu = eni->mtu,
				    .alias = mark_format_eni(netif->install, eni->eni_id, alias),
				    .mac = &netif_gateway_mac, .set_group = true),
			err) < 0)
		return error_wrap(err, "configure tap %s", name);
	// EINVAL in a user namespace that does not map this uid.
	if (ioctl(fd, TUNSETOWNER, (unsigned long)eni->owner_uid) < 0)
		return error_errno(err, "give tap %s to uid %u", name, eni->owner_uid);
	if (ioctl(fd, TUNSETPERSIST, 1UL) < 0)
		return error_errno(err, "make tap %s persistent", name);
	return 0;
}

static int take(struct netif *netif, struct netif_namespace *space, const struct netif_eni *eni,
		const char *name, int flags, int *ret_fd, struct error *err)
{
	scoped_fd int fd = -1;

	if (open_tun(netif, space, &fd, err) < 0 ||
	    set_interface(fd, name, (short)flags, err) < 0 ||
	    configure(netif, space, eni, name, fd, err) < 0)
		return -err->code;
	*ret_fd = take_fd(&fd);
	return 0;
}

int tap_create(struct netif *netif, struct netif_namespace *space, const struct netif_eni *eni,
	       const char *name, int *ret_fd, struct error *err)
{
	return take(netif, space, eni, name, TAP_FLAGS | IFF_TUN_EXCL, ret_fd, err);
}

int tap_attach(struct netif *netif, struct netif_namespace *space, const struct netif_eni *eni,
	       const char *name, int *ret_fd, struct error *err)
{
	return take(netif, space, eni, name, TAP_FLAGS, ret_fd, err);
}
