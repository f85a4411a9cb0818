// SPDX-License-Identifier: Apache-2.0
// Attachments. An interface is marked first, then moved, and on its way back moved
// first, then unmarked: wherever a crash leaves it, its alias says whose it is and
// both directions can be taken up again. The alias it had before is kept behind the mark.
#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "agent/base/scope.h"
#include "netif/handle.h"
#include "netif/inet.h"

static bool is_marked(const struct netif *netif, const struct link_info *link, const char *vpc,
		      const char *interface)
{
	struct mark mark = mark_parse(link->alias);

	return mark_matches(&mark, MARK_ATTACHMENT, netif->install, vpc) &&
	       strcmp(mark.interface, interface) == 0;
}

// --- Taking in ---

// Only for the message: is it in another of our VPCs?
static int explain_missing(struct netif *netif, const char *interface, struct error *err)
{
	scoped_free struct netif_id *vpcs = NULL;
	size_t count;

	if (netif_vpc_list(netif, &vpcs, &count, err) < 0)
		return -err->code;
	for (size_t i = 0; i < count; i++) {
		struct netif_namespace *space;
		struct link_info link;

		if (namespace_get(netif, vpcs[i].text, &space, err) == 0 &&
		    link_find(space->rtnl, interface, LINK_WITHOUT_STATS, &link, err) == 1 &&
		    is_marked(netif, &link, vpcs[i].text, interface))
			return error_set(err, EBUSY, "it is attached to vpc %s: detach it first",
					 vpcs[i].text);
	}
	return error_set(err, ENODEV, "the host has no such interface");
}

static int check_attachable(const struct netif *netif, const struct link_info *link,
			    const struct netif_attachment *attachment, struct error *err)
{
	struct mark mark = mark_parse(link->alias);
	char text[MARK_TEXT_SIZE];

	// It could not be told again by that: the mark and the inventory have its name.
	if (strcmp(link->name, attachment->interface) != 0)
		return error_set(err, EINVAL, "this is another name of %s: attach it by that",
				 link->name);
	if (mark.kind == MARK_NONE ||
	    is_marked(netif, link, attachment->vpc, attachment->interface))
		return 0;
	return error_set(err, EBUSY, "it belongs to %s", mark_describe(&mark, text));
}

static int mark_interface(struct netif *netif, const struct link_info *link,
			  const struct netif_attachment *attachment, struct error *err)
{
	char alias[LINK_ALIAS_SIZE];

	if (is_marked(netif, link, attachment->vpc, attachment->interface))
		return 0;
	if (mark_format_attachment(netif->install, attachment, link->alias, alias, err) < 0)
		return -err->code;
	if (link_change(netif->host.rtnl, LINK_CHANGE(.index = link->index, .alias = alias), err) <
	    0)
		return error_wrap(err, "mark it");
	return 0;
}

// Brings the interface into the VPC, if it is not there yet.
static int move_in(struct netif *netif, struct netif_namespace *space,
		   const struct netif_attachment *attachment, struct error *err)
{
	struct link_info link;
	int found =
		link_find(netif->host.rtnl, attachment->interface, LINK_WITHOUT_STATS, &link, err);

	if (found < 0)
		return found;
	if (!found)
		return explain_missing(netif, attachment->interface, err);
	if (check_attachable(netif, &link, attachment, err) < 0 ||
	    mark_interface(netif, &link, attachment, err) < 0)
		return -err->code;
	if (link_move(netif->host.rtnl, link.index, space->fd, err) < 0)
		return error_wrap(err, "move it into the vpc");
	return 0;
}

// --- Configuration inside ---

