// SPDX-License-Identifier: Apache-2.0
// The API over its socket, with a fake backend: requests, objects, tasks.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <cmocka.h>

#include "agent/base/buffer.h"
#include "agent/base/scope.h"
#include "tests/unit/api_client.h"

#define VPC    "{\"cidrBlock\":\"10.0.0.0/16\"}"
#define SUBNET "{\"vpcId\":\"main\",\"cidrBlock\":\"10.0.1.0/24\"}"
#define TASK                                                                                       \
	"{\"cpu\":\"256\",\"memory\":\"512\",\"containerDefinitions\":[{\"name\":\"web\","         \
	"\"image\":\"busybox\",\"environment\":[{\"name\":\"PASSWORD\",\"value\":\"hunter2\"}]}]," \
	"\"networkConfiguration\":{\"awsvpcConfiguration\":{\"subnets\":[\"a\"],"                  \
	"\"securityGroups\":[\"web\"]}}}"

static int start(void **state)
{
	static struct api_test test;

	api_test_start(&test, (struct api_fake_options){.reader_gid = (gid_t)-1,
							.fail_commit_id = "unlucky"});
	*state = &test;
	return 0;
}

static int stop(void **state)
{
	api_test_stop(*state);
	return 0;
}

static void test_put_creates_updates_and_refuses(void **state)
{
	const struct api_test *test = *state;

	api_test_expect(
		test, "PUT", "/v1/vpcs/main", "", VPC, 201,
		API_TEXTS("\"kind\":\"vpc\"", "\"revision\":1,", "ETag: \"1\"", "\"mtu\":1500"));
	// Another notation of the same is the same.
	api_test_expect(test, "PUT", "/v1/vpcs/main", "",
			"{ \"mtu\": 1500, \"cidrBlock\":\"10.0.0.0/16\"}", 200,
			API_TEXTS("\"revision\":1,"));
	api_test_expect(test, "PUT", "/v1/vpcs/main", "",
			"{\"cidrBlock\":\"10.0.0.0/16\",\"dnsServers\":[\"10.0.0.2\"]}", 200,
			API_TEXTS("\"revision\":2,", "10.0.0.2"));
	api_test_expect(test, "PUT", "/v1/vpcs/main", "",
			"{\"cidrBlock\":\"10.1.0.0/16\",\"mtu\":1400}", 409,
			API_TEXTS("\"Conflict\"", "\"/cidrBlock\"", "\"/mtu\""));
	api_test_expect(test, "GET", "/v1/vpcs/main", "", "", 200, API_TEXTS("10.0.0.0/16"));
	api_test_expect(test, "GET", "/v1/vpcs", "", "", 200,
			API_TEXTS("{\"revision\":2,\"items\":[{\"kind\":\"vpc\",\"id\":\"main\"",
				  "Penstock-Epoch: "));
	api_test_expect(test, "GET", "/v1/vpcs/other", "", "", 404, API_TEXTS("\"NotFound\""));
}

static void test_bad_documents_are_refused_and_leave_nothing(void **state)
{
	const struct api_test *test = *state;
	static const struct {
		const char *body, *text;
	} documents[] = {
		{"", "\"details\":[{"},
		{"not json", "\"InvalidParameter\""},
		{"[]", "\"InvalidParameter\""},
		{"{\"cidrBlock\":\"10.0.0.0/16\",\"cidrBlock\":\"10.0.0.0/16\"}", "duplicate"},
		{"{\"cidrBlock\":\"10.0.0.0/16\",\"mtu\":9007199254740993}", "\"/mtu\""},
		{"{\"cidrBlock\":\"10.0.0.0/16\",\"colour\":1}", "\"/colour\""},
		{"{\"cidrBlock\":5}", "\"/cidrBlock\""},
		{"{\"cidrBlock\":\"10.0.0.1/16\"}", "\"/cidrBlock\""},
		{"{\"cidrBlock\":\"10.0.0.0/16\",\"attachments\":[{\"interface\":\"ps-uplink\","
		 "\"address\":\"192.168.1.1/24\"}]}",
		 "must not begin with ps"},
		{"{}", "\"/cidrBlock\""},
	};

	for (size_t i = 0; i < ARRAY_LENGTH(documents); i++)
		api_test_expect(test, "PUT", "/v1/vpcs/x", "", documents[i].body, 400,
				API_TEXTS(documents[i].text));
	api_test_expect(test, "GET", "/v1/vpcs", "", "", 200,
			API_TEXTS("{\"revision\":0,\"items\":[]}"));
}

