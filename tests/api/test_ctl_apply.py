# SPDX-License-Identifier: Apache-2.0
"""penstockctl apply: all or nothing as far as can be known, in the right order, again and again."""

import fcntl
import json
import struct
import subprocess
import termios

import pytest

from harness.client import eventually
from harness.documents import group, target_group, tcp
from harness.host import program

VPC = {"kind": "vpc", "id": "net", "spec": {"cidrBlock": "10.0.0.0/16"}}
SUBNET = {"kind": "subnet", "id": "web", "spec": {"vpcId": "net", "cidrBlock": "10.0.1.0/24"}}


def readable_bytes(pipe):
    """What is in the pipe and nobody has read yet."""
    return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0]


def sg(name, *ingress, **fields):
    return {"kind": "sg", "id": name, "spec": group(*ingress, **fields)}


@pytest.fixture
def apply(host):
    def run(*objects, check=True, options=()):
        document = host.directory / "document.json"
        document.write_text(json.dumps(objects[0] if len(objects) == 1 else objects))
        return host.ctl("apply", "-f", document, *options, check=check)

    return run


def rules(client, name):
    permissions = client.get(f"/v1/security-groups/{name}")["spec"]["ipPermissions"]
    return [
        (rule["fromPort"], peer.get("groupId") or peer.get("cidrIp"))
        for rule in permissions
        for peer in rule.get("ipRanges", []) + rule.get("userIdGroupPairs", [])
    ]


def revision(client):
    return client.get("/v1/vpcs")["revision"]


def test_order_and_outcome(apply, client):
    front = {
        "kind": "load-balancer",
        "id": "front",
        "spec": {
            "subnetId": "web",
            "securityGroups": ["web"],
            "listeners": [{"protocol": "TCP", "port": 80, "targetGroup": "web"}],
        },
    }
    targets = {"kind": "target-group", "id": "web", "spec": target_group()}
    backwards = (front, targets, sg("web"), SUBNET, VPC)
    planned = apply(*backwards, options=["--dry-run"])
    assert planned.stdout.count("would be created") == 5 and revision(client) == 0

    assert apply(*backwards).stdout.splitlines() == [
        "vpc/net: created",
        "subnet/web: created",
        "security-group/web: created",
        "target-group/web: created",
        "load-balancer/front: created",
    ]
    before = revision(client)
    assert apply(*backwards).stdout.count(": unchanged") == 5
    assert revision(client) == before
    changed = apply(*backwards[:2], sg("web", tcp(80, "10.9.0.0/16")), *backwards[3:]).stdout
    assert changed.count(": unchanged") == 4 and "security-group/web: changed" in changed


def test_a_document_may_come_from_a_pipe_that_is_still_written_to(host, client):
    argv = host.command(program("penstockctl"), "--socket", client.path, "apply", "-f", "/dev/stdin")
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as applying:
        text = json.dumps(VPC)
        applying.stdin.write(text[:9])
        applying.stdin.flush()
        eventually(lambda: not readable_bytes(applying.stdin))
        applying.stdin.write(text[9:])
        applying.stdin.close()
        assert applying.stdout.read() == "vpc/net: created\n"


def test_a_document_given_twice_is_a_mistake(host):
    done = host.ctl("apply", "-f", "one.json", "-f", "other.json", check=False)
    assert (done.returncode, "given twice: -f" in done.stderr) == (2, True)


def test_groups_that_name_each_other(apply, client):
    web = sg("web", tcp(80, "10.9.0.0/16", group="app"), tcp(81, group="web"))
    app = sg("app", tcp(8080, group="web"))
    applied = apply(web, app, VPC)
    assert applied.stdout.splitlines()[1:] == ["security-group/web: created", "security-group/app: created"]
    assert rules(client, "web") == [(80, "10.9.0.0/16"), (80, "app"), (81, "web")]
    assert rules(client, "app") == [(8080, "web")]
    before = revision(client)
    assert apply(web, app, VPC).stdout.count(": unchanged") == 3
    assert revision(client) == before


def test_a_group_on_the_way_lets_in_no_more_than_its_document(apply, client):
    apply(VPC)
    since = revision(client)
    web, app = sg("web", tcp(80, group="app"), egress=[]), sg("app", tcp(81, group="web"), egress=[])
    apply(web, app)
    seen = [event["object"] for _, event in zip(range(3), client.follow(since))]
    assert [found["id"] for found in seen] == ["app", "web", "app"]
    assert seen[0]["spec"]["ipPermissions"] == [] and seen[0]["spec"]["ipPermissionsEgress"] == []


def test_a_group_that_is_there_may_name_a_new_one(apply, client):
    apply(VPC, sg("web"))
    told = apply(sg("web", tcp(80, group="new")), sg("new", tcp(81, group="web")), options=["--dry-run"])
    assert told.stdout == "security-group/web: would be updated\nsecurity-group/new: would be created\n"
    told = apply(sg("web", tcp(80, group="new")), sg("new", tcp(81, group="web")))
    assert told.stdout == "security-group/web: changed\nsecurity-group/new: created\n"
    assert rules(client, "web") == [(80, "new")] and rules(client, "new") == [(81, "web")]


