# SPDX-License-Identifier: Apache-2.0
"""Objects over the API: made, changed, listed, refused, deleted. No task runs here."""

import contextlib
import json
import sqlite3

import pytest

from harness import documents
from harness.client import eventually, is_stopped
from harness.documents import group, target_group, task, tcp

VPC = {"cidrBlock": "10.0.0.0/16"}


def test_create_update_get_list_delete(client):
    client.put("/v1/vpcs/net", VPC).expect(201)
    first = client.get("/v1/vpcs/net")
    assert (first["kind"], first["id"], first["spec"]["cidrBlock"]) == ("vpc", "net", "10.0.0.0/16")

    client.put("/v1/vpcs/net", {**VPC, "dnsServers": ["10.0.0.2"]}).expect(200)
    second = client.get("/v1/vpcs/net")
    assert second["revision"] > first["revision"]
    assert second["createdAt"] == first["createdAt"]

    listed = client.get("/v1/vpcs")
    assert listed["items"] == [second] and listed["revision"] >= second["revision"]

    client.delete("/v1/vpcs/net").expect(204)
    client.request("GET", "/v1/vpcs/net").expect(404)
    client.delete("/v1/vpcs/net").expect(404)
    assert client.get("/v1/vpcs")["items"] == []


def test_same_document_again_changes_nothing(client):
    client.put("/v1/vpcs/net", VPC).expect(201)
    before = client.get("/v1/vpcs/net")
    client.put("/v1/vpcs/net", VPC).expect(200)
    assert client.get("/v1/vpcs/net") == before


def test_every_kind_of_object(network):
    network.put("/v1/target-groups/web", documents.target_group()).expect(201)
    network.put(
        "/v1/load-balancers/front",
        {
            "subnetId": "web",
            "securityGroups": ["web"],
            "listeners": [{"protocol": "TCP", "port": 80, "targetGroup": "web"}],
        },
    ).expect(201)
    network.put(
        "/v1/file-systems/fs-1",
        {"mountTargets": [{"ip": "192.168.80.2", "port": 2049}], "exportPath": "/fs-1"},
    ).expect(201)
    for kind in ("load-balancers", "target-groups", "file-systems", "security-groups", "subnets", "vpcs"):
        items = network.get(f"/v1/{kind}")["items"]
        assert len(items) == 1, kind
        network.delete(f"/v1/{kind}/{items[0]['id']}").expect(204)


def test_only_a_cell_without_a_record_is_adopted(network):
    assert network.get("/v1/host")["unrecordedCells"] == []
    assert network.request("POST", "/v1/tasks/ghost/adopt").status == 404
    assert network.request("POST", "/v1/tasks/ghost/adopt", end="perhaps").status == 400


def test_a_used_object_is_not_deleted(network):
    reply = network.delete("/v1/vpcs/net")
    reply.expect(409)
    assert "web" in reply.text, "the users are named"
    network.get("/v1/vpcs/net")


@pytest.mark.parametrize(
    "target, document, pointer",
    [
        ("/v1/subnets/web", {"vpcId": "nowhere", "cidrBlock": "10.0.1.0/24"}, "/vpcId"),
        ("/v1/security-groups/web", group(vpc="nowhere"), "/vpcId"),
        ("/v1/tasks/t", task(subnet="nowhere"), "/networkConfiguration/awsvpcConfiguration/subnets/0"),
    ],
)
def test_dangling_references_are_refused(client, target, document, pointer):
    client.apply({"/v1/vpcs/net": VPC})
    reply = client.put(target, document)
    reply.expect(400)
    assert pointer in reply.pointers
    client.request("GET", target).expect(404)


def test_a_subnet_outside_its_vpc_is_refused(client):
    client.apply({"/v1/vpcs/net": VPC})
    reply = client.put("/v1/subnets/web", {"vpcId": "net", "cidrBlock": "10.1.0.0/24"})
    reply.expect(400)
    assert "/cidrBlock" in reply.pointers


def test_two_faults_are_told_at_once(client):
    reply = client.put("/v1/vpcs/net", {"cidrBlock": "10.0.0.7/16", "colour": "blue"}, wrong=True)
    reply.expect(400)
    assert sorted(reply.pointers) == ["/cidrBlock", "/colour"]
    assert reply.json["code"]
    client.request("GET", "/v1/vpcs/net").expect(404)


