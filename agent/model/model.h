// SPDX-License-Identifier: Apache-2.0
// The door of the model: the API's JSON <-> plain typed structs.
//
// Everything a client may say is checked here, once, and every fault of a document is
// reported at once, each with its JSON pointer. What comes out is normalised ("1 vCPU" is
// 1024, defaults are filled in): nothing downstream re-checks it or sees JSON.
//
//     scoped(arena_release) struct arena arena = {0};
//     struct fault_list faults = {.arena = &arena};
//     struct model_object object;
//     if (model_parse(MODEL_TASK, "t-42", text, length, &arena, &object, &faults) < 0)
//         // reply 400 with model_error_render("InvalidParameter", "...", &faults, &out)
//     object.task->cpu_units ...
//     model_render(&object, MODEL_RENDER_PLAIN, &canonical);     // what the store keeps
//
// Ownership: objects and faults live in the arena given; nothing here opens, blocks or
// reads a clock. IPv4 addresses are uint32_t in host byte order, as in netif.
// Semantics: the AWS APIs of ECS, EC2 and ELBv2.
//
// The structs: network.h (vpc, subnet, security group), balancer.h (load balancer,
// target group), storage.h (file system), task.h (task), status.h (what the agent keeps
// about a task), image_config.h (OCI image configuration), metadata.h (ECS metadata endpoint).
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/arena.h"
#include "agent/base/buffer.h"
#include "agent/base/error.h"
#include "agent/model/balancer.h"
#include "agent/model/fault.h"
#include "agent/model/network.h"
#include "agent/model/status.h"
#include "agent/model/storage.h"
#include "agent/model/task.h"
#include "agent/model/writer.h"

enum model_kind {
	MODEL_VPC,
	MODEL_SUBNET,
	MODEL_SECURITY_GROUP,
	MODEL_LOAD_BALANCER,
	MODEL_TARGET_GROUP,
	MODEL_FILE_SYSTEM,
	MODEL_TASK,
	MODEL_KIND_COUNT,
};

// "vpc", "security-group", ... (the store's kind) and "vpcs", "security-groups", ... (the API's
// path).
const char *model_kind_name(enum model_kind kind);
const char *model_kind_path(enum model_kind kind);
// -EINVAL when there is no such kind.
int model_kind_from_name(const char *name, enum model_kind *ret_kind);
int model_kind_from_path(const char *path, enum model_kind *ret_kind);

// A parsed document: its kind, its id and what it says.
struct model_object {
	enum model_kind kind;
	const char *id;
	union {
		const void *spec;
		const struct vpc_spec *vpc;
		const struct subnet_spec *subnet;
		const struct security_group_spec *security_group;
		const struct load_balancer_spec *load_balancer;
		const struct target_group_spec *target_group;
		const struct file_system_spec *file_system;
		const struct task_spec *task;
	};
};

// 0, or -EINVAL (at least one fault), or -EFBIG (larger than 1 MiB). `id` is checked too
// (fault without pointer). *object is filled in all the same: empty where there is a fault, and
// then of use to model_references() and model_check_links() only.
int model_parse(enum model_kind kind, const char *id, const char *text, size_t length,
		struct arena *arena, struct model_object *object, struct fault_list *faults);

enum model_render {
	MODEL_RENDER_PLAIN,    // as the store keeps it
	MODEL_RENDER_REDACTED, // values of environments and arguments of commands are "<redacted>"
};

// Appends the canonical JSON: the same document in another notation gives the same bytes,
// and parsing them gives the same object again.
void model_render(const struct model_object *object, enum model_render how, struct buffer *out);

// The JSON pointers where two documents of a kind differ, at most 64; a member only one has is one
// difference. The order of the elements is none where the list is a set by its meaning. -EINVAL
// when one of the texts is no JSON.
int model_diff(enum model_kind kind, const char *one, const char *other, struct arena *arena,
	       const char *const **ret_pointers, size_t *ret_count, struct error *err);

// Whether the field at `pointer` may change once the object exists (of tasks: none).
bool model_field_is_mutable(enum model_kind kind, const char *pointer);

// Another object that this one names.
struct model_reference {
	enum model_kind kind;
	const char *id;
	const char *pointer; // where, in the document that was parsed
};

// Every reference of an object, in document order, duplicates included.
void model_references(const struct model_object *object, struct arena *arena,
		      const struct model_reference **ret_references, size_t *ret_count);

// What an object may name besides itself: the caller's lookup returns NULL when there is no such
// object.
typedef const struct model_object *model_lookup_fn(void *context, enum model_kind kind,
						   const char *id);

// Adds a fault for each dangling reference and each link that cannot be (a subnet outside its
// VPC's block, groups and subnets of two VPCs in one task, ...). A security group may name itself.
// Of a document with faults it checks what is sound, so that all can be told at once.
void model_check_links(const struct model_object *object, model_lookup_fn *lookup, void *context,
		       struct fault_list *faults);

// --- Documents of the API around objects ---

// {"code":…,"message":…,"details":[{"pointer":…,"message":…}]}, and "more":true when these are not
// all; faults may be NULL.
void model_error_render(const char *code, const char *message, const struct fault_list *faults,
			struct buffer *out);

// An object as the API shows it; spec and status are JSON texts (status NULL: none).
struct model_envelope {
	const char *kind, *id;
	uint64_t revision;
	int64_t created_ms, changed_ms; // wall clock
	const char *spec, *status;
	const char *error; // the record cannot be read; NULL: it can
};

// {"kind":…,"id":…,"revision":N,"createdAt":…,"changedAt":…,"spec":{…},"status":{…}}
void model_envelope_render(const struct model_envelope *envelope, struct buffer *out);

// {"type":"PUT"|"DELETE","revision":N,"time":…,"object":{…}}, without a newline.
void model_event_render(const struct model_envelope *object, bool deleted, uint64_t revision,
			int64_t time_ms, struct buffer *out);

// {"revision":N,"items":[…]}: begin, add each (envelope), end.
struct model_list {
	struct json_writer writer;
};
void model_list_begin(struct model_list *list, uint64_t revision, struct buffer *out);
void model_list_add(struct model_list *list, const struct model_envelope *envelope);
void model_list_end(struct model_list *list);
