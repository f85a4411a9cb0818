// SPDX-License-Identifier: Apache-2.0
#include "netif/handle.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "netif/namespace.h"
#include "netif/nft.h"
#include "netif/rtnl.h"

char *namespace_name(const struct netif *netif, const char *vpc, char name[NAMESPACE_NAME_SIZE])
{
	snprintf(name, NAMESPACE_NAME_SIZE, "penstock-%s-%s", netif->install, vpc);
	return name;
}

char *namespace_path(const struct netif *netif, const char *vpc, char path[NAMESPACE_PATH_SIZE])
{
	char name[NAMESPACE_NAME_SIZE];

	snprintf(path, NAMESPACE_PATH_SIZE, "%s/%s", NAMESPACE_DIRECTORY,
		 namespace_name(netif, vpc, name));
	return path;
}

static void namespace_release(struct netif_namespace *space)
{
	free(space->known);
	rtnl_close(&space->rtnl);
	close_fd(&space->netfilter_fd);
	close_fd(&space->fd);
}

int netif_open(const char *install, struct netif **ret_netif, struct error *err)
{
	struct netif *netif;

	if (!id_is_valid(install))
		return error_set(err, EINVAL, "install name \"%.64s\" must match %s", install,
				 "^[a-z0-9][a-z0-9-]{0,62}$");
	netif = calloc(1, sizeof(*netif));
	if (!netif)
		abort();
	strncpy(netif->install, install, sizeof(netif->install) - 1);
	netif->host.fd = netif->host.netfilter_fd = -1;
	if (namespace_open_current(&netif->host.fd, err) < 0 ||
	    rtnl_open(&netif->host.rtnl, err) < 0) {
		netif_close(netif);
		return -err->code;
	}
	*ret_netif = netif;
	return 0;
}

const char *netif_install(const struct netif *netif)
{
	return netif->install;
}

void netif_close(struct netif *netif)
{
	if (!netif)
		return;
	while (netif->vpcs)
		namespace_forget(netif, netif->vpcs->vpc);
	namespace_release(&netif->host);
	free(netif);
}

void namespace_forget(struct netif *netif, const char *vpc)
{
	struct netif_namespace **place = &netif->vpcs, *space;

	while (*place && strcmp((*place)->vpc, vpc) != 0)
		place = &(*place)->next;
	space = *place;
	if (!space)
		return;
	*place = space->next;
	namespace_release(space);
	free(space);
}

static struct netif_namespace *namespace_known(struct netif *netif, const char *vpc)
{
	struct netif_namespace *space = netif->vpcs;

	while (space && strcmp(space->vpc, vpc) != 0)
		space = space->next;
	return space;
}

static int open_rtnl_inside(struct netif *netif, struct netif_namespace *space, struct error *err)
{
	scoped_visit struct namespace_visit visit = NAMESPACE_VISIT(netif->host.fd);

	if (namespace_enter(&visit, space->fd, err) < 0)
		return -err->code;
	return rtnl_open(&space->rtnl, err);
}

// The name of a pinned file can be another install's: "a" and "a-b" share a prefix.
static int check_owner(struct netif *netif, struct netif_namespace *space, struct error *err)
{
	char path[NAMESPACE_PATH_SIZE], owner[MARK_TEXT_SIZE];
	struct link_info lo;
	struct mark mark;
	int found = link_find(space->rtnl, "lo", LINK_WITHOUT_STATS, &lo, err);

	if (found < 0)
		return found;
	mark = mark_parse(found ? lo.alias : "");
	if (mark_matches(&mark, MARK_VPC, netif->install, space->vpc))
		return 0;
	return error_set(err, EEXIST, "%s belongs to %s", namespace_path(netif, space->vpc, path),
			 mark_describe(&mark, owner));
}

static int open_pinned(struct netif *netif, struct netif_namespace *space, struct error *err)
{
	char path[NAMESPACE_PATH_SIZE], mark[LINK_ALIAS_SIZE];
	enum namespace_file file;
	struct stat status;

	if (namespace_open(namespace_path(netif, space->vpc, path),
			   mark_format_vpc(netif->install, space->vpc, mark), &space->fd, &file,
			   err) < 0)
		return -err->code;
	if (file == NAMESPACE_OTHER)
		return error_set(err, EEXIST, "%s exists and is not ours", path);
	if (file != NAMESPACE_PINNED)
		return error_set(err, ENOENT, "vpc %s: there is no namespace %s", space->vpc, path);
	if (fstat(space->fd, &status) < 0)
		return error_errno(err, "%s", path);
	space->device = status.st_dev;
	space->inode = status.st_ino;
	if (open_rtnl_inside(netif, space, err) < 0)
		return -err->code;
	return check_owner(netif, space, err);
}

// Is the namespace that is held the one that is pinned under this name?
bool namespace_is_pinned(const struct netif *netif, const struct netif_namespace *space)
{
	char path[NAMESPACE_PATH_SIZE];
	struct stat status;

	return stat(namespace_path(netif, space->vpc, path), &status) == 0 &&
	       status.st_dev == space->device && status.st_ino == space->inode;
}

