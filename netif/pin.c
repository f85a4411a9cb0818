// SPDX-License-Identifier: Apache-2.0
// Pins a VPC's namespace again. The pin is a name, the namespace lives without it: it must never be
// replaced by an empty one while anything is inside.
#include <errno.h>
#include <string.h>
#include <sys/inotify.h>

#include "agent/base/scope.h"
#include "netif/handle.h"
#include "netif/namespace.h"

static int pin(struct netif *netif, struct netif_namespace *space, struct error *err)
{
	scoped_visit struct namespace_visit visit = NAMESPACE_VISIT(netif->host.fd);
	char path[NAMESPACE_PATH_SIZE], mark[LINK_ALIAS_SIZE];

	if (namespace_enter(&visit, space->fd, err) < 0 ||
	    namespace_pin(namespace_path(netif, space->vpc, path),
			  mark_format_vpc(netif->install, space->vpc, mark), err) < 0)
		return error_wrap(err, "vpc %s: pin its namespace again", space->vpc);
	return 1;
}

// The namespace that is pinned now is another one: it gives way when nothing is inside.
static int unpin_unused(struct netif *netif, const char *vpc, struct error *err)
{
	char path[NAMESPACE_PATH_SIZE];
	struct netif_namespace *space;
	int result = namespace_get(netif, vpc, &space, err);

	if (result == -ENOENT) {
		error_clear(err);
		return 0;
	}
	if (result < 0)
		return result;
	if (namespace_check_unused(space, err) < 0)
		return error_wrap(err,
				  "vpc %s: %s is another namespace than the one its tasks live in",
				  vpc, namespace_path(netif, vpc, path));
	namespace_forget(netif, vpc);
	return namespace_unpin(namespace_path(netif, vpc, path), err);
}

int netif_vpc_pin(struct netif *netif, const char *vpc, int namespace_fd, struct error *err)
{
	struct netif_namespace *space;

	if (namespace_fd >= 0) {
		int result = namespace_holds(netif, vpc, namespace_fd, err);

		if (result < 0)
			return result;
		if (result == 0 && (unpin_unused(netif, vpc, err) < 0 ||
				    namespace_adopt(netif, vpc, namespace_fd, err) < 0))
			return -err->code;
	}
	if (namespace_get(netif, vpc, &space, err) < 0)
		return -err->code;
	return namespace_is_pinned(netif, space) ? 0 : pin(netif, space, err);
}

int netif_pins_watch(int inotify_fd, struct error *err)
{
	if (inotify_add_watch(inotify_fd, NAMESPACE_DIRECTORY, IN_DELETE | IN_MOVED_FROM) < 0)
		return error_errno(err, "watch %s", NAMESPACE_DIRECTORY);
	return 0;
}
