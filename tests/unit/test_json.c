// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "agent/base/buffer.h"
#include "agent/base/json.h"
#include "agent/base/scope.h"

static const struct {
	const char *text;
	const char *message; // begins so; NULL: good
	const char *pointer; // NULL: ""
} texts[] = {
	{"{}", NULL, NULL},
	{" [ ] ", NULL, NULL},
	{"\t\r\n null", NULL, NULL},
	{"true", NULL, NULL},
	{"\"\"", NULL, NULL},
	{"0", NULL, NULL},
	{"-0", NULL, NULL},
	{"1.5e3", NULL, NULL},
	{"0.1", NULL, NULL},
	{"1E-5", NULL, NULL},
	{"9007199254740992", NULL, NULL},
	{"-9007199254740992", NULL, NULL},
	{"9007199254740994", NULL, NULL},
	{"0.123456789012345", NULL, NULL},
	{"{\"a\":{\"a\":1},\"b\":{\"a\":1}}", NULL, NULL},
	{"{\"a\":1,\"A\":2,\"ab\":3,\"\":4}", NULL, NULL},
	{"\"\\u00e4\\ud83d\\ude00\\\"\\\\\\/\\b\\f\\n\\r\\t\"", NULL, NULL},
	{"\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\x7f\"", NULL, NULL},
	{"[1,[2,{\"x\":[]}]]", NULL, NULL},

	{"", "the text ends where a value is expected, at line 1 column 1", NULL},
	{"  ", "the text ends where a value is expected", NULL},
	{"nul", "expected a value", NULL},
	{"True", "expected a value", NULL},
	{"NaN", "expected a value", NULL},
	{"{} {}", "text after the value, at line 1 column 4", NULL},
	{"{}\n\nx", "text after the value, at line 3 column 1", NULL},
	{"\xef\xbb\xbf{}", "expected a value", NULL},
	{"[1,]", "expected a value", "/1"},
	{"[1 2]", "expected ',' or ']' in an array", "/0"},
	{"[1", "expected ',' or ']' in an array", "/0"},
	{"[", "the text ends where a value is expected", "/0"},
	{"{", "expected a member name in quotes", NULL},
	{"{\"a\":1,}", "expected a member name in quotes", "/a"},
	{"{a:1}", "expected a member name in quotes", NULL},
	{"{\"a\" 1}", "expected ':' after a member name", "/a"},
	{"{\"a\":1 \"b\":2}", "expected ',' or '}' in an object", "/a"},
	{"{\"a\":}", "expected a value", "/a"},
	{"{\"a\":[{\"b/~c\":tru}]}", "expected a value", "/a/0/b~1~0c"},
	{"// no\n1", "expected a value", NULL},
	{"'a'", "expected a value", NULL},

	{"\"a", "the text ends inside a string", NULL},
	{"\"a\nb\"", "a control character must be escaped", NULL},
	{"\"\\x41\"", "unknown escape", NULL},
	{"\"\\", "unknown escape", NULL},
	{"\"\\u00g0\"", "\\u needs four hexadecimal digits", NULL},
	{"\"\\u00\"", "\\u needs four hexadecimal digits", NULL},
	{"\"\\u0000\"", "\\u0000 is not allowed", NULL},
	{"\"\\ud800\"", "half a surrogate pair", NULL},
	{"\"\\udc00\"", "half a surrogate pair", NULL},
	{"\"\\ud800\\u0041\"", "half a surrogate pair", NULL},
	{"\"\\ud800x\"", "half a surrogate pair", NULL},
	{"\"\xff\"", "bytes that are not UTF-8", NULL},
	{"\"\xc0\xaf\"", "bytes that are not UTF-8", NULL},
	{"\"\xed\xa0\x80\"", "bytes that are not UTF-8", NULL},
	{"\"\xf4\x90\x80\x80\"", "bytes that are not UTF-8", NULL},
	{"\"\xe2\x82\"", "bytes that are not UTF-8", NULL},
	{"\"\x80\"", "bytes that are not UTF-8", NULL},

	{"-", "a number needs digits", NULL},
	{"+1", "expected a value", NULL},
	{"01", "text after the value", NULL},
	{"1.", "a number needs digits after its point", NULL},
	{".5", "expected a value", NULL},
	{"1e", "a number needs digits in its exponent", NULL},
	{"0x10", "text after the value", NULL},
	{"9007199254740993", "9007199254740993 loses precision", NULL},
	{"[18446744073709551615]", "18446744073709551615 loses precision", "/0"},
	{"1e400", "1e400 loses precision", NULL},
	{"1e-400", "1e-400 loses precision", NULL},
	{"0.12345678901234567", "0.12345678901234567 loses precision", NULL},
	{"1234567890123456789012345678901234567890123456789012345678901",
	 "a number of more than 60 characters", NULL},

	{"{\"a\":1,\"b\":2,\"a\":3}", "duplicate key \"a\"", "/a"},
	{"{\"x\":{\"b\":1,\"\\u0062\":2}}", "duplicate key \"b\"", "/x/b"},
	{"[{\"\":1,\"\":2}]", "duplicate key \"\"", "/0/"},
};

