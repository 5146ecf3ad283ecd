"""Generate the protobuf and gRPC code from ../../protos before the package is built."""

import sys
from pathlib import Path
from typing import Any

from setuptools import find_namespace_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
PROTOS = HERE.parent.parent / "protos"
OUT = HERE / "src"
BIN = Path(sys.executable).parent


def generate() -> None:
    """Write `skywire/<service>/v1/*_pb2*.py` and their type stubs below `src/`; raise if protoc refuses."""
    from grpc_tools import protoc

    sources = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    status = protoc.main(
        [
            "protoc",
            f"-I{PROTOS}",
            # Named whole: the virtual environment is not always on the PATH.
            *(f"--plugin=protoc-gen-{name}={BIN / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc")),
            f"--python_out={OUT}",
            f"--grpc_python_out={OUT}",
            f"--mypy_out=quiet:{OUT}",
            f"--mypy_grpc_out=quiet,only_async:{OUT}",
            *sources,
        ]
    )
    if status != 0:
        raise SystemExit(f"protoc failed with status {status}")
    (OUT / "skywire" / "py.typed").touch()


class BuildWithProtos(build_py):
    """`build_py` that first generates the code; an installed sdist already holds it."""

    def run(self) -> Any:
        if PROTOS.is_dir():
            generate()
            # The packages were looked for before there was this code.
            self.packages = find_namespace_packages(str(OUT))
        return super().run()


if __name__ == "__main__":
    setup(cmdclass={"build_py": BuildWithProtos})