static struct netif_namespace *namespace_new(const char *vpc)
{
	struct netif_namespace *space = calloc(1, sizeof(*space));

	if (!space)
		abort();
	strncpy(space->vpc, vpc, sizeof(space->vpc) - 1);
	space->fd = space->netfilter_fd = -1;
	return space;
}

static void namespace_free(struct netif_namespace *space)
{
	namespace_release(space);
	free(space);
}

static void namespace_hold(struct netif *netif, struct netif_namespace *space)
{
	namespace_forget(netif, space->vpc);
	space->next = netif->vpcs;
	netif->vpcs = space;
}

int namespace_get(struct netif *netif, const char *vpc, struct netif_namespace **ret_namespace,
		  struct error *err)
{
	struct netif_namespace *known = namespace_known(netif, vpc), *space;
	int result;

	if (known && namespace_is_pinned(netif, known)) {
		*ret_namespace = known;
		return 0;
	}
	if (!id_is_valid(vpc)) // it becomes part of a path
		return error_set(err, EINVAL, "vpc \"%.64s\" is no id", vpc);
	space = namespace_new(vpc);
	result = open_pinned(netif, space, err);
	if (result >= 0) {
		namespace_hold(netif, space);
		*ret_namespace = space;
		return 0;
	}
	namespace_free(space);
	if (!known)
		return result;
	// Only the pin is gone, or somebody else's namespace was put in its place. What lives in
	// the VPC lives in the namespace that is held; netif_vpc_pin() pins it again.
	error_clear(err);
	*ret_namespace = known;
	return 0;
}

// 1: the handle holds it, or it is pinned; 0: it is another one, or none is.
int namespace_holds(struct netif *netif, const char *vpc, int namespace_fd, struct error *err)
{
	struct netif_namespace *space;
	struct stat status;
	int result = namespace_get(netif, vpc, &space, err);

	if (result == -ENOENT) {
		error_clear(err);
		return 0;
	}
	if (result < 0)
		return result;
	if (fstat(namespace_fd, &status) < 0)
		return error_errno(err, "vpc %s: look at a namespace", vpc);
	return status.st_dev == space->device && status.st_ino == space->inode;
}

int namespace_adopt(struct netif *netif, const char *vpc, int namespace_fd, struct error *err)
{
	struct netif_namespace *space;
	struct stat status;

	if (!id_is_valid(vpc))
		return error_set(err, EINVAL, "vpc \"%.64s\" is no id", vpc);
	space = namespace_new(vpc);
	space->fd = fcntl(namespace_fd, F_DUPFD_CLOEXEC, 0);
	if (space->fd < 0 || fstat(space->fd, &status) < 0) {
		error_errno(err, "vpc %s: take a namespace", vpc);
		namespace_free(space);
		return -err->code;
	}
	space->device = status.st_dev;
	space->inode = status.st_ino;
	if (open_rtnl_inside(netif, space, err) < 0 || check_owner(netif, space, err) < 0) {
		namespace_free(space);
		return -err->code;
	}
	namespace_hold(netif, space);
	return 0;
}

int netif_vpc_open(struct netif *netif, const char *vpc, int *ret_fd, struct error *err)
{
	struct netif_namespace *space;
	int fd;

	if (namespace_get(netif, vpc, &space, err) < 0)
		return -err->code;
	fd = fcntl(space->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return error_errno(err, "vpc %s: duplicate a descriptor", vpc);
	*ret_fd = fd;
	return 0;
}

int netif_vpc_socket(struct netif *netif, const char *vpc, int domain, int type, int protocol,
		     int *ret_fd, struct error *err)
{
	scoped_visit struct namespace_visit visit = NAMESPACE_VISIT(netif->host.fd);
	struct netif_namespace *space;
	int fd;

	if (namespace_get(netif, vpc, &space, err) < 0 ||
	    namespace_enter(&visit, space->fd, err) < 0)
		return -err->code;
	fd = socket(domain, type | SOCK_CLOEXEC, protocol);
	if (fd < 0)
		return error_errno(err, "vpc %s: open a socket", vpc);
	*ret_fd = fd;
	return 0;
}

int netif_netfilter_socket(struct netif *netif, const char *vpc, int *ret_fd, struct error *err)
{
	struct netif_namespace *space = &netif->host;

	if (vpc && namespace_get(netif, vpc, &space, err) < 0)
		return -err->code;
	if (space->netfilter_fd < 0 && nft_socket_open(space->fd, &space->netfilter_fd, err) < 0)
		return error_wrap(err, "vpc %s", vpc ? vpc : "(host)");
	*ret_fd = space->netfilter_fd;
	return 0;
}

int netif_netfilter_watch(struct netif *netif, const char *vpc, int *ret_fd, struct error *err)
{
	struct netif_namespace *space = &netif->host;
	int own_socket = -1;

	if (netif_netfilter_socket(netif, vpc, &own_socket, err) < 0 ||
	    (vpc && namespace_get(netif, vpc, &space, err) < 0))
		return -err->code;
	if (nft_watch_open(space->fd, own_socket, ret_fd, err) < 0)
		return error_wrap(err, "vpc %s", vpc ? vpc : "(host)");
	return 0;
}