@pytest.mark.parametrize(
    "text, status",
    [
        ("", 400),
        ("nonsense", 400),
        ('{"cidrBlock": "10.0.0.0/16"', 400),
        ('{"cidrBlock": "10.0.0.0/16"} {}', 400),
        ('{"cidrBlock": "10.0.0.0/16", "cidrBlock": "10.0.0.0/16"}', 400),
        ('{"cidrBlock": "10.0.0.0/16", "mtu": 9007199254740993}', 400),
        ('{"cidrBlock": "10.0.0.0/16", "mtu": 1500.5}', 400),
        ('{"cidrBlock": 10}', 400),
        ('{"cidrblock": "10.0.0.0/16"}', 400),
        ("[" * 33 + "]" * 33, 400),
        ('{"cidrBlock": "10.0.0.0/16\\u0000"}', 400),
        ('{"cidrBlock": "' + "1" * (1024 * 1024) + '"}', 413),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_bytes_are_refused(client, text, status):
    reply = client.raw("PUT", "/v1/vpcs/net", text, {"Content-Type": "application/json"})
    reply.expect(status)
    assert reply.json["code"] and reply.json["message"]
    client.request("GET", "/v1/vpcs/net").expect(404)


@pytest.mark.parametrize("name", ["Net", "-net", "a_b", "x" * 64, "a.b"])
def test_bad_ids_are_refused(client, name):
    client.raw("PUT", f"/v1/vpcs/{name}", json.dumps(VPC)).expect(400)


def test_unknown_paths_and_methods(client):
    assert client.raw("GET", "/v1/tasks/none").status == 404
    status = client.request("GET", "/v1/vpcs/none").status
    assert status == 404


def test_if_match_guards_updates(client):
    client.put("/v1/vpcs/net", VPC).expect(201)
    revision = client.get("/v1/vpcs/net")["revision"]
    changed = {**VPC, "dnsServers": ["10.0.0.2"]}
    client.put("/v1/vpcs/net", changed, headers={"If-Match": str(revision + 1)}).expect(412)
    assert client.get("/v1/vpcs/net")["revision"] == revision
    client.put("/v1/vpcs/net", changed, headers={"If-Match": str(revision)}).expect(200)


def test_dry_run_touches_nothing(network):
    revision = network.get("/v1/vpcs")["revision"]
    plan = network.put("/v1/tasks/t", task(), dryRun="true").expect(200)
    assert "10.0.1." in json.dumps(plan)
    front = {"subnetId": "web", "securityGroups": ["web"], "listeners": []}
    plan = network.put("/v1/load-balancers/front", front, dryRun="true").expect(200)["plan"]
    assert plan["privateIpv4Address"].startswith("10.0.1.")
    network.put("/v1/vpcs/other", VPC, dryRun="true").expect(200)
    network.request("GET", "/v1/tasks/t").expect(404)
    assert network.get("/v1/vpcs")["revision"] == revision


def test_watch_sees_changes_in_order(client):
    since = client.get("/v1/vpcs")["revision"]
    client.put("/v1/vpcs/one", VPC).expect(201)
    client.put("/v1/vpcs/two", VPC).expect(201)
    client.delete("/v1/vpcs/one").expect(204)
    events = client.follow(since)
    seen = [next(events) for _ in range(3)]
    assert [(event["type"], event["object"]["id"]) for event in seen] == [
        ("PUT", "one"),
        ("PUT", "two"),
        ("DELETE", "one"),
    ]
    assert [event["revision"] for event in seen] == sorted(event["revision"] for event in seen)


def test_watch_from_a_compacted_revision_is_gone(make_host):
    client = make_host(event_retention_count=10).client
    for number in range(30):
        client.put("/v1/vpcs/net", {**VPC, "dnsServers": [f"10.0.0.{number + 2}"]}).expect(200 if number else 201)
    client.request("GET", "/v1/events", since=1).expect(410)


def test_objects_survive_kill(host, client):
    client.apply(documents.network(documents.tcp(80, "10.9.0.0/16")))
    before = [client.get(f"/v1/{kind}")["items"] for kind in ("vpcs", "subnets", "security-groups")]
    host.restart()
    assert [client.get(f"/v1/{kind}")["items"] for kind in ("vpcs", "subnets", "security-groups")] == before


def test_the_log_is_folded_into_the_store_when_nobody_waits(host, client):
    store = host.state / "penstock.db"
    before = store.stat().st_mtime_ns  # its size may stay: it has free pages in reserve
    for number in range(250):
        client.put("/v1/vpcs/net", {**VPC, "dnsServers": [f"10.0.0.{number + 2}"]}).expect(200 if number else 201)
    eventually(lambda: store.stat().st_mtime_ns > before)


@pytest.mark.parametrize("cpu, memory", [("256", "4096"), ("1024", "1024"), ("300", "512"), ("16384", "8192")])
def test_pairs_outside_the_matrix_are_refused(network, cpu, memory):
    reply = network.put("/v1/tasks/t", task(cpu=cpu, memory=memory), wrong=True)
    reply.expect(400)
    assert "No Fargate configuration exists for given values." in reply.text


@pytest.mark.parametrize(
    "field, value",
    [
        ("networkMode", "bridge"),
        ("pidMode", "host"),
        ("runtimePlatform", {"operatingSystemFamily": "WINDOWS_SERVER_2022_CORE"}),
    ],
)
def test_what_fargate_refuses_is_refused_by_name(network, field, value):
    reply = network.put("/v1/tasks/t", task(**{field: value}), wrong=True)
    reply.expect(400)
    assert reply.pointers and all(pointer.startswith(f"/{field}") for pointer in reply.pointers)


def test_what_does_not_fit_is_refused_with_numbers(make_host):
    client = make_host(memory_mib=1024).client
    client.apply(documents.network())
    reply = client.put("/v1/tasks/big", task(cpu="1024", memory="8192"))
    reply.expect(409)
    assert "8200 MiB" in reply.text and "1024 free" in reply.text, "the VMM's share is counted"


def test_group_rules_are_checked(network):
    bad = [tcp(80, "10.0.0.1/8"), {"ipProtocol": "tcp", "ipRanges": [{"cidrIp": "0.0.0.0/0"}]}]
    reply = network.put("/v1/security-groups/web", group(*bad), wrong=True)
    reply.expect(400)
    assert "10.0.0.0/8" in reply.text, "the canonical form is named"
    assert any(pointer.startswith("/ipPermissions/1") for pointer in reply.pointers)


def test_health_ready_metrics_and_description(client):
    assert client.raw("GET", "/healthz").status == 200
    assert client.raw("GET", "/readyz").status == 200
    metrics = client.raw("GET", "/metrics")
    assert metrics.status == 200 and "penstock_build_info" in metrics.text
    assert client.raw("GET", "/openapi.yaml").status == 200
    host = client.get("/v1/host")
    assert host


def test_a_database_that_somebody_holds_is_no_conflict(host, client):
    client.apply(documents.network())
    with contextlib.closing(sqlite3.connect(host.state / "penstock.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for target, document in (("/v1/vpcs/other", {"cidrBlock": "10.9.0.0/16"}), ("/v1/tasks/t", task())):
            refused = client.put(target, document)
            assert (refused.status, refused.json["code"]) == (503, "StoreUnavailable")
        other.execute("ROLLBACK")
    client.put("/v1/vpcs/other", {"cidrBlock": "10.9.0.0/16"}).expect(201)


@pytest.mark.parametrize("path, document", [
    ("/v1/target-groups/web", {"vpcId": "net", "protocol": "TCP", "port": 8080}),
    ("/v1/file-systems/fs-1", {"mountTargets": [{"ip": "192.168.80.2", "port": 2049}], "exportPath": "/fs-1"}),
])
def test_what_was_put_is_got(network, path, document):
    network.put(path, document).expect(201)
    assert network.get(path)["spec"].items() >= document.items()


def test_what_belongs_to_a_running_task(host, network):
    network.put("/v1/target-groups/web", target_group()).expect(201)
    assert network.get("/v1/target-groups/web/targets")["items"] == []
    eni_id = network.run_task("t", task())["status"]["network"]["eniId"]
    eni = network.get(f"/v1/enis/{eni_id}")
    assert eni["taskId"] == "t" and network.get("/v1/enis")["items"] == [eni]
    network.wait_log("t", "up")
    network.request("POST", "/v1/shutdown", stopTasks="true").expect(202)
    assert host.wait_agent() == 0
    host.start()
    assert is_stopped(network.task("t")["status"]) and network.get("/v1/enis")["items"] == []


def test_a_stop_says_who_wanted_it(network):
    why = "Task failed ELB health checks in (target-group web)"
    network.run_task("t", task())
    found = {"stopCode": "EssentialContainerExited"}  # by the agent alone
    network.request("POST", "/v1/tasks/t/stop", found, wrong=True).expect(400)
    status = network.stop_task("t", stopCode="ServiceSchedulerInitiated", reason=why)["status"]
    assert (status["stopCode"], status["stoppedReason"]) == ("ServiceSchedulerInitiated", why)
