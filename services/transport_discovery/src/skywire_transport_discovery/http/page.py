"""`GET /docs`: the OpenAPI document as a page that needs nothing from elsewhere: no script, no font, no style."""

from __future__ import annotations

import json
from html import escape
from typing import Any

_HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
code, pre {{ font-family: monospace; }} pre {{ background: #8882; padding: .5rem; overflow-x: auto; }}
summary {{ cursor: pointer; padding: .3rem 0; }} b {{ display: inline-block; min-width: 4rem; }}
td {{ padding: .1rem 1rem .1rem 0; vertical-align: top; }}
</style></head><body>
<h1>{title}</h1>
<p>{summary}. The document itself: <a href="openapi.json">openapi.json</a>.</p>
"""


def render(document: dict[str, Any]) -> str:
    """Return the HTML page of an OpenAPI document."""
    info = document["info"]
    parts = [_HEAD.format(title=escape(info["title"]), summary=escape(info.get("summary", "")))]
    for path, methods in document["paths"].items():
        parts += [_operation(path, method, operation) for method, operation in methods.items()]
    schemas = document.get("components", {}).get("schemas", {})
    parts += ["<h2>Bodies</h2>", *(_folded(f"<code>{escape(name)}</code>", _code(schemas[name])) for name in schemas)]
    return "\n".join([*parts, "</body></html>"])


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    said = escape(operation.get("description", ""))
    parts = []
    if parameters := operation.get("parameters"):
        parts.append(_table("Takes", [(f"{one['name']} ({one['in']})", _of(one)) for one in parameters]))
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(_folded(f"Body, {escape(kind)}", _code(content["schema"])))
    answers = [(code, _answer(answer)) for code, answer in sorted(operation["responses"].items())]
    parts.append(_table("Answers", answers))
    return _folded(f"<b>{escape(method.upper())}</b> <code>{escape(path)}</code> {said}", "".join(parts))


def _of(parameter: dict[str, Any]) -> str:
    return str(parameter.get("description") or parameter["schema"].get("pattern", parameter["schema"].get("type", "")))


def _answer(answer: dict[str, Any]) -> str:
    schemas = [content.get("schema", {}) for content in answer.get("content", {}).values()]
    bodies = ", ".join(filter(None, map(_named, schemas)))
    return f"{answer['description']}{f': {bodies}' if bodies else ''}"


def _named(schema: dict[str, Any]) -> str:
    """Return the names of the bodies that a schema refers to."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "items" in schema:
        return f"list of {_named(schema['items'])}"
    return " or ".join(map(_named, schema.get("anyOf", ())))


def _table(title: str, rows: list[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td><code>{escape(name)}</code></td><td>{escape(said)}</td></tr>" for name, said in rows)
    return f"<p>{title}</p><table>{cells}</table>"


def _folded(summary: str, rest: str) -> str:
    return f"<details><summary>{summary}</summary>{rest}</details>"


def _code(document: object) -> str:
    return f"<pre>{escape(json.dumps(document, indent=1))}</pre>"
