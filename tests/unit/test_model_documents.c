// SPDX-License-Identifier: Apache-2.0
// Good and bad documents, one after another, from documents/*.txt. There:
//
//     document NAME KIND          begins one: the KIND's base document (base/KIND.json)
//     set POINTER JSON            changes it ("-" appends to a list)
//     remove POINTER
//     text TEXT                   the whole text, instead of the base document
//     fault POINTER MESSAGE       expected, in this order; MESSAGE is how it begins
//     renders POINTER JSON        the canonical form has that there
//     lacks POINTER               … has nothing there
//     same                        the canonical form is that of the base document
//
// "" is the pointer of the whole document. A document without `fault` is good: its canonical form
// must be read again and render to the same bytes.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/file.h"
#include "agent/base/json.h"
#include "agent/base/scope.h"
#include "agent/model/model.h"

enum { EXPECTED_MAX = 16 };

struct expectation {
	const char *pointer, *value;
};

struct example {
	const char *name;
	enum model_kind kind;
	cJSON *document;
	const char *text; // instead of the document
	struct expectation faults[EXPECTED_MAX], renders[EXPECTED_MAX];
	unsigned fault_count, render_count;
	bool same;
	unsigned line;
};

struct counts {
	unsigned good, bad;
};

// ---------------------------------------------------------------- JSON pointers

static cJSON *child_of(cJSON *parent, const char *segment)
{
	if (cJSON_IsArray(parent))
		return cJSON_GetArrayItem(parent, (int)strtol(segment, NULL, 10));
	return cJSON_GetObjectItemCaseSensitive(parent, segment);
}

// The parent of what `pointer` names; its last segment goes to *ret_last.
static cJSON *parent_of(cJSON *document, char *pointer, char **ret_last)
{
	char *segment = pointer + 1, *slash;

	while ((slash = strchr(segment, '/'))) {
		*slash = '\0';
		document = child_of(document, segment);
		assert_non_null(document);
		segment = slash + 1;
	}
	*ret_last = segment;
	return document;
}

static void pointer_set(cJSON *document, char *pointer, cJSON *value)
{
	char *last;
	cJSON *parent = parent_of(document, pointer, &last);

	assert_non_null(value);
	if (strcmp(last, "-") == 0)
		cJSON_AddItemToArray(parent, value);
	else if (cJSON_IsArray(parent))
		cJSON_ReplaceItemInArray(parent, (int)strtol(last, NULL, 10), value);
	else if (child_of(parent, last))
		cJSON_ReplaceItemInObjectCaseSensitive(parent, last, value);
	else
		cJSON_AddItemToObject(parent, last, value);
}

static cJSON *pointer_get(cJSON *document, const char *pointer)
{
	scoped_free char *copy = strdup(pointer);
	char *last;
	cJSON *parent;

	if (*pointer == '\0')
		return document;
	parent = parent_of(document, copy, &last);
	return child_of(parent, last);
}

// ---------------------------------------------------------------- one document

static cJSON *base_document(enum model_kind kind)
{
	scoped_free char *text = NULL;
	struct error err = {0};
	char path[512];
	size_t length;
	cJSON *document;

	snprintf(path, sizeof(path), PENSTOCK_DOCUMENTS "/base/%s.json", model_kind_name(kind));
	if (file_read(AT_FDCWD, path, 65536, &text, &length, &err) < 0)
		fail_msg("%s", err.message);
	document = cJSON_Parse(text);
	assert_non_null(document);
	return document;
}

static char *canonical(const struct example *example, const char *text, struct arena *arena)
{
	struct fault_list faults = {.arena = arena};
	struct buffer out = {0};
	struct model_object object;

	if (model_parse(example->kind, "x-1", text, strlen(text), arena, &object, &faults) < 0)
		fail_msg("%s (line %u): %s: %s", example->name, example->line,
			 faults.faults[0].pointer, faults.faults[0].message);
	model_render(&object, MODEL_RENDER_PLAIN, &out);
	return buffer_take(&out);
}

// What is good here must be good for the module that programs the rules.
static void check_rules(const struct example *example, const char *text, struct arena *arena)
{
	struct fault_list faults = {.arena = arena};
	struct model_object object;
	struct sg_group group;
	struct error err = {0};

	assert_int_equal(
		model_parse(example->kind, "x-1", text, strlen(text), arena, &object, &faults), 0);
	group = security_group_rules("x-1", object.security_group, arena);
	if (sg_group_check(&group, &err) < 0)
		fail_msg("%s (line %u): %s", example->name, example->line, err.message);
}

