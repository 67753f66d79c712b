"""As much of jq as the runbook uses: -r, paths such as .[0].id and .[].id, {name: path}, `path // empty`, and pipes."""

import json
import re
import sys

raw = "-r" in sys.argv[2:]
(program,) = [word for word in sys.argv[2:] if word != "-r"]


def walk(value, path):
    values = [value]
    for part in re.findall(r"\[\]|\[\d+\]|\.\w+", path):
        if part == "[]":
            values = [item for items in values for item in items]
        elif part[0] == "[":
            values = [dict(enumerate(items)).get(int(part[1:-1])) for items in values]
        else:
            values = [None if one is None else one.get(part[1:]) for one in values]
    return values


def step(values, stage):
    stage = stage.strip()
    for value in values:
        if stage.startswith("{"):
            pairs = (pair.split(":") for pair in stage.strip("{} ").split(","))
            yield {name.strip(): walk(value, path.strip())[0] for name, path in pairs}
        else:
            path, _, otherwise = stage.partition("//")
            yield from (found for found in walk(value, path.strip()) if found is not None or not otherwise)


values = iter([json.load(sys.stdin)])
for stage in program.split("|"):
    values = step(values, stage)
for value in values:
    print(value if raw and isinstance(value, str) else json.dumps(value, indent=2))
