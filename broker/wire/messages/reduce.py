#!/usr/bin/env python3
"""Reduce Kafka's message field tables to what the generator reads.

    reduce.py FOLDER [NAME...]

FOLDER holds the JSON files of `common/message/` out of kafka-clients-*.jar and
kafka-group-coordinator-*.jar. Without a NAME, the tables that are already here are
written again; with names (`Heartbeat` stands for HeartbeatRequest and
HeartbeatResponse), those are added. Comments, explanations and what only Kafka's own
generator needs are dropped, and so is a version that Kafka marks as unstable.
"""
import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).parent
MESSAGE_KEYS = ["apiKey", "type", "name", "validVersions", "flexibleVersions"]
FIELD_KEYS = ["name", "type", "versions", "nullableVersions", "taggedVersions", "tag",
              "flexibleVersions", "ignorable", "default"]


def strip_comments(text):
    # No string of the tables contains "//" once the explanations' URLs are left alone:
    # a comment is recognised at a line's start, or after the last quote of a line.
    text = re.sub(r"^\s*//.*$", "", text, flags=re.M)
    return re.sub(r'//[^"\n]*$', "", text, flags=re.M)


def read(source, name):
    return json.loads(strip_comments((source / f"{name}.json").read_text()))


def stable_versions(source, table):
    versions = table["validVersions"]
    # Only the request says that its API's latest version is unstable.
    request = read(source, re.sub("Response$", "Request", table["name"]))
    if request["type"] == "request" and request.get("latestVersionUnstable"):
        low, high = (int(bound) for bound in versions.split("-"))
        versions = f"{low}-{high - 1}"
    return versions


def field_lines(fields, indent):
    lines = []
    for field in fields:
        kept = {key: field[key] for key in FIELD_KEYS if key in field and field[key] is not False}
        text = json.dumps(kept)
        if "fields" in field:
            inner = field_lines(field["fields"], indent + "  ")
            text = text[:-1] + ', "fields": [\n' + inner + "\n" + indent + "]}"
        lines.append(indent + text)
    return ",\n".join(lines)


def reduce(source, table):
    table["validVersions"] = stable_versions(source, table)
    head = "".join(f'  "{key}": {json.dumps(table[key])},\n' for key in MESSAGE_KEYS if key in table)
    body = '  "fields": [\n' + field_lines(table["fields"], "    ") + "\n  ]"
    structs = table.get("commonStructs", [])
    if structs:
        body += ',\n  "commonStructs": [\n' + ",\n".join(
            f'    {{"name": "{struct["name"]}", "versions": "{struct["versions"]}", "fields": [\n'
            + field_lines(struct["fields"], "      ") + "\n    ]}" for struct in structs) + "\n  ]"
    return "{\n" + head + body + "\n}\n"


def main():
    source = pathlib.Path(sys.argv[1])
    names = {path.stem for path in HERE.glob("*.json")}
    for name in sys.argv[2:]:
        pair = [f"{name}Request", f"{name}Response"]
        names.update(pair if (source / f"{pair[0]}.json").exists() else [name])
    for name in sorted(names):
        text = reduce(source, read(source, name))
        json.loads(text)
        (HERE / f"{name}.json").write_text(text)


main()
