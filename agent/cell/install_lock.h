// SPDX-License-Identifier: Apache-2.0
// One agent per install and host. The state and the runtime directory have locks of their own, but
// an agent that was started with other directories shares neither, and still would find, and kill,
// the cells of the first one: they are found by the install's name in the cgroup trees. So the lock
// that counts lies there, where every agent of the host looks whatever mounts it has: a record lock
// on cgroup.procs of penstock-<install>, in the tree whose membership counts.
//
// It is a record lock (fcntl), for these belong to a process: children of a killed agent do not
// keep its successor out. Such a lock ends when the process closes any descriptor of the file, so
// nobody else in the agent may open that file.
#pragma once

#include <sys/types.h>

#include "agent/base/error.h"
#include "agent/cell/cgroup.h"

// Makes penstock-<install> and takes the lock; it is held until *ret_fd is closed. -EBUSY: another
// agent has it. Where no cgroup tree is mounted *ret_fd is -1.
int install_lock_take(const struct cgroup_tree *tree, int *ret_fd, struct error *err);
// Takes it again if somebody removed the empty cgroup meanwhile, and the lock with it.
int install_lock_keep(const struct cgroup_tree *tree, int *fd, struct error *err);
// The process that holds it; 0: nobody, -1: one that cannot be seen from this pid namespace.
pid_t install_lock_owner(const struct cgroup_tree *tree);
