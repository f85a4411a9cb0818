// SPDX-License-Identifier: Apache-2.0
// What an event changed: the object that it carries against the one of the event before.
//
//     scoped(changes_release) struct changes changes = {0};
//     changes_take(&changes, object, &text); // "spec.dnsServers, status.error=no such interface"
#pragma once

#include <cjson/cJSON.h>
#include <stddef.h>

#include "agent/base/buffer.h"

// The last known object of each kind and id: as many as the stream told of.
struct changes {
	cJSON **objects;
	size_t count;
};

// Appends the paths of what differs from the object as it was last seen, with the new value where
// it is short; nothing for the first of an object. `event` stays the caller's.
void changes_take(struct changes *changes, const cJSON *object, struct buffer *text);
void changes_release(struct changes *changes);
