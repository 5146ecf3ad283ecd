"""`skywire identities`: the keys of a whole deployment, made once, each service's own in a directory of its own.

DIRECTORY/NAME/secret.key    mode 0600, for that service alone
DIRECTORY/public/NAME        the public key, for everybody: "file:…/public/NAME" in a configuration
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from skywire_common.drafts import in_place_of

from skywire_cli.failures import CliError
from skywire_cli.lazy import JsonGroup
from skywire_cli.output import json_wanted, print_json
from skywire_cli.paths import NamedPath

KEY_FILE = "secret.key"
PUBLIC = "public"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
# One of several alike, as a StatefulSet names its pods.
_NUMBERED = re.compile(r"(?P<group>.+)-\d+", re.ASCII)


@click.group(cls=JsonGroup)
def identities() -> None:
    """Make the keys of a whole deployment, and hand them to Kubernetes."""


@identities.command()
@click.argument("directory", type=NamedPath(file_okay=False))
@click.argument("names", nargs=-1, required=True)
def make(directory: Path, names: tuple[str, ...]) -> None:
    """Make DIRECTORY/NAME/secret.key for each NAME that has none, and DIRECTORY/public/NAME.

    What is there already stays: run it as often as you like, with more names when there are more services.
    """
    made = {name: _make(directory, _checked(name)) for name in names}
    if json_wanted():
        print_json(made)
        return
    for name, key in made.items():
        click.echo(f"{name}  {key}")


@identities.command()
@click.argument("directory", type=NamedPath(file_okay=False, exists=True))
def kubernetes(directory: Path) -> None:
    """Print DIRECTORY's keys as Secrets and its public keys as a ConfigMap, for `kubectl apply -f -`.

    NAME becomes the Secret NAME-identity with the key secret.key; GROUP-0, GROUP-1, … become one Secret GROUP-identity
    with a key for each, of which a pod of the StatefulSet GROUP mounts its own.
    """
    print_json({"apiVersion": "v1", "kind": "List", "items": list(_manifests(directory))})


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name) or name == PUBLIC:
        hint = "lower-case letters, digits and '-'"
        raise CliError("INVALID_NAME", f"{name!r} cannot be a service's name", hint)
    return name


def _make(directory: Path, name: str) -> str:
    from skywire_common.curve import SecretKey

    from skywire_cli.keygen import write_key_file

    own, public = directory / name, directory / PUBLIC
    # The directories may be mounted and belong to somebody else: they are only made, their modes are left.
    own.mkdir(parents=True, exist_ok=True, mode=0o700)
    public.mkdir(parents=True, exist_ok=True)
    if not (own / KEY_FILE).exists():
        write_key_file(own / KEY_FILE)
    key = str(SecretKey.load(own / KEY_FILE).public)
    with in_place_of(public / name) as draft:
        draft.write_text(f"{key}\n")
    return key


def _manifests(directory: Path) -> Iterable[dict[str, Any]]:
    found = sorted(path.parent.name for path in directory.glob(f"*/{KEY_FILE}"))
    groups: dict[str, dict[str, str]] = {}
    for name in found:
        numbered = _NUMBERED.fullmatch(name)
        group, key = (numbered["group"], name) if numbered else (name, KEY_FILE)
        groups.setdefault(group, {})[key] = (directory / name / KEY_FILE).read_text()
    for group, keys in groups.items():
        yield _object("Secret", f"{group}-identity", {"type": "Opaque", "stringData": keys})
    public = {name: (directory / PUBLIC / name).read_text() for name in found}
    yield _object("ConfigMap", "public-keys", {"data": public})


def _object(kind: str, name: str, rest: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"app.kubernetes.io/part-of": "skywire"}}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **rest}