static void check_rendering(const struct example *example, const char *text)
{
	cJSON *document = cJSON_Parse(text);

	assert_non_null(document);
	for (unsigned i = 0; i < example->render_count; i++) {
		const struct expectation *expected = &example->renders[i];
		cJSON *found = pointer_get(document, expected->pointer);
		scoped_free char *printed = found ? cJSON_PrintUnformatted(found) : NULL;

		if (!found != !expected->value || (found && strcmp(printed, expected->value) != 0))
			fail_msg("%s (line %u): %s is %s", example->name, example->line,
				 expected->pointer, found ? printed : "missing");
	}
	cJSON_Delete(document);
}

static void check_good(const struct example *example, const char *text)
{
	scoped(arena_release) struct arena arena = {0};
	scoped_free char *first = canonical(example, text, &arena);
	scoped_free char *second = canonical(example, first, &arena);

	assert_string_equal(first, second);
	check_rendering(example, first);
	if (example->kind == MODEL_SECURITY_GROUP)
		check_rules(example, first, &arena);
	if (example->same) {
		cJSON *base = base_document(example->kind);
		scoped_free char *base_text = cJSON_PrintUnformatted(base);
		scoped_free char *base_canonical = canonical(example, base_text, &arena);

		cJSON_Delete(base);
		assert_string_equal(first, base_canonical);
	}
}

static void show_faults(const struct example *example, const struct fault_list *faults)
{
	for (uint32_t i = 0; i < faults->count; i++)
		print_message("    fault %s %s\n",
			      *faults->faults[i].pointer ? faults->faults[i].pointer : "\"\"",
			      faults->faults[i].message);
	fail_msg("%s (line %u): other faults than these", example->name, example->line);
}

static void check_bad(const struct example *example, const char *text)
{
	scoped(arena_release) struct arena arena = {0};
	struct fault_list faults = {.arena = &arena};
	struct model_object object;

	if (model_parse(example->kind, "x-1", text, strlen(text), &arena, &object, &faults) !=
		    -EINVAL ||
	    faults.count != example->fault_count)
		show_faults(example, &faults);
	for (unsigned i = 0; i < example->fault_count; i++) {
		const struct expectation *expected = &example->faults[i];

		if (strcmp(faults.faults[i].pointer, expected->pointer) != 0 ||
		    strncmp(faults.faults[i].message, expected->value, strlen(expected->value)) !=
			    0)
			show_faults(example, &faults);
	}
}

static void example_check(struct example *example, struct counts *counts)
{
	scoped_free char *text = NULL;

	if (!example->name)
		return;
	text = example->text ? strdup(example->text) : cJSON_PrintUnformatted(example->document);
	if (example->fault_count > 0) {
		check_bad(example, text);
		counts->bad++;
	} else {
		check_good(example, text);
		counts->good++;
	}
	cJSON_Delete(example->document);
	*example = (struct example){0};
}

// ---------------------------------------------------------------- files of documents

static char *next_word(char **rest)
{
	char *word = *rest, *end = word + strcspn(word, " ");

	*rest = *end ? end + 1 : end;
	*end = '\0';
	return word;
}

static const char *pointer_word(char **rest)
{
	char *word = next_word(rest);

	return strcmp(word, "\"\"") == 0 ? "" : word;
}

static void expect(struct expectation *list, unsigned *count, const char *pointer,
		   const char *value)
{
	assert_true(*count < EXPECTED_MAX);
	list[(*count)++] = (struct expectation){pointer, value};
}

static void begin_document(struct example *example, char *rest, unsigned line)
{
	const char *name = next_word(&rest);

	*example = (struct example){.name = name, .line = line};
	if (model_kind_from_name(rest, &example->kind) < 0)
		fail_msg("line %u: no kind \"%s\"", line, rest);
	example->document = base_document(example->kind);
}

static void remove_pointer(cJSON *document, char *pointer)
{
	char *last;
	cJSON *parent = parent_of(document, pointer, &last);
	cJSON *child = child_of(parent, last);

	assert_non_null(child);
	cJSON_Delete(cJSON_DetachItemViaPointer(parent, child));
}

