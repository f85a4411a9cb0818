# SPDX-License-Identifier: Apache-2.0
"""agent/api/openapi.yaml as a judge of requests and replies."""

import re

import jsonschema
import yaml


class ContractError(AssertionError):
    """A request or a reply that openapi.yaml does not describe."""


def _json_schema(node):
    """OpenAPI 3.0's dialect as JSON Schema: `nullable` becomes a type."""
    if isinstance(node, list):
        return [_json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: _json_schema(value) for key, value in node.items()}
    if node.pop("nullable", False) and isinstance(node.get("type"), str):
        node["type"] = [node["type"], "null"]
    return node


class Contract:
    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.document = _json_schema(yaml.safe_load(file))
        self.resolver = jsonschema.RefResolver.from_schema(self.document)
        self.paths = [
            (re.compile(re.sub(r"\{[^}]+\}", "[^/]+", template) + r"\Z"), template)
            for template in sorted(self.document["paths"], key=lambda text: text.count("{"))
        ]
        self.seen = set()  # (method, template, status) of everything judged so far

    def _resolve(self, node):
        while "$ref" in node:
            node = self.resolver.resolve(node["$ref"])[1]
        return node

    def operation(self, method, target):
        path = target.split("?")[0]
        for pattern, template in self.paths:
            if pattern.match(path):
                item = self.document["paths"][template]
                if method.lower() not in item:
                    raise ContractError(f"{method} {template} is not in openapi.yaml")
                return template, item, item[method.lower()]
        raise ContractError(f"{path} is not in openapi.yaml")

    def check_request(self, method, target, body):
        _, item, operation = self.operation(method, target)
        known = {
            self._resolve(parameter)["name"]
            for parameter in item.get("parameters", []) + operation.get("parameters", [])
            if self._resolve(parameter)["in"] == "query"
        }
        query = target.partition("?")[2]
        for name in filter(None, (part.split("=")[0] for part in query.split("&"))):
            if name not in known:
                raise ContractError(f"{method} {target}: openapi.yaml has no parameter {name}")
        if body is not None:
            request = self._resolve(operation.get("requestBody", {}))
            self._check(f"{method} {target}", request.get("content", {}), "application/json", body)

    def check_reply(self, method, target, status, media_type, body):
        template, _, operation = self.operation(method, target)
        responses = operation["responses"]
        response = responses.get(str(status), responses.get("default"))
        if response is None:
            raise ContractError(f"{method} {template} does not describe a reply {status}: {body}")
        self.seen.add((method, template, status))
        content = self._resolve(response).get("content", {})
        if media_type == "application/json":
            self._check(f"reply {status} to {method} {target}", content, media_type, body)
        elif body and media_type not in content:
            raise ContractError(f"reply {status} to {method} {target} is {media_type}")

    def unseen(self):
        """The operations whose replies nobody has judged yet."""
        operations = {
            (method.upper(), template)
            for template, item in self.document["paths"].items()
            for method in item
            if method != "parameters"
        }
        return sorted(operations - {(method, template) for method, template, _ in self.seen})

    def check_event(self, target, event):
        """One line of a watch, an NDJSON document."""
        _, _, operation = self.operation("GET", target)
        content = self._resolve(operation["responses"]["200"])["content"]
        self._check(f"event of {target}", content, "application/x-ndjson", event)

    def _check(self, what, content, media_type, body):
        if media_type not in content:
            raise ContractError(f"{what}: openapi.yaml has no {media_type} body")
        validator = jsonschema.Draft4Validator(
            content[media_type].get("schema", {}), resolver=self.resolver
        )
        faults = sorted(validator.iter_errors(body), key=lambda fault: list(map(str, fault.path)))
        if faults:
            lines = [
                f"  /{'/'.join(map(str, fault.absolute_path))}: {fault.message[:300]}"
                for fault in faults[:10]
            ]
            raise ContractError("\n".join([f"{what} is not what openapi.yaml says", *lines]))