static void test_texts(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(texts); i++) {
		const char *text = texts[i].text, *pointer = texts[i].pointer;
		struct json_fault fault = {0};
		cJSON *value = NULL;
		int result = json_read(text, strlen(text), &json_limits_api, &value, &fault);

		if (!texts[i].message) {
			if (result < 0)
				fail_msg("%s: %s", text, fault.message);
			cJSON_Delete(value);
			continue;
		}
		if (result != -EINVAL ||
		    strncmp(fault.message, texts[i].message, strlen(texts[i].message)) != 0)
			fail_msg("%s: \"%s\" instead of \"%s\"", text, fault.message,
				 texts[i].message);
		assert_string_equal(fault.pointer, pointer ? pointer : "");
		assert_null(value);
	}
}

static void add_times(struct buffer *text, const char *part, size_t count)
{
	for (size_t i = 0; i < count; i++)
		buffer_adds(text, part);
}

static int read_buffer(const struct buffer *text, struct json_fault *fault)
{
	cJSON *value = NULL;
	int result = json_read(text->data, text->length, &json_limits_api, &value, fault);

	cJSON_Delete(value);
	return result;
}

static void test_depth(void **state)
{
	struct json_fault fault;

	(void)state;
	for (size_t depth = 32; depth <= 33; depth++) {
		scoped(buffer_release) struct buffer text = {0};

		add_times(&text, "[", depth);
		add_times(&text, "]", depth);
		assert_int_equal(read_buffer(&text, &fault), depth == 32 ? 0 : -EINVAL);
	}
	assert_non_null(strstr(fault.message, "nested deeper than 32"));
}

static void test_size(void **state)
{
	scoped(buffer_release) struct buffer text = {0};
	struct json_fault fault;

	(void)state;
	add_times(&text, " ", 1024 * 1024 - 1);
	buffer_adds(&text, "1");
	assert_int_equal(read_buffer(&text, &fault), 0);
	buffer_adds(&text, " ");
	assert_int_equal(read_buffer(&text, &fault), -EFBIG);
	assert_string_equal(fault.pointer, "");
}

static void test_embedded_nul(void **state)
{
	struct json_fault fault;
	cJSON *value = NULL;

	(void)state;
	assert_int_equal(json_read("{}\0{}", 5, &json_limits_api, &value, &fault), -EINVAL);
	assert_int_equal(json_read("\"a\0b\"", 5, &json_limits_api, &value, &fault), -EINVAL);
}

// A megabyte of keys must not cost a quadratic number of comparisons.
static void test_many_keys(void **state)
{
	scoped(buffer_release) struct buffer text = {0};
	struct json_fault fault;
	clock_t start = clock(); // of the processor: what others take does not count

	(void)state;
	buffer_adds(&text, "{\"0\":0");
	for (unsigned i = 1; text.length < 1024 * 1024 - 32; i++)
		buffer_addf(&text, ",\"%x\":0", i);
	buffer_adds(&text, "}");
	assert_int_equal(read_buffer(&text, &fault), 0);
	text.data[text.length - 1] = ',';
	buffer_adds(&text, "\"7f\":1}");
	assert_int_equal(read_buffer(&text, &fault), -EINVAL);
	assert_string_equal(fault.pointer, "/7f");
	assert_true((clock() - start) / CLOCKS_PER_SEC < 10);
}

static void test_long_pointer(void **state)
{
	scoped(buffer_release) struct buffer text = {0};
	struct json_fault fault;

	(void)state;
	buffer_adds(&text, "{\"short\":{\"");
	add_times(&text, "x", 1000);
	buffer_adds(&text, "\":[}]}");
	assert_int_equal(read_buffer(&text, &fault), -EINVAL);
	assert_string_equal(fault.pointer, "/short");
}

static void test_member(void **state)
{
	static const char text[] = "{\"Cpu\":1,\"cpu\":2}";
	struct json_fault fault;
	cJSON *value;

	(void)state;
	assert_int_equal(json_read(text, strlen(text), &json_limits_api, &value, &fault), 0);
	assert_int_equal(json_member(value, "cpu")->valueint, 2);
	assert_null(json_member(value, "CPU"));
	cJSON_Delete(value);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_texts),     cmocka_unit_test(test_depth),
		cmocka_unit_test(test_size),      cmocka_unit_test(test_embedded_nul),
		cmocka_unit_test(test_many_keys), cmocka_unit_test(test_long_pointer),
		cmocka_unit_test(test_member),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
