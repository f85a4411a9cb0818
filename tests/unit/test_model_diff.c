// SPDX-License-Identifier: Apache-2.0
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <errno.h>
#include <string.h>

#include "agent/base/scope.h"
#include "agent/model/model.h"

enum { POINTERS_MAX = 4 };

// Of whatever kind: its table says nothing of the members here.
static void test_values(void **state)
{
	static const struct {
		const char *one, *other;
		const char *pointers[POINTERS_MAX];
	} cases[] = {
		{"{\"a\":1,\"b\":[1,2,{\"c\":\"x\"}],\"d\":{}}",
		 "{\"d\":{\"e/f\":1},\"b\":[1,3,{\"c\":\"x\"},4],\"a\":1}",
		 {"/b/1", "/b/3", "/d/e~1f"}},
		{"{\"a\":1}", "{}", {"/a"}},
		{"{}", "{}", {0}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		scoped(arena_release) struct arena arena = {0};
		const char *const *pointers;
		struct error err = {0};
		size_t count;

		assert_int_equal(model_diff(MODEL_TASK, cases[i].one, cases[i].other, &arena,
					    &pointers, &count, &err),
				 0);
		for (size_t k = 0; k < count; k++)
			assert_string_equal(pointers[k], cases[i].pointers[k]);
		assert_null(cases[i].pointers[count]);
	}
}

static void test_no_json(void **state)
{
	scoped(arena_release) struct arena arena = {0};
	const char *const *pointers;
	struct error err = {0};
	size_t count;

	(void)state;
	assert_int_equal(model_diff(MODEL_TASK, "{}", "{", &arena, &pointers, &count, &err),
			 -EINVAL);
}

// Each list in two orders, and what differs then. In `'` instead of `"`.
static const struct {
	enum model_kind kind;
	const char *one, *other;
	const char *pointers[POINTERS_MAX];
} orders[] = {
	{MODEL_TASK,
	 "{'containerDefinitions':[{'name':'a','environment':[{'name':'B','value':'1'},"
	 "{'name':'A','value':'2'}],'portMappings':[{'containerPort':1},{'containerPort':2}]},"
	 "{'name':'b','mountPoints':[{'containerPath':'/a'},{'containerPath':'/b'}],'dependsOn':"
	 "[{'containerName':'a'},{'containerName':'c'}]}]}",
	 "{'containerDefinitions':[{'name':'b','mountPoints':[{'containerPath':'/b'},"
	 "{'containerPath':'/a'}],'dependsOn':[{'containerName':'c'},{'containerName':'a'}]},"
	 "{'name':'a','environment':[{'name':'A','value':'2'},{'name':'B','value':'1'}],"
	 "'portMappings':[{'containerPort':2},{'containerPort':1}]}]}",
	 {0}},
	{MODEL_TASK,
	 "{'tags':[{'key':'a'},{'key':'b'}],'volumes':[{'name':'a'},{'name':'b'}],"
	 "'loadBalancers':[{'targetGroup':'a'},{'targetGroup':'b'}],'networkConfiguration':"
	 "{'awsvpcConfiguration':{'subnets':['a','b'],'securityGroups':['a','b']}}}",
	 "{'tags':[{'key':'b'},{'key':'a'}],'volumes':[{'name':'b'},{'name':'a'}],"
	 "'loadBalancers':[{'targetGroup':'b'},{'targetGroup':'a'}],'networkConfiguration':"
	 "{'awsvpcConfiguration':{'subnets':['a','b'],'securityGroups':['b','a']}}}",
	 {0}},
	// The first subnet with room wins; a command is a sequence.
	{MODEL_TASK,
	 "{'containerDefinitions':[{'name':'a','command':['b','c']}],'networkConfiguration':"
	 "{'awsvpcConfiguration':{'subnets':['a','b']}}}",
	 "{'containerDefinitions':[{'name':'a','command':['c','b']}],'networkConfiguration':"
	 "{'awsvpcConfiguration':{'subnets':['b','a']}}}",
	 {"/containerDefinitions/0/command/0", "/containerDefinitions/0/command/1",
	  "/networkConfiguration/awsvpcConfiguration/subnets/0",
	  "/networkConfiguration/awsvpcConfiguration/subnets/1"}},
	// What is left over is told by its place in the new document.
	{MODEL_TASK,
	 "{'containerDefinitions':[{'name':'a','environment':[{'name':'A','value':'1'},"
	 "{'name':'B','value':'2'},{'name':'C','value':'3'}]}]}",
	 "{'containerDefinitions':[{'name':'a','environment':[{'name':'C','value':'3'},"
	 "{'name':'B','value':'9'},{'name':'A','value':'1'},{'name':'D','value':'4'}]}]}",
	 {"/containerDefinitions/0/environment/1/value", "/containerDefinitions/0/environment/3"}},
	{MODEL_TASK,
	 "{'tags':[{'key':'a'},{'key':'a'}]}",
	 "{'tags':[{'key':'a'}]}", // once is not twice
	 {"/tags/1"}},
	{MODEL_SECURITY_GROUP,
	 "{'ipPermissions':[{'fromPort':1,'ipRanges':[{'cidrIp':'a'},{'cidrIp':'b'}]},"
	 "{'fromPort':2,'userIdGroupPairs':[{'groupId':'a'},{'groupId':'b'}]}]}",
	 "{'ipPermissions':[{'fromPort':2,'userIdGroupPairs':[{'groupId':'b'},{'groupId':'a'}]},"
	 "{'fromPort':1,'ipRanges':[{'cidrIp':'b'},{'cidrIp':'a'}]}]}",
	 {0}},
	{MODEL_LOAD_BALANCER,
	 "{'securityGroups':['a','b'],'listeners':[{'port':1},{'port':2}]}",
	 "{'securityGroups':['b','a'],'listeners':[{'port':2},{'port':1}]}",
	 {0}},
	{MODEL_VPC,
	 "{'attachments':[{'interface':'a','routes':[{'d':'a'},{'d':'b'}]},{'interface':'b'}]}",
	 "{'attachments':[{'interface':'b'},{'interface':'a','routes':[{'d':'b'},{'d':'a'}]}]}",
	 {0}},
	{MODEL_VPC,
	 "{'dnsServers':['10.0.0.1','10.0.0.2']}", // the first is asked first
	 "{'dnsServers':['10.0.0.2','10.0.0.1']}",
	 {"/dnsServers/0", "/dnsServers/1"}},
};

static char *quoted(const char *text, struct arena *arena)
{
	char *copy = arena_strdup(arena, text);

	for (char *c = copy; *c; c++)
		if (*c == '\'')
			*c = '"';
	return copy;
}

static void test_sets_have_no_order(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(orders); i++) {
		scoped(arena_release) struct arena arena = {0};
		const char *const *pointers;
		struct error err = {0};
		size_t count, k;

		assert_int_equal(model_diff(orders[i].kind, quoted(orders[i].one, &arena),
					    quoted(orders[i].other, &arena), &arena, &pointers,
					    &count, &err),
				 0);
		for (k = 0; k < count; k++)
			if (k == POINTERS_MAX || !orders[i].pointers[k] ||
			    strcmp(pointers[k], orders[i].pointers[k]) != 0)
				fail_msg("case %zu: %s", i, pointers[k]);
		assert_true(k == POINTERS_MAX || !orders[i].pointers[k]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_no_json),
		cmocka_unit_test(test_sets_have_no_order),
	};

	return cmocka_run_group_tests_name("model diff", tests, NULL, NULL);
}