// A client that creates objects in parallel comes again for this code, and for no other 400.
static void test_a_reference_that_is_not_there_has_its_own_code(void **state)
{
	static const char subnet[] = "{\"vpcId\":\"later\",\"cidrBlock\":\"10.0.1.0/24\"}";
	static const char wrong[] = "{\"vpcId\":\"later\",\"cidrBlock\":\"10.0.1.0/33\"}";

	api_test_expect(*state, "PUT", "/v1/subnets/x", "", subnet, 400,
			API_TEXTS("{\"code\":\"ReferenceNotFound\"", "\"pointer\":\"/vpcId\"",
				  "there is no vpc"));
	api_test_expect(
		*state, "PUT", "/v1/subnets/x", "", wrong, 400,
		API_TEXTS("{\"code\":\"InvalidParameter\"", "\"/cidrBlock\"", "\"/vpcId\""));
	assert_int_equal(
		api_test_put(*state, "/v1/vpcs/later", "{\"cidrBlock\":\"10.0.0.0/16\"}", NULL),
		201);
	assert_int_equal(api_test_put(*state, "/v1/subnets/x", subnet, NULL), 201);
}

// Of form and of what the document refers to.
static void test_all_faults_are_reported_at_once(void **state)
{
	const struct api_test *test = *state;

	api_test_expect(*state, "PUT", "/v1/vpcs/x", "", "{\"cidrBlock\":\"nonsense\",\"mtu\":5}",
			400, API_TEXTS("\"pointer\":\"/cidrBlock\"", "\"pointer\":\"/mtu\""));
	api_test_expect(
		*state, "PUT", "/v1/subnets/x", "",
		"{\"vpcId\":\"nowhere\",\"cidrBlock\":\"10.0.1.0/24\",\"internet\":\"nat\"}", 400,
		API_TEXTS("\"/internet\"", "\"/vpcId\""));
	api_test_make_network(test);
	api_test_expect(test, "PUT", "/v1/subnets/x", "",
			"{\"vpcId\":\"main\",\"cidrBlock\":\"10.0.1.0/28\",\"colour\":1}", 400,
			API_TEXTS("\"/colour\"", "overlaps subnet a"));
	api_test_expect(test, "PUT", "/v1/vpcs/main", "",
			"{\"cidrBlock\":\"10.0.0.0\",\"attachments\":["
			"{\"interface\":\"a\",\"address\":\"10.0.1.1/24\"},"
			"{\"interface\":\"b\",\"address\":\"0.0.0.0\"}]}",
			400,
			API_TEXTS("\"/cidrBlock\"",
				  "\"/attachments/0/address\",\"message\":\"overlaps",
				  "\"/attachments/1/address\",\"message\":\"\\\"0.0.0.0"));
	api_test_expect(
		test, "PUT", "/v1/vpcs/main", "",
		"{\"cidrBlock\":\"10.0.0.0/16\",\"attachments\":[7]}", 400,
		API_TEXTS("\"details\":[{\"pointer\":\"/attachments/0\",\"message\":\"must be "
			  "an object, not a number\"}]"));
	api_test_expect(
		test, "PUT", "/v1/tasks/t", "",
		"{\"cpu\":256,\"memory\":\"512\",\"containerDefinitions\":[{\"name\":\"c\"}],"
		"\"networkConfiguration\":{\"awsvpcConfiguration\":{\"subnets\":[\"a\"],"
		"\"securityGroups\":[\"web\",\"none\"]}}}",
		400,
		API_TEXTS("\"/cpu\"", "\"/containerDefinitions/0/image\"",
			  "no security-group \\\"none\\\""));
}

static void test_depth_and_size_are_bounded(void **state)
{
	const struct api_test *test = *state;
	static const char blank[] = "                                                        ";
	scoped(buffer_release) struct buffer deep = {0}, large = {0};

	for (int i = 0; i < 40; i++)
		buffer_adds(&deep, "[");
	api_test_expect(test, "PUT", "/v1/vpcs/x", "", buffer_text(&deep), 400,
			API_TEXTS("InvalidParameter"));
	while (large.length <= 1024 * 1024)
		buffer_adds(&large, blank);
	api_test_expect(test, "PUT", "/v1/vpcs/x", "", buffer_text(&large), 413,
			API_TEXTS("RequestTooLarge"));
	while (large.length <= 3 * 1024 * 1024)
		buffer_adds(&large, blank);
	api_test_expect(test, "PUT", "/v1/vpcs/x", "", buffer_text(&large), 413, API_TEXTS(NULL));
}

