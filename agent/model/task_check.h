// SPDX-License-Identifier: Apache-2.0
// Private to the model: what must hold between the fields of a task.
#pragma once

#include "agent/model/fields.h"

// A field_finish_fn. Resolves names to indexes and fills in start_order.
void task_check(struct parse *parse, const struct place *place, void *target);
