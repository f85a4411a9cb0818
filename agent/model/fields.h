// SPDX-License-Identifier: Apache-2.0
// Private to the model: tables of fields. One row says how a member of a JSON object is
// checked, where it goes in the struct and how it is rendered again; a field that is refused
// is one row too.
//
// Parsing reports every fault it meets and goes on: after a fault a struct holds
// defaults ("" for a text) in that place, and the finish functions must cope with them.
#pragma once

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/arena.h"
#include "agent/model/fault.h"
#include "agent/model/model.h"
#include "agent/model/writer.h"

enum field_type {
	FIELD_TEXT,     // const char *; min and max are its length
	FIELD_BUFFER,   // char[max]; a longer text is cut
	FIELD_BOOLEAN,  // bool
	FIELD_U32,      // uint32_t, min to max
	FIELD_U64,      // uint64_t, min to max (a double must hold it)
	FIELD_I32,      // int32_t, min to max
	FIELD_ENUM,     // unsigned: an index of words
	FIELD_TIME,     // int64_t, wall clock in ms; 0 is not rendered
	FIELD_ADDRESS,  // uint32_t, IPv4 of a host; 0 is not rendered
	FIELD_CIDR,     // struct ipv4_cidr, canonical; max > 0: hosts', prefix from min to max
	FIELD_OBJECT,   // a struct in the struct; absent: all defaults
	FIELD_POINTER,  // a pointer to a struct, NULL when absent
	FIELD_LIST,     // pointer (NULL: absent) and count; min to max elements
	FIELD_CUSTOM,   // its own functions
	FIELD_CONSTANT, // a text (or a list of one text) that must be `expected`, or else `text`
			// says why
	FIELD_REFUSED,  // whatever its value, unless void (false, 0, [], {}); `expected` says why
};

enum field_flag {
	FIELD_REQUIRED = 1 << 0,
	FIELD_IMMUTABLE = 1 << 1, // once the object exists
	FIELD_SECRET = 1 << 2,    // redacted for readers
	FIELD_SPARSE = 1 << 3,    // not rendered when it has its default
	FIELD_UNIQUE = 1 << 4,    // list of texts: each once
	FIELD_SET = 1 << 5,       // list: the order of its elements means nothing
};

struct field;
struct parse;
struct place;

typedef void field_parse_fn(struct parse *parse, const struct place *place,
			    const struct field *field, const cJSON *value, void *target);
typedef void field_render_fn(struct json_writer *writer, const struct field *field,
			     const void *source);
// Checks between the fields of a struct, after all of them were parsed.
typedef void field_finish_fn(struct parse *parse, const struct place *place, void *target);

struct field_table {
	const struct field *fields;
	size_t count;
	size_t size;             // of the struct
	bool open;               // unknown members are ignored
	field_finish_fn *finish; // or NULL
};

// A word that is known, and why it is not taken.
struct refused_word {
	const char *word, *why;
};

struct field {
	const char *name;
	enum field_type type;
	unsigned flags;
	size_t offset;
	int64_t min, max;
	int64_t number;                             // default of numbers, booleans, enumerations
	const char *text;                           // default of a text
	const char *expected;                       // CONSTANT, REFUSED
	const char *const *words;                   // ENUM, ends with NULL
	const struct refused_word *refused;         // ENUM, ends with {NULL}; or NULL
	const char *(*complaint)(const char *text); // TEXT: NULL, or what would be right
	const struct field_table *table;            // OBJECT, POINTER
	const struct field *element;                // LIST: offset 0
	size_t count_offset;                        // LIST
	unsigned reference;      // TEXT: FIELD_REFERS_TO(kind), the id of such an object
	field_parse_fn *parse;   // CUSTOM
	field_render_fn *render; // CUSTOM
	size_t size;             // CUSTOM as an element
};