static int configure_address(struct nl_sock *socket, int index,
			     const struct netif_attachment *attachment, struct error *err)
{
	const struct inet_address wanted = {
		.index = index,
		.address = attachment->address,
		.prefix = attachment->prefix,
		.scope = RT_SCOPE_UNIVERSE,
	};
	scoped_free struct inet_address *standing = NULL;
	size_t count;

	if (address_list(socket, index, &standing, &count, err) < 0)
		return -err->code;
	for (size_t i = 0; i < count; i++)
		if ((standing[i].address != wanted.address ||
		     standing[i].prefix != wanted.prefix) &&
		    address_delete(socket, &standing[i], err) < 0)
			return -err->code;
	return address_add(socket, &wanted, err);
}

static bool has_address(const struct inet_address *standing, size_t count,
			const struct netif_attachment *attachment)
{
	for (size_t i = 0; i < count; i++)
		if (standing[i].address == attachment->address &&
		    standing[i].prefix == attachment->prefix)
			return true;
	return false;
}

static struct inet_route attachment_route(const struct netif_route *route, int index)
{
	return (struct inet_route){
		.destination = route->destination,
		.type = RTN_UNICAST,
		.index = index,
		.via = route->via,
	};
}

static bool is_wanted(const struct netif_attachment *attachment, const struct inet_route *standing)
{
	for (size_t i = 0; i < attachment->route_count; i++) {
		struct inet_route wanted =
			attachment_route(&attachment->routes[i], standing->index);

		if (route_equal(&wanted, standing))
			return true;
	}
	return false;
}

static bool is_standing(const struct inet_route *standing, size_t count,
			const struct inet_route *wanted)
{
	for (size_t i = 0; i < count; i++)
		if (route_equal(&standing[i], wanted))
			return true;
	return false;
}

static int configure_routes(struct nl_sock *socket, int index,
			    const struct netif_attachment *attachment, struct error *err)
{
	scoped_free struct inet_route *standing = NULL;
	size_t count;

	if (route_list(socket, index, &standing, &count, err) < 0)
		return -err->code;
	for (size_t i = 0; i < count; i++)
		if (!is_wanted(attachment, &standing[i]) &&
		    route_delete(socket, &standing[i], err) < 0)
			return -err->code;
	for (size_t i = 0; i < attachment->route_count; i++) {
		struct inet_route wanted = attachment_route(&attachment->routes[i], index);

		if (!is_standing(standing, count, &wanted) && route_add(socket, &wanted, err) < 0)
			return -err->code;
	}
	return 0;
}

static int ensure(struct netif *netif, const struct netif_attachment *attachment, struct error *err)
{
	struct netif_namespace *space;
	struct link_info link;
	int found;

	if (namespace_get(netif, attachment->vpc, &space, err) < 0)
		return -err->code;
	found = link_find(space->rtnl, attachment->interface, LINK_WITHOUT_STATS, &link, err);
	if (found == 0) {
		if (move_in(netif, space, attachment, err) < 0)
			return -err->code;
		found = link_find(space->rtnl, attachment->interface, LINK_WITHOUT_STATS, &link,
				  err);
	}
	if (found < 0)
		return found;
	if (!found || !is_marked(netif, &link, attachment->vpc, attachment->interface))
		return error_set(err, EBUSY, "vpc %s has another interface of that name",
				 attachment->vpc);
	if (configure_address(space->rtnl, link.index, attachment, err) < 0)
		return -err->code;
	if (link_change(space->rtnl, LINK_CHANGE(.index = link.index, .state = LINK_STATE_UP),
			err) < 0)
		return error_wrap(err, "link up");
	return configure_routes(space->rtnl, link.index, attachment, err);
}

int netif_attachment_ensure(struct netif *netif, const struct netif_attachment *attachment,
			    struct error *err)
{
	if (attachment->interface[0] == '\0' || strlen(attachment->interface) >= IFNAMSIZ)
		return error_set(err, EINVAL,
				 "\"%.64s\" is no interface name: 1 to %d characters are right",
				 attachment->interface, IFNAMSIZ - 1);
	if (ensure(netif, attachment, err) < 0)
		return error_wrap(err, "attach interface %s", attachment->interface);
	return 0;
}

// --- Check ---

