# SPDX-License-Identifier: Apache-2.0
"""penstockctl: tables for people, JSON for programs, errors that help, exit codes."""

import json
import os
import re
import signal
import subprocess

import pytest

from harness.documents import IDLE, network, shell, task
from harness.host import program

VERBS = (
    "apply delete run ps describe logs wait stop prune timeline events vpc subnet sg lb tg fs eni drops host doctor fsck adopt "
    "shutdown".split()
)


def alone(*words, **options):
    """penstockctl without a host: for what it says by itself."""
    return subprocess.run([program("penstockctl"), *words], capture_output=True, text=True, **options)


def refused(done, code):
    """The one error object that -o json leaves on standard error."""
    assert done.returncode == code and done.stdout == "", done
    error = json.loads(done.stderr)
    assert error["code"] and error["message"]
    return error


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb):
    shown = alone(verb, "--help")
    assert shown.stdout.startswith(f"usage: penstockctl {verb}") and len(shown.stdout) > 80
    assert alone("help", verb).stdout == shown.stdout
    assert f"\n  {verb} " in alone("--help").stdout


@pytest.mark.parametrize(
    "words, said",
    [
        ("", "which verb"),
        ("frobnicate", "frobnicate"),
        ("ps --bogus", "--bogus"),
        ("ps x", "unexpected argument x"),
        ("ps -o yaml", "yaml"),
        ("ps --all=yes", "--all=yes"),
        ("ps -o", "behind -o"),
        ("events --since", "behind --since"),
        ("events --since yesterday", "yesterday"),
        ("events --kind cow", "cow"),
        ("events --epoch x&y", "x&y"),
        ("shutdown --timeout soon", "soon"),
        ("events --id A", "named A"),
        ("describe", "argument is missing"),
        ("describe cow/x", "cow/x"),
        ("describe Web", "a-z"),
        ("logs", "argument is missing"),
        ("logs sg/web", "sg/web"),
        ("logs t a/b", "a/b"),
        ("timeline sg/web", "sg/web"),
        ("stop t sg/web", "sg/web"),
        ("stop t --drain x", "--drain takes"),
        ("stop t --timeout -1", "--timeout takes"),
        ("delete task/t web", "task/web"),
        ("ps --filter vpc", "NAME=VALUE"),
        ("ps --filter colour=blue", "NAME=VALUE"),
        ("ps --filter status=bogus", "a state"),
        ("wait t --for SLEEPING", "SLEEPING"),
        ("drops sg/web", "vpc/ID"),
        ("subnet A", "named A"),
        ("run t", "which file"),
        ("run t -f /nowhere", "/nowhere"),
        ("run t -f /dev/null --wait SLEEPING", "SLEEPING"),
        ("apply", "which file"),
        ("apply -f /tmp", "Is a directory"),
        ("sg allow web tpc 80 0.0.0.0/0", "PROTOCOL"),
        ("sg allow web tcp 99999 0.0.0.0/0", "PORTS"),
        ("sg allow web tcp 80", "GROUP PROTOCOL PORTS PEER"),
        ("sg bogus x", "allow, or revoke"),
        ("eni A", "named A"),
        ("fsck --config /nowhere", "/nowhere"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_asked(words, said):
    failed = alone("--socket", "/nowhere", *words.split())
    assert (failed.returncode, failed.stdout) == (2, "") and said in failed.stderr, failed.stderr


def test_without_an_agent_the_socket_is_named(make_host):
    host = make_host(start=False)
    failed = host.ctl("ps", check=False)
    assert failed.returncode == 3 and host.client.path in failed.stderr and "--socket" in failed.stderr
    assert host.client.path in refused(host.ctl("ps", "-o", "json", check=False), 3)["message"]


def test_an_empty_variable_names_no_socket():
    failed = alone("ps", env={**os.environ, "PENSTOCK_SOCKET": ""})
    assert failed.returncode in (0, 3) and "connect to :" not in failed.stderr
    assert failed.returncode == 0 or "/run/penstock/api.sock" in failed.stderr


def test_options_stand_anywhere_and_take_an_equals_sign(host, client):
    client.apply(network())
    shown = json.loads(host.ctl("sg", "--output=json", "web").stdout)
    assert json.loads(host.ctl("-o", "json", "sg", "--", "web").stdout) == shown
    elsewhere = host.ctl("sg", "--socket=/nowhere", check=False)
    assert elsewhere.returncode == 3 and "/nowhere" in elsewhere.stderr


def test_what_is_not_there(host):
    asked = "describe logs stop wait timeline drops eni lb sg vpc subnet tg fs".split()
    for words in *(f"{verb} x1" for verb in asked), "describe vpc/x1", "delete sg/x1":
        failed = host.ctl(*words.split(), check=False)
        assert (failed.returncode, failed.stdout) == (4, ""), words
        assert "NotFound" in failed.stderr and "x1" in failed.stderr, words
        assert refused(host.ctl(*words.split(), "-o", "json", check=False), 4)["code"] == "NotFound"


def test_json_and_tables(host, client):
    client.apply(network())
    missing = host.ctl("describe", "vpc/net", "vpc/gone", "-o", "json", check=False)
    assert missing.returncode == 4 and len(json.loads(missing.stdout)["items"]) == 1
    described = "describe vpc/net", "describe vpc/net subnet/web"
    for words in "ps", "sg", "sg web", "lb", "eni", "host", "doctor", *described:
        assert json.loads(host.ctl(*words.split(), "-o", "json", check=False).stdout), words
    for line in host.ctl("events", "-o", "json").stdout.splitlines():
        assert json.loads(line)["type"] == "PUT"
    assert "web" in host.ctl("sg").stdout
    assert host.ctl("ps").stdout.split()[0].isupper()


def test_a_refusal_is_the_error_object_of_the_api(host, client):
    client.apply(network())
    error = refused(host.ctl("delete", "vpc/net", "-o", "json", check=False), 1)
    assert error["code"] == "InUse"
    assert "/v1/subnets/web" in [detail["pointer"] for detail in error["details"]]
    told = host.ctl("delete", "vpc/net", check=False)
    assert told.returncode == 1 and "subnet/web uses it" in told.stderr


def test_output_that_cannot_be_written_is_a_failure(host, client):
    client.apply(network())
    for verb in ("sg", "events"):
        with open("/dev/full", "w") as full:
            failed = host.spawn(
                program("penstockctl"), "--socket", client.path, verb, stdout=full, stderr=subprocess.PIPE, text=True
            )
            assert "standard output" in failed.communicate()[1] and failed.returncode == 1


def test_a_pipe_closed_early_ends_quietly(host, client):
    client.apply(network())
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        ended = host.spawn(
            program("penstockctl"), "--socket", client.path, "sg", stdout=closed, stderr=subprocess.PIPE, text=True
        )
        assert ended.communicate()[1] == "" and ended.returncode != 0


# --- security groups ---


def test_a_protocol_number_means_what_its_name_means(host, client):
    client.apply(network())
    for number, name in (("6", "tcp"), ("17", "udp"), ("1", "icmp")):
        host.ctl("sg", "allow", "web", number, "8", "10.0.9.0/24")
        rules = client.get("/v1/security-groups/web")["spec"]["ipPermissions"]
        assert [(rule["ipProtocol"], rule["fromPort"]) for rule in rules] == [(name, 8)]
        host.ctl("sg", "revoke", "web", name, "8", "10.0.9.0/24")
    host.ctl("sg", "allow", "web", "-1", "all", "web")
    assert client.get("/v1/security-groups/web")["spec"]["ipPermissions"][0]["ipProtocol"] == "-1"
    host.ctl("sg", "revoke", "web", "all", "all", "web")
    host.ctl("sg", "allow", "web", "47", "all", "10.0.9.0/24")
    host.ctl("sg", "revoke", "web", "47", "all", "10.0.9.0/24")
    assert client.get("/v1/security-groups/web")["spec"]["ipPermissions"] == []
    missing = host.ctl("sg", "revoke", "web", "all", "all", "0.0.0.0/0", "-o", "json", check=False)
    assert refused(missing, 4)["code"] == "NotFound"


def test_a_rule_that_is_there_is_allowed_again_without_a_change(host, client):
    client.apply(network())
    host.ctl("sg", "allow", "web", "tcp", "80", "10.0.9.5")
    before = client.get("/v1/security-groups/web")
    assert before["spec"]["ipPermissions"][0]["ipRanges"] == [{"cidrIp": "10.0.9.5/32"}]
    host.ctl("sg", "allow", "web", "tcp", "80", "10.0.9.5")
    host.ctl("sg", "allow", "web", "tcp", "80", "10.0.9.5/32")
    assert client.get("/v1/security-groups/web") == before
    host.ctl("sg", "revoke", "web", "tcp", "80", "10.0.9.5")
    assert client.get("/v1/security-groups/web")["spec"]["ipPermissions"] == []


def test_rules_that_are_allowed_at_the_same_time_are_all_there(host, client):
    client.apply(network())
    ports = set(range(8000, 8008))
    ctl = program("penstockctl"), "--socket", client.path
    allowing = [host.spawn(*ctl, "sg", "allow", "web", "tcp", port, "10.0.9.0/24", stdout=subprocess.DEVNULL)
                for port in ports]
    assert [ended.wait() for ended in allowing] == [0] * len(ports)
    assert {rule["fromPort"] for rule in client.get("/v1/security-groups/web")["spec"]["ipPermissions"]} == ports


def test_load_balancers_are_members_of_groups(host, client):
    client.apply(network())
    client.put("/v1/load-balancers/front", {"subnetId": "web", "securityGroups": ["web"]}).expect(201)
    address = client.get("/v1/load-balancers/front")["status"]["privateIpv4Address"]
    assert host.ctl("sg", "web").stdout.splitlines()[-1].split() == ["front", "-", address]


# --- tasks ---


def test_logs_of_one_of_several_containers(host, network):
    network.run_task("t", task(shell("main", IDLE), shell("side", IDLE)))
    which = host.ctl("logs", "-f", "t", check=False)
    assert which.returncode == 2
    assert "penstockctl logs -f t main\n" in which.stderr and "penstockctl logs -f t side\n" in which.stderr
    assert refused(host.ctl("logs", "t", "-o", "json", check=False), 2)["code"] == "InvalidRequest"
    network.wait_log("t", "up", "side")
    assert host.ctl("logs", "t", "side").stdout == "up\n"
    assert json.loads(host.ctl("timeline", "t", "-o", "json").stdout)
    described = host.ctl("describe", "t", "t").stdout
    assert described.startswith("task ") and described.count("\n\ntask ") == 1
    assert host.ctl("stop", "t", "sg/web", check=False).returncode == 2
    assert network.task("t")["status"]["desiredStatus"] == "RUNNING", "nothing is stopped when a name is wrong"
    network.stop_task("t")


# --- followers ---


def follow(host, *words):
    return host.spawn(
        program("penstockctl"),
        "--socket",
        host.client.path,
        "events",
        "-f",
        *words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_follower_of_events_is_told_that_the_agent_ended(host, client):
    follower = follow(host, "--since", "0", "--kind", "sg")
    client.apply(network())
    seen = follower.stdout.readline()
    assert "security-group/web" in seen
    host.stop()
    _, said = follower.communicate()
    assert follower.returncode == 3 and "the agent ended" in said
    since = seen.split()[0]
    assert f"penstockctl events -f --since {since} --epoch " in said
    epoch = said.split()[-1]

    host.start()
    other = host.ctl("events", "--since", since, "--epoch", "0" * 16, check=False)
    assert other.returncode == 1 and "EpochChanged" in other.stderr
    again = follow(host, "--since", since, "--epoch", epoch, "-o", "json")
    client.apply({"/v1/vpcs/more": {"cidrBlock": "10.8.0.0/16"}})
    event = json.loads(again.stdout.readline())
    assert event["object"]["id"] == "more", "nothing is missed and nothing told twice"
    host.kill()
    _, said = again.communicate()
    assert again.returncode == 3
    assert f"--since {event['revision']} --epoch {epoch}" in json.loads(said)["details"][0]["message"]
    host.start()


# --- without an agent ---


def test_doctor_and_fsck_without_an_agent(host):
    assert host.ctl("doctor", check=False).stdout
    host.stop()
    status, report = host.fsck()
    assert status == 0, report
    host.start()


def test_doctor_tells_a_hung_agent_from_a_dead_one(host):
    host.agent.send_signal(signal.SIGSTOP)
    try:
        hung = host.ctl("doctor", check=False).stdout
    finally:
        host.agent.send_signal(signal.SIGCONT)
    assert "does not answer within 5 s" in hung and "no agent" not in hung
    host.stop()
    assert "no agent: connect to" in host.ctl("doctor", check=False).stdout
    host.start()


def test_doctor_misses_what_a_task_needs(host):
    def verdicts(*prefix):
        command = *prefix, program("penstockctl"), "doctor", "-c", host.config, "-o", "json"
        done = host.run(*command, check=False)
        return {finding["check"]: finding["verdict"] for finding in json.loads(done.stdout)}

    needed = {"mkfs", "unsquashfs", "programs"}
    assert {check for check, verdict in verdicts().items() if verdict == "ok"} >= needed | {"uids"}
    programs = host.directory / "programs"
    programs.mkdir()
    for name in ("penstock-shim", "penstock-probe", "penstock-init"):
        (programs / name).touch(mode=0o644)
    text = host.config.read_text()
    host.config.write_text(re.sub("program_directory = .*", f"program_directory = {programs}", text))
    hidden = "mount --bind /dev/null /sbin/mkfs.ext4; mount --bind /dev/null /usr/bin/unsquashfs; exec \"$@\""
    bare = verdicts("unshare", "--mount", "sh", "-c", hidden, "sh")
    assert {check for check, verdict in bare.items() if verdict == "fail"} >= needed
    assert verdicts("unshare", "--user", "--map-root-user")["uids"] == "warn"
    host.config.write_text(text)


def test_fsck_makes_nothing_where_no_agent_was(host):
    missing = host.directory / "missing"
    configuration = host.directory / "other.conf"
    configuration.write_text(f"install = other\nstate_directory = {missing}\n")
    assert host.run(program("penstockctl"), "fsck", "-c", configuration).returncode == 0
    assert not missing.exists()


def test_doctor_asks_the_agent_of_the_configuration(host):
    done = host.run(program("penstockctl"), "doctor", "-c", host.config, "-o", "json", check=False)
    agent = next(finding for finding in json.loads(done.stdout) if finding["check"] == "agent")
    assert agent["verdict"] == "ok" and host.client.path in agent["text"]


@pytest.mark.parametrize("words", [["penstockd"], ["penstockctl", "fsck"]])
def test_the_environment_names_the_configuration(words):
    command = [program(words[0]), *words[1:]]
    environment = {**os.environ, "PENSTOCK_CONFIG": "/nowhere"}
    failed = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert failed.returncode == 2 and "/nowhere" in failed.stderr
    named = subprocess.run([*command, "-c", "/elsewhere"], capture_output=True, text=True, env=environment)
    assert named.returncode == 2 and "/elsewhere" in named.stderr
