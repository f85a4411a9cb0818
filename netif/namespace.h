// SPDX-License-Identifier: Apache-2.0
// Internal to netif: visits of this thread to network namespaces, and namespaces
// pinned to a file.
#pragma once

#include <stdbool.h>

#include "agent/base/error.h"

// A visit ends with its scope:
//
//     scoped_visit struct namespace_visit visit = NAMESPACE_VISIT(home_fd);
//     if (namespace_enter(&visit, vpc_fd, err) < 0) ...
//     ... sockets opened and /proc/sys read here are the VPC's ...
struct namespace_visit {
	int home_fd;
	bool away;
};

#define NAMESPACE_VISIT(home)                                                                      \
	{                                                                                          \
		.home_fd = (home)                                                                  \
	}
#define scoped_visit __attribute__((cleanup(namespace_leave)))

int namespace_enter(struct namespace_visit *visit, int namespace_fd, struct error *err);
// The same, into a new namespace that lives as long as somebody holds it.
int namespace_enter_new(struct namespace_visit *visit, struct error *err);
// Home again; aborts the process when that fails, for every later call would act on
// the wrong network. Nothing when at home.
void namespace_leave(struct namespace_visit *visit);

// A descriptor of the namespace that this thread is in.
int namespace_open_current(int *ret_fd, struct error *err);

// Settings (below /proc/sys/net) of the namespace that this thread is in.
struct namespace_setting {
	const char *path; // relative to /proc/sys/net
	const char *value;
	bool optional; // a kernel without the file is fine
};
int namespace_configure(const struct namespace_setting *settings, size_t count, struct error *err);

// No IPv6 on any interface, now or later.
extern const struct namespace_setting namespace_ipv6_off[1];

// --- Pinned namespaces: a file that a namespace is mounted on. It is born with `mark` as its
// content, readable while nothing is mounted on it: even after a crash between its birth and the
// mount it says whose it is. ---

#define NAMESPACE_DIRECTORY "/run/netns"

// Pins the namespace that this thread is in. -EEXIST when `path` is pinned already or has
// another mark.
int namespace_pin(const char *path, const char *mark, struct error *err);
// A missing file is success.
int namespace_unpin(const char *path, struct error *err);

enum namespace_file { NAMESPACE_NONE, NAMESPACE_PINNED, NAMESPACE_OURS, NAMESPACE_OTHER };

// What stands at `path`. PINNED: *ret_fd is the namespace. OURS: an unmounted file with
// this mark. OTHER: something else.
int namespace_open(const char *path, const char *mark, int *ret_fd, enum namespace_file *ret_file,
		   struct error *err);