static void test_paths_methods_and_queries_are_strict(void **state)
{
	const struct api_test *test = *state;

	api_test_expect(test, "GET", "/v1/nothing", "", "", 404, API_TEXTS("\"NotFound\""));
	api_test_expect(test, "GET", "/v1/vpcs/a/b", "", "", 404, API_TEXTS("\"NotFound\""));
	api_test_expect(test, "PUT", "/v1/access-points/a", "", "", 404,
			API_TEXTS("access points are not built yet"));
	api_test_expect(test, "GET", "/v1/vpcs/", "", "", 400, API_TEXTS("\"InvalidRequest\""));
	api_test_expect(test, "POST", "/v1/vpcs/a", "", "{}", 405,
			API_TEXTS("\"MethodNotAllowed\""));
	api_test_expect(test, "PATCH", "/v1/vpcs/a", "", "{}", 405,
			API_TEXTS("\"MethodNotAllowed\"", "\r\nAllow: GET, PUT, DELETE\r\n"));
	api_test_expect(test, "POST", "/v1/tasks/a", "", "{}", 405,
			API_TEXTS("\r\nAllow: PUT, DELETE, GET\r\n"));
	api_test_expect(test, "PUT", "/v1/vpcs/UPPER", "", VPC, 400,
			API_TEXTS("\"InvalidRequest\""));
	api_test_expect(test, "PUT", "/v1/vpcs/..%2f..", "", VPC, 400,
			API_TEXTS("\"InvalidRequest\""));
	api_test_expect(test, "GET", "/v1/vpcs?colour=red", "", "", 400,
			API_TEXTS("unknown query parameter"));
	api_test_expect(test, "PUT", "/v1/vpcs/a?dryRun=maybe", "", VPC, 400,
			API_TEXTS("true or false"));
	api_test_expect(test, "PUT", "/v1/vpcs/a?dryRun=true&dryRun=false", "", VPC, 400,
			API_TEXTS("twice"));
	api_test_expect(test, "PUT", "/v1/vpcs/a", "If-Match: blue\r\n", VPC, 400,
			API_TEXTS("If-Match"));
}

static void test_if_match_guards(void **state)
{
	const struct api_test *test = *state;
	const char *changed = "{\"cidrBlock\":\"10.0.0.0/16\",\"dnsServers\":[\"10.0.0.2\"]}";

	api_test_expect(test, "PUT", "/v1/vpcs/main", "If-Match: \"7\"\r\n", VPC, 412,
			API_TEXTS("RevisionMismatch"));
	api_test_expect(test, "PUT", "/v1/vpcs/main", "", VPC, 201, API_TEXTS(NULL));
	api_test_expect(test, "PUT", "/v1/vpcs/main", "If-Match: \"2\"\r\n", changed, 412,
			API_TEXTS("RevisionMismatch"));
	api_test_expect(test, "PUT", "/v1/vpcs/main", "If-Match: 1\r\n", changed, 200,
			API_TEXTS("ETag: \"2\""));
	api_test_expect(test, "DELETE", "/v1/vpcs/main", "If-Match: \"1\"\r\n", "", 412,
			API_TEXTS("RevisionMismatch"));
	api_test_expect(test, "DELETE", "/v1/vpcs/main", "If-Match: \"2\"\r\n", "", 204,
			API_TEXTS(NULL));
}

static void test_dry_run_touches_nothing(void **state)
{
	const struct api_test *test = *state;

	api_test_expect(test, "PUT", "/v1/vpcs/main?dryRun=true", "", VPC, 200,
			API_TEXTS("\"action\":\"create\""));
	api_test_expect(test, "GET", "/v1/vpcs/main", "", "", 404, API_TEXTS(NULL));
	api_test_make_network(test);
	api_test_expect(test, "PUT", "/v1/vpcs/main?dryRun=true", "",
			"{\"cidrBlock\":\"10.0.0.0/16\",\"dnsServers\":[\"10.0.0.2\"]}", 200,
			API_TEXTS("\"action\":\"update\"", "\"changes\":[\"/dnsServers"));
	api_test_expect(test, "PUT", "/v1/tasks/t?dryRun=true", "", TASK, 200,
			API_TEXTS("\"action\":\"create\"", "\"plan\":{\"taskId\":\"t\""));
	api_test_expect(test, "GET", "/v1/tasks/t", "", "", 404, API_TEXTS(NULL));
	api_test_expect(test, "DELETE", "/v1/security-groups/web?dryRun=true", "", "", 200,
			API_TEXTS("\"action\":\"delete\""));
	api_test_expect(test, "GET", "/v1/security-groups/web", "", "", 200,
			API_TEXTS("\"revision\":3,"));
}

