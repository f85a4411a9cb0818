// SPDX-License-Identifier: Apache-2.0
// The file system of a cell whose VMM is assumed to be taken over.
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "agent/base/error.h"

// Takes this process, which is root, to a mount and an IPC namespace of its own. Its root holds
// what a program of /usr needs to run, read-only: /usr itself, /proc with the own processes of this
// uid, /dev/null and /dev/urandom, and with `kvm` a /dev/kvm that `uid` may open. What is outside
// is reached through descriptors alone.
int shim_root_enter(uid_t uid, bool kvm, struct error *err);