static void read_line(struct example *example, char *text, unsigned line)
{
	char *rest = text;
	const char *word = next_word(&rest);

	if (strcmp(word, "set") == 0) {
		char *pointer = next_word(&rest);

		pointer_set(example->document, pointer, cJSON_Parse(rest));
	} else if (strcmp(word, "remove") == 0) {
		remove_pointer(example->document, rest);
	} else if (strcmp(word, "text") == 0) {
		example->text = rest;
	} else if (strcmp(word, "fault") == 0) {
		const char *pointer = pointer_word(&rest);

		expect(example->faults, &example->fault_count, pointer, rest);
	} else if (strcmp(word, "renders") == 0) {
		const char *pointer = pointer_word(&rest);

		expect(example->renders, &example->render_count, pointer, rest);
	} else if (strcmp(word, "lacks") == 0) {
		expect(example->renders, &example->render_count, rest, NULL);
	} else if (strcmp(word, "same") == 0) {
		example->same = true;
	} else {
		fail_msg("line %u: no such word: %s", line, word);
	}
}

static void run_file(const char *name, struct counts *counts)
{
	scoped_free char *text = NULL;
	struct example example = {0};
	struct error err = {0};
	unsigned line = 0;
	size_t length;
	char path[512], *rest, *here;

	snprintf(path, sizeof(path), PENSTOCK_DOCUMENTS "/%s", name);
	if (file_read(AT_FDCWD, path, 1024 * 1024, &text, &length, &err) < 0)
		fail_msg("%s", err.message);
	rest = text;
	while ((here = strsep(&rest, "\n"))) {
		line++;
		if (*here == '\0' || *here == '#')
			continue;
		if (strncmp(here, "document ", 9) == 0) {
			example_check(&example, counts);
			begin_document(&example, here + 9, line);
		} else {
			read_line(&example, here, line);
		}
	}
	example_check(&example, counts);
}

static void test_documents(void **state)
{
	static const char *const files[] = {"task.txt", "container.txt", "network.txt",
					    "balancer.txt"};
	struct counts counts = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(files); i++)
		run_file(files[i], &counts);
	print_message("%u good and %u bad documents\n", counts.good, counts.bad);
	assert_true(counts.good + counts.bad >= 150);
}

// ---------------------------------------------------------------- CPU and memory

// AWS's table, pair by pair; every step beside them and between them does not exist.
static bool is_in_matrix(uint32_t cpu, uint32_t memory)
{
	switch (cpu) {
	case 256:
		return memory == 512 || memory == 1024 || memory == 2048;
	case 512:
		return memory >= 1024 && memory <= 4096 && memory % 1024 == 0;
	case 1024:
		return memory >= 2048 && memory <= 8192 && memory % 1024 == 0;
	case 2048:
		return memory >= 4096 && memory <= 16384 && memory % 1024 == 0;
	case 4096:
		return memory >= 8192 && memory <= 30720 && memory % 1024 == 0;
	case 8192:
		return memory >= 16384 && memory <= 61440 && memory % 4096 == 0;
	case 16384:
		return memory >= 32768 && memory <= 122880 && memory % 8192 == 0;
	default:
		return false;
	}
}

static bool is_accepted(uint32_t cpu, uint32_t memory)
{
	scoped(arena_release) struct arena arena = {0};
	scoped(buffer_release) struct buffer text = {0};
	struct fault_list faults = {.arena = &arena};
	struct model_object object;

	buffer_addf(&text,
		    "{\"cpu\":\"%u\",\"memory\":\"%u\",\"networkConfiguration\":"
		    "{\"awsvpcConfiguration\":{\"subnets\":[\"a\"],\"securityGroups\":[\"b\"]}},"
		    "\"containerDefinitions\":[{\"name\":\"a\",\"image\":\"b\"}]}",
		    cpu, memory);
	if (model_parse(MODEL_TASK, "t-1", text.data, text.length, &arena, &object, &faults) == 0)
		return true;
	assert_string_equal(faults.faults[0].message,
			    "No Fargate configuration exists for given values.");
	return false;
}

static void test_matrix(void **state)
{
	static const uint32_t cpus[] = {128,  255,  256,  512,   768,   1024, 2048,
					3072, 4096, 8192, 16384, 16385, 32768};
	unsigned pairs = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cpus); i++) {
		for (uint32_t memory = 256; memory <= 131072; memory += 256) {
			bool accepted = is_accepted(cpus[i], memory);

			if (accepted != is_in_matrix(cpus[i], memory))
				fail_msg("%u / %u", cpus[i], memory);
			pairs += accepted;
		}
	}
	assert_int_equal(pairs, 3 + 4 + 7 + 13 + 23 + 12 + 12);
	assert_false(is_accepted(256, 511));
	assert_false(is_accepted(16384, 122881));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_documents),
		cmocka_unit_test(test_matrix),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