static void test_references_are_checked_both_ways(void **state)
{
	const struct api_test *test = *state;

	api_test_expect(test, "PUT", "/v1/subnets/a", "", SUBNET, 400, API_TEXTS("\"/vpcId\""));
	api_test_make_network(test);
	api_test_expect(test, "PUT", "/v1/subnets/b", "",
			"{\"vpcId\":\"main\",\"cidrBlock\":\"10.0.1.128/25\"}", 400,
			API_TEXTS("\"/cidrBlock\"", "overlaps subnet a"));
	api_test_expect(test, "PUT", "/v1/subnets/b", "",
			"{\"vpcId\":\"main\",\"cidrBlock\":\"10.1.1.0/24\"}", 400,
			API_TEXTS("\"/cidrBlock\""));
	api_test_expect(test, "PUT", "/v1/subnets/a", "", SUBNET, 200, API_TEXTS(NULL));
	api_test_expect(test, "DELETE", "/v1/vpcs/main", "", "", 409,
			API_TEXTS("\"InUse\"", "/v1/security-groups/web", "/v1/subnets/a"));
	api_test_expect(test, "DELETE", "/v1/subnets/a", "", "", 204, API_TEXTS(NULL));
	api_test_expect(test, "DELETE", "/v1/subnets/a", "", "", 404, API_TEXTS(NULL));
}

static void test_attachments_and_subnets_are_apart(void **state)
{
	static const char attached[] =
		"{\"cidrBlock\":\"10.0.0.0/16\",\"attachments\":["
		"{\"interface\":\"att-0\",\"address\":\"192.168.70.1/24\",\"routes\":["
		"{\"destinationCidrBlock\":\"0.0.0.0/0\",\"gateway\":\"192.168.70.2\"},"
		"{\"destinationCidrBlock\":\"10.0.0.0/8\",\"gateway\":\"192.168.70.2\"},"
		"{\"destinationCidrBlock\":\"10.0.3.0/25\",\"gateway\":\"192.168.70.2\"}]},"
		"{\"interface\":\"att-1\",\"address\":\"10.0.%s/28\"}]}";
	const struct api_test *test = *state;
	char outside[512], inside[512];

	snprintf(outside, sizeof(outside), attached, "2.17");
	snprintf(inside, sizeof(inside), attached, "1.17");
	api_test_make_network(test);
	api_test_expect(test, "PUT", "/v1/vpcs/main", "", inside, 400,
			API_TEXTS("\"/attachments/1/address\"", "overlaps subnet a (10.0.1.0/24)"));
	api_test_expect(test, "PUT", "/v1/vpcs/main", "", outside, 200, API_TEXTS("att-1"));
	api_test_expect(
		test, "PUT", "/v1/subnets/b", "",
		"{\"vpcId\":\"main\",\"cidrBlock\":\"10.0.2.0/24\"}", 400,
		API_TEXTS("\"/cidrBlock\"", "overlaps 10.0.2.16/28 of the VPC's attachment att-1"));
	api_test_expect(
		test, "PUT", "/v1/subnets/b", "",
		"{\"vpcId\":\"main\",\"cidrBlock\":\"10.0.3.0/24\"}", 400,
		API_TEXTS("\"/cidrBlock\"", "overlaps 10.0.3.0/25 of the VPC's attachment att-0"));
	api_test_expect(test, "PUT", "/v1/subnets/b", "",
			"{\"vpcId\":\"main\",\"cidrBlock\":\"10.0.4.0/24\"}", 201, API_TEXTS(NULL));
	api_test_expect(test, "DELETE", "/v1/subnets/a", "", "", 204, API_TEXTS(NULL));
	api_test_expect(test, "PUT", "/v1/vpcs/main", "", inside, 200, API_TEXTS(NULL));
}