#define FIELD_AT(structure, member) .offset = offsetof(struct structure, member)
#define FIELD_LIST_AT(structure, items, items_count)                                               \
	.offset = offsetof(struct structure, items),                                               \
	.count_offset = offsetof(struct structure, items_count)
#define FIELD_REFUSE(member_name, why)                                                             \
	{                                                                                          \
		.name = (member_name), .type = FIELD_REFUSED, .expected = (why)                    \
	}
#define FIELD_NOT_BUILT(member_name) FIELD_REFUSE(member_name, "is not built yet")
#define FIELD_FARGATE_REFUSES(member_name)                                                         \
	FIELD_REFUSE(member_name, "is refused by Fargate, and so here")
#define FIELD_TABLE(structure, rows)                                                               \
	.fields = (rows), .count = sizeof(rows) / sizeof((rows)[0]),                               \
	.size = sizeof(struct structure)

#define FIELD_REFERS_TO(kind) .complaint = complain_id, .reference = (unsigned)(kind) + 1

struct parse {
	struct arena *arena;
	struct fault_list *faults;
	const char *id; // of the object
};

// Where in the document: a chain up to the root (whose parent is NULL).
struct place {
	const struct place *parent;
	const char *name; // NULL in an array
	size_t index;
};

// Both are compound literals: they live as long as the block in which they stand, so a place is
// passed down and never kept.
#define PLACE_MEMBER(parent_place, member_name)                                                    \
	(&(const struct place){.parent = (parent_place), .name = (member_name)})
#define PLACE_INDEX(parent_place, element_index)                                                   \
	(&(const struct place){.parent = (parent_place), .index = (element_index)})

__attribute__((format(printf, 3, 4))) void
parse_fault(struct parse *parse, const struct place *place, const char *format, ...);
const char *place_pointer(struct arena *arena, const struct place *place);

// `value` NULL: absent, everything gets its default.
void fields_parse(struct parse *parse, const struct place *place, const struct field_table *table,
		  const cJSON *value, void *target);
// Reads a whole document. 0, or -EINVAL or -EFBIG with at least one fault.
int document_read(struct parse *parse, const struct field_table *table, const char *text,
		  size_t length, void *ret_target);
// Reads a document that is not a client's: the first fault becomes the error, -EBADMSG.
int document_parse(const struct field_table *table, const char *text, size_t length,
		   struct arena *arena, void *ret_target, struct error *err);
// model_diff().
int document_diff(const struct field_table *table, const char *one, const char *other,
		  struct arena *arena, const char *const **ret_pointers, size_t *ret_count,
		  struct error *err);
// The text of a string value; NULL and a fault when it is none.
const char *parse_text(struct parse *parse, const struct place *place, const cJSON *value);

enum { FIELDS_REDACTED = 1 << 0 };
// The members of a struct, as one object.
void fields_render(struct json_writer *writer, const char *name, const struct field_table *table,
		   const void *source, unsigned how);
size_t field_size(const struct field *field);

// Every reference of a struct, by a callback.
typedef void fields_reference_fn(void *context, const struct place *place, enum model_kind kind,
				 const char *id);
void fields_references(const struct place *place, const struct field_table *table,
		       const void *source, fields_reference_fn *function, void *context);

// Faults for each text (a const char * at `offset` of each item) that stood before.
void parse_unique(struct parse *parse, const struct place *list_place, const char *name,
		  const void *items, uint32_t count, size_t stride, size_t offset);

// What is wrong, or what would be right; or NULL.
const char *complain_address(uint32_t address);   // IPv4, of a host
const char *complain_id(const char *text);        // the id of an object
const char *complain_name(const char *text);      // letters, digits, '-', '_'
const char *complain_path(const char *text);      // absolute, in normal form
const char *complain_printable(const char *text); // no control characters

// The tables of the kinds.
extern const struct field_table vpc_table, subnet_table, security_group_table, load_balancer_table,
	target_group_table, file_system_table, task_table, container_table;