def test_a_fault_anywhere_changes_nothing(apply, client):
    wrong = {"kind": "subnet", "id": "web", "spec": {"vpcId": "net", "cidrBlock": "10.0.1.7/24", "colour": "blue"}}
    failed = apply(VPC, wrong, sg("web", tcp(80, group="nobody")), sg("app"), check=False)
    assert (failed.returncode, failed.stdout) == (1, "")
    for words in ("subnet/web", "/colour", "10.0.1.0/24", "security-group/web", 'no security-group "nobody"'):
        assert words in failed.stderr
    assert revision(client) == 0
    assert apply(VPC, wrong, check=False, options=["--dry-run"]).returncode == 1

    failed = apply(VPC, wrong, sg("web", tcp(80, group="nobody")), check=False, options=["-o", "json"])
    errors = [json.loads(line) for line in failed.stderr.splitlines()]
    assert [error["object"] for error in errors] == ["subnet/web", "security-group/web"]
    assert revision(client) == 0


def test_what_the_document_itself_makes_good_is_not_told(apply, client):
    wrong = {**SUBNET, "spec": {**SUBNET["spec"], "colour": "blue"}}
    failed = apply(VPC, wrong, check=False)
    assert failed.returncode == 1 and "/colour" in failed.stderr and "/vpcId" not in failed.stderr
    error = json.loads(apply(VPC, wrong, check=False, options=["-o", "json"]).stderr)
    assert [detail["pointer"] for detail in error["details"]] == ["/colour"]
    assert error["message"] == error["details"][0]["message"]


def test_what_cannot_be_known_before_is_told_with_what_was_done(apply, client):
    """A subnet of a VPC that is not there yet: whether it fits is seen only then."""
    outside = {"kind": "subnet", "id": "web", "spec": {"vpcId": "net", "cidrBlock": "10.1.0.0/24"}}
    failed = apply(VPC, outside, sg("web"), check=False)
    assert (failed.returncode, failed.stdout) == (1, "vpc/net: created\n")
    assert "subnet/web" in failed.stderr and "/cidrBlock" in failed.stderr
    assert "1 of 3 objects were applied" in failed.stderr


def test_half_made_groups_are_told(apply, client):
    apply(VPC, {**VPC, "id": "other"})
    odd = sg("odd", tcp(81, group="web"), vpc="other")
    failed = apply(sg("web", tcp(80, group="odd")), odd, check=False, options=["-o", "json"])
    errors = [json.loads(line) for line in failed.stderr.splitlines()]
    assert failed.returncode == 1 and "VPC" in errors[0]["message"]
    assert (errors[1]["object"], "without its rules" in errors[1]["message"]) == ("security-group/odd", True)
    assert "0 of 2" in errors[2]["message"]
    assert rules(client, "odd") == []


def test_json_is_one_object_per_line(apply, host):
    planned = apply(VPC, SUBNET, options=["--dry-run", "-o", "json"]).stdout
    assert [(plan["kind"], plan["id"], plan["action"]) for plan in map(json.loads, planned.splitlines())] == [
        ("vpc", "net", "create"),
        ("subnet", "web", "create"),
    ]
    applied = apply(VPC, SUBNET, options=["-o", "json"]).stdout
    assert [json.loads(line)["id"] for line in applied.splitlines()] == ["net", "web"]


def test_what_describe_shows_can_be_applied(apply, host):
    apply(VPC, SUBNET, sg("web", tcp(80, group="web")))
    shown = json.loads(host.ctl("describe", "vpc/net", "subnet/web", "sg/web").stdout)
    assert len(shown["items"]) == 3
    assert apply(shown).stdout.count(": unchanged") == 3
    one = json.loads(host.ctl("describe", "sg/web").stdout)
    assert apply(one).stdout == "security-group/web: unchanged\n"


@pytest.mark.parametrize(
    "document, said",
    [
        ("{", "line 1"),
        ("7", "kind"),
        ('{"items": "x"}', "kind"),
        ('[{"kind": "cow", "id": "a", "spec": {}}]', "/0: "),
        ('{"items": [{"kind": "vpc", "id": "A", "spec": {}}]}', "/items/0: "),
        ('[{"kind": "vpc", "id": "a", "spec": []}]', "spec"),
        ('[{"kind": "vpc", "id": "a", "spec": {}}, {"kind": "vpcs", "id": "a", "spec": {}}]', "/1: the same object"),
    ],
)
def test_a_document_that_is_none(make_host, document, said):
    host = make_host(start=False)
    file = host.directory / "document.json"
    file.write_text(document)
    failed = host.ctl("apply", "-f", file, check=False)
    assert failed.returncode == 2 and str(file) in failed.stderr and said in failed.stderr


def test_what_is_not_effective_is_told(apply, client):
    lost = {"interface": "nowhere", "address": "192.168.90.1/24"}
    done = apply({**VPC, "spec": {**VPC["spec"], "attachments": [lost]}})
    assert "vpc/net: created" in done.stdout
    assert "vpc/net: NotEffective: " in done.stderr and "nowhere" in done.stderr
    error = json.loads(apply({**VPC, "spec": {**VPC["spec"], "attachments": [lost]}}, options=("-o", "json")).stderr)
    assert (error["object"], error["code"]) == ("vpc/net", "NotEffective") and "nowhere" in error["message"]
    apply(VPC)  # else fsck, rightly, misses the attachment
