"""The type of transports that the docs show, installed from outside as they say."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from planes import Net
from skywire_common.curve import SecretKey
from skywire_common.errors import LocalError
from skywire_common.runtime.config import ConfigError, load
from skywire_node.config import NodeSettings, first
from skywire_node.link import types

DOCS = Path(__file__).parents[4] / "docs" / "transports.md"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the package of the docs: a module, and the metadata that an installer would write."""
    text = DOCS.read_text()
    (module,) = re.findall(r"```python\n(# lines_transport\.py\n.*?)```", text, re.DOTALL)
    (points,) = re.findall(r"```toml\n\[project\.entry-points\.\"(.+?)\"\]\n(.*?)```", text, re.DOTALL)
    (tmp_path / "lines_transport.py").write_text(module)
    metadata = tmp_path / "lines_transport-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: lines-transport\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{points[0]}]\n{points[1].replace(chr(34), '')}")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("lines_transport", None)


async def test_loops_pass_over_the_type_of_the_docs(installed: None) -> None:
    make = types.find("lines")
    options = types.TypeOptions(SecretKey.generate().public, None, None, {})
    async with Net(3, seed=81, kind="lines", make=lambda: make(options)) as net:
        (transport,) = net.planes[0].transports.all.values()
        assert (transport.entry.kind, transport.state) == ("lines", "UP")
        await net.there_and_back(0, 2, 1_000_000)
        assert transport.link is not None
        transport.link.abort("cut")
        await net.until(lambda: transport.state != "UP")
        await net.until(lambda: transport.state == "UP")


def test_the_configuration_takes_types_that_are_installed_and_no_others(installed: None, tmp_path: Path) -> None:
    key = tmp_path / "secret.key"
    key.touch(mode=0o600)
    key.write_text(SecretKey.generate().to_bytes().hex())
    document = first(tmp_path, key)

    def read(**changes: object) -> NodeSettings:
        import orjson

        file = tmp_path / "config.json"
        file.write_bytes(orjson.dumps(document | changes))
        return load(NodeSettings, file)

    assert "lines_transport" not in sys.modules
    loaded = read(transport_types=[{"type": "lines", "listen": "127.0.0.1:0"}])
    assert (loaded.transport_types[0].type, loaded.transport_types[0].listen) == ("lines", "127.0.0.1:0")
    assert "lines_transport" not in sys.modules, "checking a configuration runs nobody's code"
    with pytest.raises(ConfigError, match="'carrier-pigeon'; there are: grpc, lines, tcp"):
        read(transport_types=[{"type": "carrier-pigeon"}])
    with pytest.raises(ConfigError, match="transport_types does not name it"):
        read(transports=[{"public_key": str(SecretKey.generate().public), "type": "lines"}])
    assert read(transports=[{"public_key": str(SecretKey.generate().public), "type": "grpc"}])
    for twice in ([{"type": "grpc"}, {"type": "grpc"}], [{"type": "tcp"}]):
        with pytest.raises(ConfigError, match="each type once"):
            read(transport_types=twice)
    with pytest.raises(ConfigError, match="at most 6"):
        read(transport_types=[{"type": "grpc"}] * 7)


def test_without_the_package_there_is_no_such_type() -> None:
    with pytest.raises(LocalError, match="there are: grpc, tcp"):
        types.find("lines")