static void test_a_route_into_a_subnet_is_refused(void **state)
{
	const struct api_test *test = *state;

	api_test_make_network(test);
	api_test_expect(
		test, "PUT", "/v1/vpcs/main", "",
		"{\"cidrBlock\":\"10.0.0.0/16\",\"attachments\":[{\"interface\":\"att-0\","
		"\"address\":\"192.168.70.1/24\",\"routes\":["
		"{\"destinationCidrBlock\":\"10.9.0.0/16\"},"
		"{\"destinationCidrBlock\":\"10.0.1.0/24\"}]}]}",
		400,
		API_TEXTS("\"/attachments/0/routes/1/destinationCidrBlock\"", "overlaps subnet a"));
}

static void test_an_attachment_has_an_address_of_its_own(void **state)
{
	static const char attached[] =
		"{\"cidrBlock\":\"10.0.0.0/16\",\"attachments\":[{\"interface\":\"att-0\","
		"\"address\":\"%s\",\"routes\":[{\"destinationCidrBlock\":\"%s\"}]}]}";
	static const struct {
		const char *address, *route, *pointer, *message;
	} refused[] = {
		{"192.168.70.0/24", "10.0.0.0/8", "/attachments/0/address", "its network itself"},
		{"192.168.70.255/24", "10.0.0.0/8", "/attachments/0/address", "broadcast address"},
		{"192.168.70.1/24", "10.0.0.0/16", "/attachments/0/routes/0/destinationCidrBlock",
		 "the VPC's own block"},
	};
	const struct api_test *test = *state;
	char vpc[256];

	for (size_t i = 0; i < ARRAY_LENGTH(refused); i++) {
		snprintf(vpc, sizeof(vpc), attached, refused[i].address, refused[i].route);
		api_test_expect(test, "PUT", "/v1/vpcs/main", "", vpc, 400,
				API_TEXTS(refused[i].pointer, refused[i].message));
	}
	snprintf(vpc, sizeof(vpc), attached, "192.168.70.0/31", "10.0.0.0/8");
	api_test_expect(test, "PUT", "/v1/vpcs/main", "", vpc, 201, API_TEXTS("att-0"));
}

static void test_a_task_of_two_vpcs_is_refused(void **state)
{
	const struct api_test *test = *state;

	api_test_make_network(test);
	assert_int_equal(api_test_put(test, "/v1/vpcs/other", VPC, NULL), 201);
	assert_int_equal(api_test_put(test, "/v1/subnets/far",
				      "{\"vpcId\":\"other\",\"cidrBlock\":\"10.0.1.0/24\"}", NULL),
			 201);
	api_test_expect(
		test, "PUT", "/v1/tasks/t", "",
		"{\"cpu\":\"256\",\"memory\":\"513\",\"containerDefinitions\":[{\"name\":\"c\","
		"\"image\":\"b\"}],\"networkConfiguration\":{\"awsvpcConfiguration\":{\"subnets\":"
		"[\"a\",\"far\"],\"securityGroups\":[\"web\"]}}}",
		400, API_TEXTS("No Fargate configuration exists for given values"));
	api_test_expect(
		test, "PUT", "/v1/tasks/t", "",
		"{\"cpu\":\"256\",\"memory\":\"512\",\"containerDefinitions\":[{\"name\":\"c\","
		"\"image\":\"b\"}],\"networkConfiguration\":{\"awsvpcConfiguration\":{\"subnets\":"
		"[\"a\",\"far\"],\"securityGroups\":[\"web\",\"none\"]}}}",
		400,
		API_TEXTS("awsvpcConfiguration/subnets/1", "awsvpcConfiguration/securityGroups/1"));
	api_test_expect(test, "GET", "/v1/tasks", "", "", 200, API_TEXTS("\"items\":[]"));
}

static void test_backend_may_refuse(void **state)
{
	const struct api_test *test = *state;

	assert_int_equal(api_test_put(test, "/v1/vpcs/busy", VPC, NULL), 201);
	api_test_expect(test, "DELETE", "/v1/vpcs/busy", "", "", 409,
			API_TEXTS("is being emptied"));
	api_test_make_network(test);
	api_test_expect(test, "PUT", "/v1/tasks/full-1", "", TASK, 409,
			API_TEXTS("\"InsufficientCapacity\"", "512 MiB wanted"));
}