static int configuration_faults(struct nl_sock *socket, const struct link_info *link,
				const struct netif_attachment *attachment, unsigned *ret_faults,
				struct error *err)
{
	scoped_free struct inet_address *addresses = NULL;
	scoped_free struct inet_route *routes = NULL;
	size_t address_count, route_count;
	unsigned faults = link->up ? 0 : NETIF_ATTACHMENT_DOWN;

	if (address_list(socket, link->index, &addresses, &address_count, err) < 0 ||
	    route_list(socket, link->index, &routes, &route_count, err) < 0)
		return -err->code;
	if (!has_address(addresses, address_count, attachment))
		faults |= NETIF_ATTACHMENT_NO_ADDRESS;
	for (size_t i = 0; i < attachment->route_count; i++) {
		struct inet_route wanted = attachment_route(&attachment->routes[i], link->index);

		if (!is_standing(routes, route_count, &wanted))
			faults |= NETIF_ATTACHMENT_NO_ROUTE;
	}
	*ret_faults = faults;
	return 0;
}

int netif_attachment_check(struct netif *netif, const struct netif_attachment *attachment,
			   unsigned *ret_faults, struct error *err)
{
	struct netif_namespace *space;
	struct link_info link = {0};
	int found = namespace_get(netif, attachment->vpc, &space, err);

	if (found == 0)
		found = link_find(space->rtnl, attachment->interface, LINK_WITHOUT_STATS, &link,
				  err);
	if (found == -ENOENT) {
		error_clear(err);
		found = 0;
	}
	if (found == 0 ||
	    (found > 0 && !is_marked(netif, &link, attachment->vpc, attachment->interface))) {
		*ret_faults = NETIF_ATTACHMENT_MISSING;
		return 0;
	}
	if (found < 0 || configuration_faults(space->rtnl, &link, attachment, ret_faults, err) < 0)
		return error_wrap(err, "attachment %s", attachment->interface);
	return 0;
}

int netif_host_has(struct netif *netif, const char *interface, struct error *err)
{
	struct link_info link;

	return link_find(netif->host.rtnl, interface, LINK_WITHOUT_STATS, &link, err);
}

// --- Giving back ---

static int move_home(struct netif *netif, const char *vpc, const char *interface, struct error *err)
{
	struct netif_namespace *space;
	struct link_info link = {0};
	int result = namespace_get(netif, vpc, &space, err);

	if (result == -ENOENT) {
		error_clear(err);
		return 0;
	}
	if (result == 0)
		result = link_find(space->rtnl, interface, LINK_WITHOUT_STATS, &link, err);
	if (result <= 0 || !is_marked(netif, &link, vpc, interface))
		return result < 0 ? result : 0;
	if (link_change(space->rtnl, LINK_CHANGE(.index = link.index, .state = LINK_STATE_DOWN),
			err) < 0)
		return error_wrap(err, "link down");
	if (link_move(space->rtnl, link.index, netif->host.fd, err) < 0)
		return error_wrap(err, "move it to the host");
	return 0;
}

static int unmark(struct netif *netif, const char *vpc, const char *interface, struct error *err)
{
	struct link_info link;
	struct mark mark;
	int found = link_find(netif->host.rtnl, interface, LINK_WITHOUT_STATS, &link, err);

	if (found <= 0 || !is_marked(netif, &link, vpc, interface))
		return found < 0 ? found : 0;
	mark = mark_parse(link.alias);
	if (link_change(netif->host.rtnl,
			LINK_CHANGE(.index = link.index, .alias = mark.alias_before), err) < 0)
		return error_wrap(err, "restore its alias");
	return 0;
}

int netif_attachment_remove(struct netif *netif, const char *vpc, const char *interface,
			    struct error *err)
{
	if (move_home(netif, vpc, interface, err) < 0 || unmark(netif, vpc, interface, err) < 0)
		return error_wrap(err, "detach interface %s", interface);
	return 0;
}
