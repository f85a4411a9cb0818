// SPDX-License-Identifier: Apache-2.0
// System call filters (seccomp(2)) of the programs that read bytes of a hostile guest: the VMM,
// penstock-shim and penstock-probe.
//
// The rules are the table in sandbox_rules.h. A program of the build, sandbox_compile.c, compiles
// the table with libseccomp into constant instructions: to load libseccomp and to compile at run
// time would cost each shim 300 KiB of memory and 0.7 ms of CPU.
//
//     if (sandbox_enter(SANDBOX_SHIM, err) < 0) ...                  // this process, for ever
//     struct spawn_options options = {.filter = sandbox_filter(SANDBOX_VMM), ...};
#pragma once

#include <linux/filter.h>

#include "agent/base/error.h"

enum sandbox_profile { SANDBOX_VMM, SANDBOX_SHIM, SANDBOX_PROBE, SANDBOX_PROFILES };

extern const struct sock_fprog sandbox_filters[SANDBOX_PROFILES]; // generated

// For the child of process_spawn(), which installs it right before exec.
const struct sock_fprog *sandbox_filter(enum sandbox_profile profile);

// Puts this process, which has no other thread, under the filter; sets no_new_privs. There is no
// way back. Does not block.
int sandbox_enter(enum sandbox_profile profile, struct error *err);