static void test_task_life(void **state)
{
	const struct api_test *test = *state;

	api_test_make_network(test);
	api_test_expect(test, "PUT", "/v1/tasks/t?wait=RUNNING&timeout=10", "", TASK, 201,
			API_TEXTS("\"lastStatus\":\"RUNNING\""));
	api_test_expect(test, "PUT", "/v1/tasks/t", "", TASK, 200,
			API_TEXTS("\"lastStatus\":\"RUNNING\""));
	api_test_expect(
		test, "PUT", "/v1/tasks/t", "",
		"{\"cpu\":\"512\",\"memory\":\"1024\",\"containerDefinitions\":[{\"name\":\"web\","
		"\"image\":\"busybox\"}],\"networkConfiguration\":{\"awsvpcConfiguration\":"
		"{\"subnets\":[\"a\"],\"securityGroups\":[\"web\"]}}}",
		409, API_TEXTS("\"Conflict\"", "\"/cpu\"", "\"/memory\""));
	api_test_expect(test, "DELETE", "/v1/subnets/a", "", "", 409, API_TEXTS("/v1/tasks/t"));
	api_test_expect(test, "DELETE", "/v1/tasks/t", "", "", 409, API_TEXTS("stop it first"));
	api_test_expect(test, "POST", "/v1/tasks/t/stop?wait=STOPPED&timeout=10", "",
			"{\"reason\":\"enough\",\"drainSeconds\":0}", 200,
			API_TEXTS("\"lastStatus\":\"STOPPED\"", "enough"));
	api_test_expect(test, "POST", "/v1/tasks/t/stop", "", "", 200, API_TEXTS("\"STOPPED\""));
	api_test_expect(test, "PUT", "/v1/tasks/t", "", TASK, 200,
			API_TEXTS("\"lastStatus\":\"STOPPED\""));
	api_test_expect(test, "DELETE", "/v1/tasks/t", "", "", 204, API_TEXTS(NULL));
	api_test_expect(test, "DELETE", "/v1/tasks/t", "", "", 404, API_TEXTS(NULL));
}

static void test_a_stopped_task_outlives_what_it_names(void **state)
{
	const struct api_test *test = *state;

	api_test_make_network(test);
	assert_int_equal(api_test_put(test, "/v1/tasks/t", TASK, NULL), 201);
	assert_int_equal(api_test_status(test, "POST", "/v1/tasks/t/stop?wait=STOPPED"), 200);
	assert_int_equal(api_test_status(test, "DELETE", "/v1/security-groups/web"), 204);
	api_test_expect(test, "PUT", "/v1/tasks/t", "", TASK, 200,
			API_TEXTS("\"lastStatus\":\"STOPPED\""));
	api_test_expect(test, "PUT", "/v1/tasks/other", "", TASK, 400,
			API_TEXTS("no security-group"));
}

static void test_a_change_of_status_does_not_spoil_if_match(void **state)
{
	const struct api_test *test = *state;

	api_test_make_network(test);
	api_test_expect(test, "PUT", "/v1/tasks/t?wait=RUNNING", "", TASK, 201,
			API_TEXTS("\"revision\":5,"));
	api_test_expect(test, "POST", "/v1/tasks/t/stop", "If-Match: 3\r\n", "", 412,
			API_TEXTS("RevisionMismatch"));
	api_test_expect(test, "POST", "/v1/tasks/t/stop?wait=STOPPED", "If-Match: 4\r\n", "", 200,
			API_TEXTS("\"STOPPED\""));
	api_test_expect(test, "DELETE", "/v1/tasks/t", "If-Match: 99\r\n", "", 412,
			API_TEXTS("RevisionMismatch"));
	api_test_expect(test, "DELETE", "/v1/tasks/t", "If-Match: 5\r\n", "", 204, API_TEXTS(NULL));
}

static void test_stop_body_is_checked(void **state)
{
	const struct api_test *test = *state;

	api_test_make_network(test);
	assert_int_equal(api_test_put(test, "/v1/tasks/t", TASK, NULL), 201);
	api_test_expect(test, "POST", "/v1/tasks/t/stop", "",
			"{\"reason\":5,\"drainSeconds\":-1,\"force\":true}", 400,
			API_TEXTS("\"/reason\"", "\"/drainSeconds\"", "\"/force\""));
	api_test_expect(test, "POST", "/v1/tasks/none/stop", "", "", 404, API_TEXTS(NULL));
}

