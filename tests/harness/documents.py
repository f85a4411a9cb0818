# SPDX-License-Identifier: Apache-2.0
"""Documents to start from: one small VPC and tasks of BusyBox containers."""

ANYWHERE = [{"cidrIp": "0.0.0.0/0"}]
ALL = [{"ipProtocol": "-1", "ipRanges": ANYWHERE}]

# Serves its own name on port 80.
WEB = "mkdir -p /tmp/www && hostname >/tmp/www/index.html && exec httpd -f -p 80 -h /tmp/www"
# Once it has said "up" it listens to SIGTERM, and its processes stay the same.
IDLE = "trap 'exit 0' TERM; sleep 100000 & echo up; wait $!"


def tcp(port, cidr=None, group=None, last=None):
    """An ingress rule for one port, from a CIDR or a group."""
    rule = {"ipProtocol": "tcp", "fromPort": port, "toPort": last or port}
    if cidr:
        rule["ipRanges"] = [{"cidrIp": cidr}]
    if group:
        rule["userIdGroupPairs"] = [{"groupId": group}]
    return rule


def group(*ingress, vpc="net", egress=None):
    document = {"vpcId": vpc, "description": "test", "ipPermissions": list(ingress)}
    if egress is not None:
        document["ipPermissionsEgress"] = egress
    return document


def network(*ingress):
    """A VPC 10.0.0.0/16 with the subnet `web` 10.0.1.0/24 and a group `web`."""
    return {
        "/v1/vpcs/net": {"cidrBlock": "10.0.0.0/16"},
        "/v1/subnets/web": {"vpcId": "net", "cidrBlock": "10.0.1.0/24"},
        "/v1/security-groups/web": group(*ingress),
    }


def shell(name, script, **fields):
    """A BusyBox container. Most scripts here do not listen to SIGTERM: they get two seconds."""
    command = ["sh", "-c", script]
    return {"name": name, "image": "busybox", "command": command, "stopTimeout": 2, **fields}


def task(*containers, cpu="256", memory="512", groups=("web",), subnet="web", **fields):
    return {
        "cpu": cpu,
        "memory": memory,
        "containerDefinitions": list(containers) or [shell("main", IDLE)],
        "networkConfiguration": {
            "awsvpcConfiguration": {"subnets": [subnet], "securityGroups": list(groups)}
        },
        **fields,
    }


def target_group(delay=5):
    return {
        "vpcId": "net",
        "protocol": "TCP",
        "port": 80,
        "deregistrationDelaySeconds": delay,
        "healthCheck": {
            "protocol": "HTTP",
            "path": "/",
            "intervalSeconds": 5,
            "timeoutSeconds": 5,
        },
    }
