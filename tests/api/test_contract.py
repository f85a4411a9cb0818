# SPDX-License-Identifier: Apache-2.0
"""openapi.yaml is never stricter than the model: the good documents of the unit tests fit it."""

import copy
import json
from pathlib import Path

import jsonschema
import pytest

DOCUMENTS = Path(__file__).resolve().parent.parent / "unit/documents"
SCHEMAS = {
    "vpc": "VpcSpec",
    "subnet": "SubnetSpec",
    "security-group": "SecurityGroupSpec",
    "load-balancer": "LoadBalancerSpec",
    "target-group": "TargetGroupSpec",
    "file-system": "FileSystemSpec",
    "task": "TaskSpec",
}


def _change(document, pointer, text):
    """`set` (with a JSON text) or `remove` (None) of the documents' own little language."""
    *path, last = pointer.split("/")[1:]
    for part in path:
        document = document[int(part)] if isinstance(document, list) else document[part]
    if isinstance(document, list):
        last = len(document) if last == "-" else int(last)
    if text is None:
        del document[last]
    elif isinstance(document, list) and last == len(document):
        document.append(json.loads(text))
    else:
        document[last] = json.loads(text)


def _good_documents():
    """(name, kind, document) of every document without a `fault` line."""
    for file in sorted(DOCUMENTS.glob("*.txt")):
        for block in ("\n" + file.read_text(encoding="utf-8")).split("\ndocument ")[1:]:
            head, *lines = block.split("\n")
            name, kind = head.split(" ", 1)
            if any(line.startswith("fault") for line in lines):
                continue
            document = copy.deepcopy(json.loads((DOCUMENTS / f"base/{kind}.json").read_text()))
            for line in lines:
                word, _, rest = line.partition(" ")
                if word == "text":
                    document = json.loads(rest)
                elif word == "set":
                    _change(document, *rest.split(" ", 1))
                elif word == "remove":
                    _change(document, rest, None)
            yield name, kind, document


@pytest.mark.parametrize("kind", SCHEMAS)
def test_good_documents_fit_the_schema(contract, kind):
    schema = contract.document["components"]["schemas"][SCHEMAS[kind]]
    judge = jsonschema.Draft4Validator(schema, resolver=contract.resolver)
    tried = 0
    for name, its_kind, document in _good_documents():
        if its_kind == kind:
            assert list(judge.iter_errors(document)) == [], name
            tried += 1
    assert tried > 0
