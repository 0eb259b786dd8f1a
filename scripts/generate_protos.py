"""Generate `baldistill.v1` from protos/. The proto package is the Python path, so that imports need no rewriting.

`--check` regenerates into a temporary folder and fails where the committed code differs.
"""

from __future__ import annotations

import argparse
import filecmp
import sys
import sysconfig
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

REPOSITORY = Path(__file__).resolve().parent.parent
PROTOS = REPOSITORY / "protos"
TARGET = REPOSITORY / "libs"
PACKAGE = Path("baldistill") / "v1"
PACKAGE_INIT = '"""Generated from protos/baldistill/v1 by scripts/generate_protos.py; never edited by hand."""\n'


def generate(target: Path) -> None:
    """Write the generated package under `target`. Raises RuntimeError where protoc refuses the protos."""
    (target / PACKAGE).mkdir(parents=True, exist_ok=True)
    (target / PACKAGE / "__init__.py").write_text(PACKAGE_INIT, encoding="utf-8")
    scripts = Path(sysconfig.get_path("scripts"))
    sources = sorted(path.relative_to(PROTOS).as_posix() for path in PROTOS.glob("baldistill/v1/*.proto"))
    status = protoc.main(
        [
            "protoc",
            f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
            f"--proto_path={PROTOS}",
            f"--proto_path={resources.files('grpc_tools') / '_proto'}",
            f"--python_out={target}",
            f"--grpc_python_out={target}",
            f"--mypy_out=quiet:{target}",
            f"--mypy_grpc_out=quiet:{target}",
            *sources,
        ]
    )
    if status != 0:
        raise RuntimeError(f"protoc failed with status {status}")
    # A file without a service needs no grpc module.
    for path in (target / PACKAGE).glob("*_pb2_grpc.py*"):
        proto = PROTOS / PACKAGE / path.name.replace("_pb2_grpc.pyi", ".proto").replace("_pb2_grpc.py", ".proto")
        if "\nservice " not in proto.read_text(encoding="utf-8"):
            path.unlink()


def stale_files(fresh: Path, committed: Path) -> list[str]:
    """Return the names of files that are missing, different or left over in `committed`."""
    names = {path.name for folder in (fresh, committed) for path in folder.glob("*.py*") if path.is_file()}
    _, different, absent = filecmp.cmpfiles(fresh, committed, sorted(names), shallow=False)
    return sorted(different + absent)


def main() -> int:
    """Generate, or check that nothing has to be generated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where the committed code is stale")
    if not parser.parse_args().check:
        for path in (TARGET / PACKAGE).glob("*_pb2*"):
            path.unlink()
        generate(TARGET)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        stale = stale_files(Path(scratch) / PACKAGE, TARGET / PACKAGE)
    if stale:
        print(f"stale: {', '.join(stale)}; run `make proto` and commit", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