static void test_wait_ends_without_its_state(void **state)
{
	const struct api_test *test = *state;

	api_test_make_network(test);
	api_test_expect(test, "PUT", "/v1/tasks/fail-1?wait=RUNNING&timeout=10", "", TASK, 202,
			API_TEXTS("\"lastStatus\":\"STOPPED\"", "ResourceInitializationError"));
	api_test_expect(test, "PUT", "/v1/tasks/stuck-1?wait=RUNNING&timeout=1", "", TASK, 202,
			API_TEXTS("\"lastStatus\":\"PENDING\""));
	api_test_expect(test, "GET", "/v1/tasks/stuck-1?wait=PENDING", "", "", 200,
			API_TEXTS("PENDING"));
	api_test_expect(test, "GET", "/v1/tasks/stuck-1?wait=SLEEPING", "", "", 400,
			API_TEXTS("wait"));
	api_test_expect(test, "GET", "/v1/tasks/stuck-1?timeout=5", "", "", 400,
			API_TEXTS("timeout"));
	api_test_expect(test, "GET", "/v1/vpcs/main?wait=RUNNING", "", "", 400,
			API_TEXTS("unknown query"));
}

static void test_views(void **state)
{
	const struct api_test *test = *state;

	api_test_expect(test, "GET", "/healthz", "", "", 200, API_TEXTS("ok\n"));
	api_test_expect(test, "GET", "/readyz", "", "", 200, API_TEXTS("ready\n"));
	api_test_expect(test, "GET", "/v1/host", "", "", 200, API_TEXTS("\"driver\":\"netns\""));
	api_test_expect(test, "GET", "/v1/enis", "", "", 200,
			API_TEXTS("\"items\":[{\"eniId\":\"eni-1\""));
	api_test_expect(test, "GET", "/v1/enis/eni-1", "", "", 200,
			API_TEXTS("{\"eniId\":\"eni-1\""));
	api_test_expect(test, "GET", "/v1/enis/eni-2", "", "", 404, API_TEXTS("\"NotFound\""));
	api_test_expect(test, "GET", "/v1/target-groups/tg/targets", "", "", 404,
			API_TEXTS("\"NotFound\""));
	api_test_expect(test, "GET", "/metrics", "", "", 200,
			API_TEXTS("text/plain; version=0.0.4", "fake_requests_total"));
	api_test_expect(test, "GET", "/metrics", "Accept: application/openmetrics-text\r\n", "",
			200, API_TEXTS("application/openmetrics-text", "# EOF"));
	api_test_expect(test, "GET", "/openapi.yaml", "", "", 200,
			API_TEXTS("openapi: 3.0.3", "ErrorCode"));
}

static void test_shutdown_is_answered_before_the_end(void **state)
{
	api_test_expect(*state, "POST", "/v1/shutdown?stopTasks=true", "", "", 202,
			API_TEXTS("{\"stopTasks\":true}"));
}

static void test_failed_commit_is_no_promise(void **state)
{
	const struct api_test *test = *state;

	api_test_expect(test, "PUT", "/v1/vpcs/unlucky", "", VPC, 503,
			API_TEXTS("StoreUnavailable"));
	api_test_expect(test, "GET", "/v1/vpcs/unlucky", "", "", 404, API_TEXTS(NULL));
	api_test_expect(test, "PUT", "/v1/vpcs/main", "", VPC, 201, API_TEXTS("\"revision\":1,"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown(name, start, stop)
		CASE(test_put_creates_updates_and_refuses),
		CASE(test_bad_documents_are_refused_and_leave_nothing),
		CASE(test_a_reference_that_is_not_there_has_its_own_code),
		CASE(test_all_faults_are_reported_at_once),
		CASE(test_depth_and_size_are_bounded),
		CASE(test_paths_methods_and_queries_are_strict),
		CASE(test_if_match_guards),
		CASE(test_dry_run_touches_nothing),
		CASE(test_references_are_checked_both_ways),
		CASE(test_attachments_and_subnets_are_apart),
		CASE(test_a_route_into_a_subnet_is_refused),
		CASE(test_an_attachment_has_an_address_of_its_own),
		CASE(test_a_task_of_two_vpcs_is_refused),
		CASE(test_backend_may_refuse),
		CASE(test_task_life),
		CASE(test_a_stopped_task_outlives_what_it_names),
		CASE(test_a_change_of_status_does_not_spoil_if_match),
		CASE(test_stop_body_is_checked),
		CASE(test_wait_ends_without_its_state),
		CASE(test_views),
		CASE(test_shutdown_is_answered_before_the_end),
		CASE(test_failed_commit_is_no_promise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
