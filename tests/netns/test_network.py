# SPDX-License-Identifier: Apache-2.0
"""Real packets: groups, references, live changes, anti-spoofing, attachments, subnets."""

import json
import re
import subprocess
import time

from harness import documents
from harness.client import PATIENCE, eventually, is_stopped
from harness.documents import ANYWHERE, IDLE, WEB, group, shell, target_group, task, tcp
from harness.host import program

OUTSIDE = "192.168.70.0/24"


def address(object_):
    return object_["status"]["network"]["privateIpv4Address"]


# How long nothing must come back; what does come has all the time it needs.
SILENCE = 2


def curl(target, silent):
    patience = SILENCE if silent else PATIENCE
    limits = ("--connect-timeout", patience, "--max-time", PATIENCE)
    return ("curl", "-sS", *limits, "-o", "/dev/null", f"http://{target}/")


def answers(host, target):
    """Whether an HTTP request from `outside` is answered."""
    return host.run(*curl(target, silent=False), namespace="outside", check=False).returncode == 0


def is_silent(host, target):
    """Whether a request from `outside` does not even get a connection."""
    return host.run(*curl(target, silent=True), namespace="outside", check=False).returncode != 0


def answers_task(host, task_id, target):
    return host.in_task(task_id, *curl(target, silent=False), check=False).returncode == 0


def is_silent_to_task(host, task_id, target):
    return host.in_task(task_id, *curl(target, silent=True), check=False).returncode != 0


def ping(target):
    """Until the first reply."""
    return ("ping", "-c", "1", "-w", str(int(PATIENCE)), target)


def ping_in_vain(target):
    return ("ping", "-c", "1", "-W", str(SILENCE), target)


def serves(client, task_id, **fields):
    """Runs a web server and waits until it listens."""
    command = ["CMD-SHELL", "wget -qO /dev/null http://127.0.0.1/"]
    check = {"command": command, "interval": 5, "timeout": 60, "retries": 10}
    document = task(
        shell("web", WEB, healthCheck=check),
        shell("ready", IDLE, essential=False, dependsOn=[{"containerName": "web", "condition": "HEALTHY"}]),
        **fields,
    )
    return address(client.run_task(task_id, document))


def test_only_what_a_rule_allows_comes_in(outside):
    client = outside.client
    web = serves(client, "t")
    assert answers(outside, web)
    client.put("/v1/security-groups/web", group(tcp(8080, OUTSIDE))).expect(200)
    assert is_silent(outside, web), "a taken rule is gone at once"
    client.put("/v1/security-groups/web", group(tcp(80, OUTSIDE))).expect(200)
    assert answers(outside, web), "a new rule holds at once"
    client.stop_task("t")


def test_icmp_is_a_rule_like_others(outside):
    client = outside.client
    found = address(client.run_task("t", task()))
    assert outside.run(*ping_in_vain(found), namespace="outside", check=False).returncode != 0
    echo = {"ipProtocol": "icmp", "fromPort": 8, "toPort": -1, "ipRanges": [{"cidrIp": OUTSIDE}]}
    client.put("/v1/security-groups/web", group(echo)).expect(200)
    outside.run(*ping(found), namespace="outside")
    client.stop_task("t")


def test_egress_is_held_too(outside):
    client = outside.client
    client.apply({"/v1/security-groups/mute": group(egress=[])})
    client.run_task("t", task(groups=["mute"]))
    assert outside.in_task("t", *ping_in_vain("192.168.70.2"), check=False).returncode != 0
    everything = [{"ipProtocol": "-1", "ipRanges": ANYWHERE}]
    client.put("/v1/security-groups/mute", group(egress=everything)).expect(200)
    outside.in_task("t", *ping("192.168.70.2"))
    client.stop_task("t")


def test_a_group_reference_means_its_members(host, network):
    network.apply(
        {
            "/v1/security-groups/callers": group(),
            "/v1/security-groups/web": group(tcp(80, group="callers")),
        }
    )
    web = serves(network, "web")
    network.run_task("friend", task(groups=["callers"]))
    network.run_task("stranger", task(groups=["web"]))
    assert answers_task(host, "friend", web)
    assert is_silent_to_task(host, "stranger", web)
    for name in ("friend", "stranger", "web"):
        network.stop_task(name)


