"""Validates every golden file against its schema, strictly: a member that the schema does not name is an error."""

import json
import pathlib
import re
import sys

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"


def strict(schema):
    """The schema with `additionalProperties: false` where it names members: readers are lenient, examples are not."""
    if isinstance(schema, list):
        return [strict(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    out = {k: (v if k in ("enum", "const", "required") else strict(v)) for k, v in schema.items()}
    if schema.get("type") == "object" and "properties" in schema and "additionalProperties" not in schema:
        out["additionalProperties"] = False
    return out


class Core(yaml.SafeLoader):
    """YAML 1.2's core schema as docs/config.md has it: `off` and `22:00` are texts, numbers are decimal."""


Core.yaml_implicit_resolvers = {}
for tag, pattern, first in (
    ("bool", r"^(true|false)$", "tf"),
    ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
    ("float", r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$", "-+.0123456789"),
    ("null", r"^(null|~|)$", ["n", "~", ""]),
):
    Core.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first))


class Checks:
    def __init__(self):
        self.passed = self.failed = 0

    def that(self, good, what):
        self.passed += bool(good)
        self.failed += not good
        if not good:
            print(f"FAIL {what}", file=sys.stderr)


def load_schemas():
    registry, validators = Registry(), {}
    schemas = {p.name: json.loads(p.read_text()) for p in sorted((ROOT / "schemas").glob("*.schema.json"))}
    for name, schema in schemas.items():
        registry = registry.with_resource(schema.get("$id", name), Resource.from_contents(strict(schema)))
    for name, schema in schemas.items():
        validators[name] = Draft202012Validator(strict(schema), registry=registry)
    return schemas, validators


def errors_of(validator, value):
    return [f"{e.json_path}: {e.message}" for e in validator.iter_errors(value)]


def check_goldens(checks, validators):
    index = json.loads((GOLDEN / "index.json").read_text())
    for row in index["good"]:
        found = errors_of(validators[row["schema"]], json.loads((GOLDEN / row["file"]).read_text()))
        checks.that(not found, f"{row['file']} against {row['schema']}: {found}")
    for row in index["bad"]:
        if "schema" in row:
            found = errors_of(validators[row["schema"]], json.loads((GOLDEN / row["file"]).read_text()))
            checks.that(bool(found) != row["schemaValid"], f"{row['file']}: schemaValid is {row['schemaValid']}, found {found}")
    for at, line in enumerate((GOLDEN / "log-export.jsonl").read_text().splitlines(), 1):
        found = errors_of(validators["log-line.schema.json"], json.loads(line))
        checks.that(not found, f"log-export.jsonl:{at}: {found}")


def check_config(checks, validators):
    """The specification's example configuration is valid as it stands, where the schema and the corpus are there."""
    validator = validators.get("config.schema.json")
    corpus = ROOT / "tests" / "config_corpus" / "valid"
    if validator is None or not corpus.is_dir():
        return 1
    for at, block in enumerate(re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.S)):
        found = errors_of(validator, yaml.load(block, Loader=Core))
        checks.that(not found, f"README.md, YAML block {at + 1}: {found}")
    for path in sorted(corpus.iterdir()):
        if path.suffix in (".yaml", ".json"):
            found = errors_of(validator, yaml.load(path.read_text(), Loader=Core))
            checks.that(not found, f"{path.relative_to(ROOT)}: {found}")
    return 0


def check_openapi(checks, schemas):
    """The OpenAPI document resolves inside itself, and its schemas are the ones beside it."""
    path = ROOT / "schemas" / "openapi.json"
    document = json.loads(path.read_text())
    def refs(value):
        if isinstance(value, dict):
            if "$ref" in value:
                yield value["$ref"]
            for v in value.values():
                yield from refs(v)
        elif isinstance(value, list):
            for v in value:
                yield from refs(v)
    for ref in sorted(set(refs(document))):
        node = document
        for step in ref.removeprefix("#/").split("/"):
            node = node.get(step) if isinstance(node, dict) else None
        checks.that(ref.startswith("#/") and node is not None, f"openapi.json: {ref} leads nowhere")
    for where, item in document["paths"].items():
        for method, operation in item.items():
            if method in ("get", "put", "post", "delete"):
                checks.that("operationId" in operation and operation.get("responses"), f"openapi.json: {method} {where}")
    for name, schema in document["components"]["schemas"].items():
        try:
            Draft202012Validator.check_schema(schema)
            checks.that(True, name)
        except Exception as e:  # the library's own error says where
            checks.that(False, f"openapi.json {name}: {e}")


def main():
    checks = Checks()
    schemas, validators = load_schemas()
    for name, schema in schemas.items():
        try:
            Draft202012Validator.check_schema(schema)
            checks.that(True, name)
        except Exception as e:  # the library's own error says where
            checks.that(False, f"{name}: {e}")
    check_goldens(checks, validators)
    skipped = check_config(checks, validators)
    if skipped:
        print("skipped: config examples (no schemas/config.schema.json or tests/config_corpus)")
    if (ROOT / "schemas" / "openapi.json").is_file():
        check_openapi(checks, schemas)
    print(f"{checks.passed} passed, {checks.failed} failed, {skipped} skipped")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
