"""Runs in a container, not here: gives a cell its variables, runs it, and writes out what it made.

Its text is the standard input of the container's Python, so it needs only the standard library (of
Python 3.6 and later) until a table passes. ``DIRECTORY/in`` holds ``cell.py``, ``manifest.json``
and a file for each variable; ``DIRECTORY/out`` takes ``manifest.json`` and a file for each result.
"""

import json
import os
import sys
from typing import Any, NoReturn

DIRECTORY = os.environ.get("CELLBOX_EXCHANGE", "/run/cellbox")


def refuse(text: str) -> NoReturn:
    sys.stderr.write(f"cellbox: {text}\n")
    sys.exit(1)


def need(module: str, name: str) -> Any:
    try:
        return __import__(module, fromlist=["x"])
    except ImportError:
        missing = module.partition(".")[0]
        refuse(
            f"{name} is a table, and this image has no {missing}: "
            "use an image with pyarrow and pandas"
        )


def read(name: str, kind: str) -> Any:
    path = os.path.join(DIRECTORY, "in", name)
    if kind == "json":
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    table = need("pyarrow.ipc", name).open_file(path).read_all()
    if kind == "arrow":
        return table
    need("pandas", name)
    return table.to_pandas()


def plain(value: Any, depth: int = 0) -> Any:
    """The first value in ``value`` that JSON cannot tell unchanged, in a tuple; None for none."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return None
    if depth > 100:
        return (value,)
    if type(value) in (list, tuple):
        items = list(value)
    elif type(value) is dict and all(type(key) is str for key in value):
        items = list(value.values())
    else:
        return (value,)
    for item in items:
        found = plain(item, depth + 1)
        if found is not None:
            return found
    return None


def is_table(value: Any) -> bool:
    kind = type(value)
    where = (kind.__module__ or "").partition(".")[0]
    return (where, kind.__name__) in (("pandas", "DataFrame"), ("pyarrow", "Table"))


def write(name: str, value: Any) -> Any:
    path = os.path.join(DIRECTORY, "out", name)
    if not is_table(value):
        found = plain(value)
        if found is not None:
            refuse(f"{name} cannot leave the cell: it holds a {type(found[0]).__name__}")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(value, file)
        return {"kind": "json"}
    arrow, ipc = need("pyarrow", name), need("pyarrow.ipc", name)
    entry: Any = {"kind": "arrow"}
    table = value
    if type(value).__name__ == "DataFrame":
        entry = {"kind": "pandas", "index": []}
        table = arrow.Table.from_pandas(value)
        stored = json.loads(table.schema.metadata[b"pandas"].decode())["index_columns"]
        entry["index"] = [column for column in stored if isinstance(column, str)]
    with ipc.new_file(path, table.schema) as file:
        file.write_table(table)
    return entry


def main() -> None:
    with open(os.path.join(DIRECTORY, "in", "manifest.json"), encoding="utf-8") as file:
        manifest = json.load(file)
    names = {"__name__": "__main__", "__builtins__": __builtins__}
    for name, kind in manifest["inputs"].items():
        names[name] = read(name, kind)
    path = os.path.join(DIRECTORY, "in", "cell.py")
    with open(path, encoding="utf-8") as file:
        source = file.read()
    exec(compile(source, path, "exec"), names)
    made = {}
    for name in manifest["outputs"]:
        if name not in names:
            refuse(f"the cell did not make {name}, which -o asks for")
        made[name] = write(name, names[name])
    with open(os.path.join(DIRECTORY, "out", "manifest.json"), "w", encoding="utf-8") as file:
        json.dump(made, file)


if __name__ == "__main__":
    main()