def test_a_forged_source_gets_nothing_through(outside):
    client = outside.client
    web = serves(client, "t")
    outside.in_task("t", *ping("192.168.70.2"))
    outside.in_task("t", "ip", "address", "add", "10.0.1.250/32", "dev", "eth0")
    capture = outside.spawn("timeout", PATIENCE, "tcpdump", "--immediate-mode", "-nn", "-l", "-i", "eth0",
                            "icmp[icmptype] == icmp-echo", namespace="outside",
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    until_seen(capture, "listening on")
    outside.in_task("t", "ping", "-c", "2", "-W", "1", "-I", "10.0.1.250", "192.168.70.2", check=False)
    outside.in_task("t", *ping("192.168.70.2"))
    assert "10.0.1.250" not in until_seen(capture, f"{web} > "), "the honest one came after it"
    capture.terminate()
    capture.communicate()
    eventually(lambda: spoofed_drops(client) >= 2)
    assert answers(outside, web), "honest packets still pass"
    client.stop_task("t")


def until_seen(process, words):
    """What a process writes, up to a line with these words."""
    seen = ""
    for line in process.stdout:
        seen += line
        if words in line:
            return seen
    raise AssertionError(f"no {words!r} in {seen}")


def spoofed_drops(client):
    lines = client.raw("GET", "/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines
               if line.startswith("penstock_task_dropped_packets_total") and 'reason="spoofed"' in line)


def test_subnets_of_a_vpc_are_routed(host, network):
    network.apply(
        {
            "/v1/subnets/second": {"vpcId": "net", "cidrBlock": "10.0.2.0/24"},
            "/v1/security-groups/web": group(tcp(80, "10.0.0.0/16")),
        }
    )
    web = serves(network, "web", subnet="second")
    assert web.startswith("10.0.2.")
    network.run_task("friend", task())
    assert answers_task(host, "friend", web)
    for name in ("friend", "web"):
        network.stop_task(name)


def test_vpcs_may_overlap_and_do_not_meet(host, network):
    network.apply(
        {
            "/v1/vpcs/other": {"cidrBlock": "10.0.0.0/16"},
            "/v1/subnets/other": {"vpcId": "other", "cidrBlock": "10.0.1.0/24"},
            "/v1/security-groups/other": group(tcp(80, "10.0.0.0/16"), vpc="other"),
            "/v1/security-groups/web": group(tcp(80, "10.0.0.0/16")),
        }
    )
    ours = address(network.run_task("ours", task()))
    theirs = serves(network, "theirs", subnet="other", groups=["other"])
    assert ours == theirs, "overlapping ranges lease the same first address"
    network.run_task("second", task())
    assert is_silent_to_task(host, "second", theirs)
    for name in ("ours", "theirs", "second"):
        network.stop_task(name)


def test_an_attachment_goes_back(outside):
    assert "att-outside" not in outside.run("ip", "-br", "link").stdout
    outside.client.put("/v1/vpcs/net", {"cidrBlock": "10.0.0.0/16"}).expect(200)
    assert "att-outside" in outside.run("ip", "-br", "link").stdout


def front(subnet, *groups):
    return {"subnetId": subnet, "securityGroups": list(groups), "listeners": []}


def addresses_of(host, vpc):
    """What stands on lo in a VPC."""
    return host.run("ip", "-n", f"penstock-{host.install}-{vpc}", "-br", "-4", "address", "show", "lo").stdout.split()


def test_a_balancer_gives_back_its_own_address_only(host, network):
    network.apply(
        {
            "/v1/vpcs/other": {"cidrBlock": "10.0.0.0/16"},
            "/v1/subnets/other": {"vpcId": "other", "cidrBlock": "10.0.1.0/24"},
            "/v1/security-groups/other": group(vpc="other"),
            "/v1/load-balancers/theirs": front("other", "other"),
            "/v1/load-balancers/ours": front("web", "web"),
        }
    )
    assert "10.0.1.4/32" in addresses_of(host, "net") and "10.0.1.4/32" in addresses_of(host, "other")
    network.delete("/v1/load-balancers/ours").expect(204)
    eventually(lambda: "10.0.1.4/32" not in addresses_of(host, "net"))
    assert "10.0.1.4/32" in addresses_of(host, "other")
    network.put("/v1/load-balancers/more", front("other", "other")).expect(201)
    assert network.get("/v1/load-balancers/more")["status"]["privateIpv4Address"] == "10.0.1.5"
    assert network.get("/v1/load-balancers/theirs")["status"]["privateIpv4Address"] == "10.0.1.4"


def test_an_address_cools_down_through_a_restart(make_host):
    host = make_host(cooldown_seconds=3600)
    client = host.client
    client.apply({**documents.network(), "/v1/load-balancers/first": front("web", "web")})
    used = {client.get("/v1/load-balancers/first")["status"]["privateIpv4Address"]}
    used.add(address(client.run_task("t", task())))
    client.stop_task("t")
    client.delete("/v1/load-balancers/first").expect(204)
    host.restart()
    for name in ("second", "third"):
        client.put(f"/v1/load-balancers/{name}", front("web", "web")).expect(201)
        assert client.get(f"/v1/load-balancers/{name}")["status"]["privateIpv4Address"] not in used


def test_an_exhausted_subnet_says_so(network):
    network.apply({"/v1/subnets/tiny": {"vpcId": "net", "cidrBlock": "10.0.9.0/28"}})
    for number in range(11):
        network.put(f"/v1/tasks/t{number}", task(subnet="tiny")).expect(201)
    reply = network.put("/v1/tasks/one-more", task(subnet="tiny"))
    reply.expect(409)
    assert "11 used" in reply.text and "5 reserved" in reply.text
    for number in range(11):
        network.stop_task(f"t{number}")


def test_the_first_subnet_with_room_wins(network):
    network.apply({"/v1/subnets/tiny": {"vpcId": "net", "cidrBlock": "10.0.9.0/28"}})
    for number in range(11):  # each takes an address
        balancer = {"subnetId": "tiny", "securityGroups": ["web"], "listeners": []}
        network.put(f"/v1/load-balancers/lb{number}", balancer).expect(201)
    document = task()
    document["networkConfiguration"]["awsvpcConfiguration"]["subnets"] = ["tiny", "web"]
    assert network.run_task("t", document)["status"]["network"]["subnetId"] == "web"
    network.stop_task("t")
    for number in range(11):
        network.delete(f"/v1/load-balancers/lb{number}").expect(204)


def is_on_host(host, interface):
    return host.run("ip", "link", "show", interface, check=False).returncode == 0


def is_effective(client, target):
    return "error" not in client.get(target).get("status", {})


def test_an_attachment_may_come_later(host, network):
    vpc = network.get("/v1/vpcs/net")
    since = vpc["revision"]
    late = [{"interface": name, "address": f"192.168.{number}.1/24"} for name, number in (("late", 90), ("there", 91))]
    host.run("ip", "link", "add", "there", "type", "veth", "peer", "name", "peer")
    put = network.put("/v1/vpcs/net", {**vpc["spec"], "attachments": late}).expect(200)
    events = network.follow(since, kind="vpc", id="net")
    assert "status" not in next(events)["object"], "the change itself is told first"
    failed = next(events)["object"]
    assert "attachment late" in failed["status"]["error"]
    assert network.get("/v1/vpcs/net") == failed and failed in network.get("/v1/vpcs")["items"]
    assert "vpc/net is not effective" in host.ctl("doctor", check=False).stdout
    assert not is_on_host(host, "there"), "one that is missing keeps nobody from the others"
    host.restart()
    assert network.get("/v1/vpcs/net") == failed, "the same failure again is no change"

    host.run("ip", "link", "add", "late", "type", "veth", "peer", "name", "peer2")
    eventually(lambda: not is_on_host(host, "late"))
    eventually(lambda: is_effective(network, "/v1/vpcs/net"))
    assert network.get("/v1/vpcs/net")["revision"] > failed["revision"]
    # What the client was answered still guards: only the status has changed since.
    network.put("/v1/vpcs/net", vpc["spec"], headers={"If-Match": str(put["revision"])}).expect(200)
    for name in ("late", "there"):
        eventually(lambda: is_on_host(host, name))
        host.run("ip", "link", "delete", name)


def test_a_group_the_kernel_refuses_says_so(host, network):
    nft = ("nsenter", f"--net=/run/netns/penstock-{host.install}-net", "nft")
    in_the_way = ("set", "inet", "penstock", "group_bad_members")
    host.run(*nft, "add", *in_the_way, "{ type inet_service; }")
    network.put("/v1/security-groups/bad", group(tcp(80, "10.9.0.0/16"))).expect(201)
    network.put("/v1/security-groups/good", group(tcp(80, "10.9.0.0/16"))).expect(201)
    eventually(lambda: not is_effective(network, "/v1/security-groups/bad"))
    assert "group_bad_members" in network.get("/v1/security-groups/bad")["status"]["error"]
    assert is_effective(network, "/v1/security-groups/good")
    host.run(*nft, "delete", *in_the_way)
    eventually(lambda: is_effective(network, "/v1/security-groups/bad"))
    assert "10.9.0.0" in host.run(*nft, "list", "set", "inet", "penstock", "group_bad_ingress_ports").stdout


def test_a_rule_stays_the_same_when_others_come_before_it(host, network):
    nft = ("nsenter", f"--net=/run/netns/penstock-{host.install}-net", "nft")

    def elements():
        shown = host.run(*nft, "list", "set", "inet", "penstock", "group_rules_ingress_ports").stdout
        return dict(re.findall(r'(10\.[0-9.]+/\d+) \. .*? comment "([^"]+)"', shown))

    network.put("/v1/security-groups/rules", group(tcp(80, "10.9.0.0/16"))).expect(201)
    eventually(elements)
    before = elements()
    more = group(tcp(80, "10.8.0.0/16"), tcp(80, "10.9.0.0/16"))
    network.put("/v1/security-groups/rules", more).expect(200)
    eventually(lambda: len(elements()) == 2)
    assert elements()["10.9.0.0/16"] == before["10.9.0.0/16"]


def test_balancing_the_kernel_refuses_says_so(host, network):
    network.apply({"/v1/target-groups/web": target_group(), "/v1/load-balancers/front": front("web", "web")})
    inside = f"penstock-{host.install}-net"
    # A table with an owner takes changes from that process only, and goes with it.
    owner = host.spawn("nft", "-i", namespace=inside, stdin=subprocess.PIPE, text=True)
    owner.stdin.write("delete table inet penstock_lb; add table inet penstock_lb { flags owner; }\n")
    owner.stdin.flush()
    eventually(lambda: "owner" in host.run("nft", "list", "table", "inet", "penstock_lb", namespace=inside).stdout)
    network.put("/v1/target-groups/more", target_group()).expect(201)
    names = ("/v1/target-groups/web", "/v1/target-groups/more", "/v1/load-balancers/front")
    for name in names:
        eventually(lambda: not is_effective(network, name))
        assert "load balancer" in network.get(name)["status"]["error"]
    owner.communicate(timeout=PATIENCE)
    for name in names:
        eventually(lambda: is_effective(network, name))
    host.run("nft", "list", "map", "inet", "penstock_lb", "group-more", namespace=inside)


def test_a_deleted_network_is_measured_no_more(network):
    names = ('subnet="web"', 'vpc="net"')
    assert all(name in network.raw("GET", "/metrics").text for name in names)
    for target in ("security-groups/web", "subnets/web", "vpcs/net"):
        network.delete(f"/v1/{target}").expect(204)
    eventually(lambda: not any(name in network.raw("GET", "/metrics").text for name in names))


def test_nothing_reaches_the_host(outside):
    outside.run("ip", "address", "add", "10.200.0.1/32", "dev", "lo")
    outside.client.run_task("t", task())
    for target in ("10.200.0.1", "169.254.169.254"):
        assert outside.in_task("t", *ping_in_vain(target), check=False).returncode != 0, target
    outside.client.stop_task("t")


def test_an_attachment_is_called_by_its_name(host, network):
    host.run("ip", "link", "add", "att-a", "type", "veth", "peer", "name", "att-b")
    host.run("ip", "link", "property", "add", "dev", "att-a", "altname", "uplink")
    vpc = {"cidrBlock": "10.0.0.0/16", "attachments": [{"interface": "uplink", "address": "192.168.70.1/24"}]}
    network.put("/v1/vpcs/net", vpc).expect(200)
    assert "another name of att-a" in network.get("/v1/vpcs/net")["status"]["error"]
    vpc["attachments"][0]["interface"] = "att-a"
    network.put("/v1/vpcs/net", vpc).expect(200)
    assert "error" not in network.get("/v1/vpcs/net").get("status", {})
    network.put("/v1/vpcs/net", {**vpc, "attachments": []}).expect(200)
    host.run("ip", "link", "delete", "att-a")  # it is back


# --- Others change the rules ---


def nft(host, *words, check=True):
    return host.run("nft", *words, namespace=f"penstock-{host.install}-net", check=check).stdout


def has_policy(host, task_id):
    eni = host.client.task(task_id)["status"]["network"]["eniId"]
    return f'"eni {eni}"' in nft(host, "list", "set", "inet", "penstock", "eni_source", check=False)


def test_a_flushed_ruleset_is_made_again(outside):
    client = outside.client
    client.apply(
        {
            "/v1/target-groups/web": target_group(),
            "/v1/load-balancers/front": {
                "subnetId": "web",
                "securityGroups": ["web"],
                "listeners": [{"protocol": "TCP", "port": 80, "targetGroup": "web"}],
            },
        }
    )
    vip = client.get("/v1/load-balancers/front")["status"]["privateIpv4Address"]
    web = serves(client, "t")
    nft(outside, "flush", "ruleset")
    eventually(lambda: has_policy(outside, "t"))
    assert answers(outside, web)
    client.put("/v1/security-groups/web", group(tcp(8080, OUTSIDE))).expect(200)
    assert is_silent(outside, web)
    assert f"{vip} . 80" in nft(outside, "list", "map", "inet", "penstock_lb", "services")
    assert vip in nft(outside, "list", "map", "inet", "penstock", "balancer_combination")
    assert client.stop_task("t")["status"]["stopCode"] == "UserInitiated"


def test_a_missing_element_is_made_again(host, network):
    network.run_task("t", task())
    interface = network.task("t")["status"]["network"]["interfaceName"]
    nft(host, "delete", "element", "inet", "penstock", "eni_combination", f"{{ {interface} }}")
    eventually(lambda: interface in nft(host, "list", "map", "inet", "penstock", "eni_combination"))
    assert has_policy(host, "t")
    assert network.stop_task("t")["status"]["stopCode"] == "UserInitiated"


def test_a_rule_that_others_replaced_is_written_again(host, network):
    network.run_task("t", task())
    chain = ("inet", "penstock", "group_web_egress")
    before = nft(host, "list", "chain", *chain)
    handle = re.search(r"accept # handle (\d+)", nft(host, "--handle", "list", "chain", *chain))[1]
    nft(host, "replace", "rule", *chain, "handle", handle, "accept")
    eventually(lambda: nft(host, "list", "chain", *chain) == before)
    assert has_policy(host, "t")


def test_rules_flushed_again_and_again_are_made_again_each_time(outside):
    """Each flush finds the rules of the one before whole again, however soon it follows."""
    web = serves(outside.client, "t")
    rounds, begin = 20, time.monotonic()
    for _ in range(rounds):
        nft(outside, "flush", "ruleset")
        eventually(lambda: has_policy(outside, "t"))
    assert time.monotonic() - begin < rounds, "there is no fixed pause between two repairs"
    assert answers(outside, web)
    assert is_silent(outside, f"{web}:8080")
    revision = outside.client.task("t")["revision"]
    nft(outside, "flush", "ruleset")
    eventually(lambda: has_policy(outside, "t"))
    assert outside.client.task("t")["revision"] == revision, "a repair changes nothing of the task"


def test_a_flushed_table_of_the_host_is_made_again(host):
    table = ("list", "table", "inet", f"penstock-{host.install}")
    before = host.run("nft", *table).stdout
    host.run("nft", "flush", "ruleset")
    eventually(lambda: host.run("nft", *table, check=False).stdout == before)
    host.run("nft", "flush", "chain", "inet", table[-1], "forward")
    eventually(lambda: host.run("nft", *table, check=False).stdout == before)


def test_a_busy_neighbour_in_the_namespace_takes_a_part_of_the_time_only(host, network):
    said, begin = "vpc net: somebody else changed", time.monotonic()
    changes = 40
    for _ in range(changes // 2):
        nft(host, "add table inet other")
        nft(host, "delete table inet other")
    eventually(lambda: said in host.log_tail())
    seconds = time.monotonic() - begin
    assert host.log_tail(10 * changes).count(said) <= 1 + seconds < changes


def restart_with_a_vpc_that_cannot_be_opened(host):
    host.kill()
    nft(host, "flush table inet penstock; delete table inet penstock")
    nft(host, "add table inet penstock; add set inet penstock eni_source { type mark; }")  # not as it must be
    host.start()
    assert "eni_source" in host.client.get("/v1/vpcs/net")["status"]["error"]


def test_a_vpc_that_cannot_be_opened_ends_no_task(host, network):
    network.run_task("t", task())
    restart_with_a_vpc_that_cannot_be_opened(host)
    nft(host, "delete table inet penstock")
    eventually(lambda: has_policy(host, "t"))
    assert network.task("t")["status"]["lastStatus"] == "RUNNING"
    assert network.stop_task("t")["status"]["stopCode"] == "UserInitiated"


def test_a_task_leaves_a_vpc_that_cannot_be_opened_once_it_can(host, network):
    """Its membership is not given up for gone: it would stand when the VPC is read again."""
    network.run_task("t", task())
    restart_with_a_vpc_that_cannot_be_opened(host)
    network.request("POST", "/v1/tasks/t/stop").expect(200)
    waiting = network.wait_task("t", lambda status: status.get("undoError") or is_stopped(status))["status"]
    assert waiting["undoError"] == "policy: vpc net is not open", waiting
    nft(host, "delete table inet penstock")
    assert network.wait_task("t", is_stopped)["status"]["stopCode"] == "UserInitiated"
    network.delete("/v1/security-groups/web").expect(204)


def test_a_start_that_waits_for_its_vpc_ends_with_its_guest(host, network):
    setup = shell("setup", IDLE, essential=False)
    after = [{"containerName": "setup", "condition": "COMPLETE"}]
    network.put("/v1/tasks/t", task(setup, shell("main", IDLE, dependsOn=after))).expect(201)
    network.wait_log("t", "up", "setup")
    restart_with_a_vpc_that_cannot_be_opened(host)
    host.kill_in_task("t", "KILL", "")
    ended = network.wait_task("t", lambda status: status["desiredStatus"] == "STOPPED")["status"]
    assert ended["stopCode"] == "InfrastructureHealth", ended
    nft(host, "delete table inet penstock")
    network.wait_task("t", is_stopped)


def test_what_was_retired_goes_when_its_vpc_opens_at_last(host, network):
    inside = ("ip", "-n", f"penstock-{host.install}-net")
    restart_with_a_vpc_that_cannot_be_opened(host)
    host.run(*inside, "tuntap", "add", "dev", "ps0000000000000", "mode", "tap")
    host.run(*inside, "link", "set", "ps0000000000000", "group", "113", "alias", f"penstock {host.install} eni-old")
    nft(host, "delete table inet penstock")
    eventually(lambda: "ps0000000000000" not in host.run(*inside, "link").stdout)


def vpc_setting(host, name):
    command = ("ip", "netns", "exec", f"penstock-{host.install}-net", "cat", f"/proc/sys/net/netfilter/nf_conntrack_{name}")
    return int(host.run(*command).stdout)


def test_tracking_is_set_per_vpc(outside):
    client = outside.client
    assert vpc_setting(outside, "udp_timeout_stream") == 180
    assert vpc_setting(outside, "tcp_timeout_established") == 432000
    vpc = client.get("/v1/vpcs/net")["spec"]
    vpc["connectionTrackingSpecification"] = {"tcpEstablishedTimeout": 3600, "udpTimeout": 45, "connectionsPerEni": 2}
    client.put("/v1/vpcs/net", vpc).expect(200)
    assert vpc_setting(outside, "tcp_timeout_established") == 3600
    assert vpc_setting(outside, "udp_timeout") == 45
    client.run_task("t", task())
    for _ in range(2):  # each is a connection of its own
        outside.in_task("t", *ping("192.168.70.2"))
    assert outside.in_task("t", *ping_in_vain("192.168.70.2"), check=False).returncode != 0
    eventually(lambda: "connections" in outside.ctl("drops", "t").stdout)
    outside.in_task("t", *ping("10.0.1.1"))
    del vpc["connectionTrackingSpecification"]
    client.put("/v1/vpcs/net", vpc).expect(200)
    outside.in_task("t", *ping("192.168.70.2"))
    client.stop_task("t")


def test_doctor_knows_how_many_neighbours_a_guest_can_make(outside):
    bound = "/proc/sys/net/ipv4/neigh"
    # The file is the host's own; in a namespace of the test it has to be made.
    script = f"mount -t tmpfs none {bound} && mkdir {bound}/default && echo $0 >{bound}/default/gc_thresh3 && \"$@\""

    def finding(entries):
        doctor = program("penstockctl"), "doctor", "-c", outside.config, "-o", "json"
        found = outside.run("unshare", "-m", "sh", "-c", script, entries, *doctor, check=False).stdout
        return next(item for item in json.loads(found) if item["check"] == "neighbours")

    assert finding("1024")["verdict"] == "warn"
    assert "gc_thresh3=1280" in finding("1024")["advice"]
    assert finding("1280")["verdict"] == "ok"
