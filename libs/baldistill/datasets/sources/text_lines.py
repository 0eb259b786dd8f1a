"""Lines of a UTF-8 text file, plain or gzipped, with the number and the position of each."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, cast

from baldistill.errors import InvalidInput

_BYTE_ORDER_MARK = "\ufeff"


def read_lines(path: Path) -> Iterator[tuple[int, str, int]]:
    """Yield (line number from 1, line with its line break, bytes of the file read so far).

    Raises InvalidInput: not UTF-8, not gzip, cut short.
    """
    number = 0
    with ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        stream = cast("BinaryIO", stack.enter_context(gzip.open(file))) if path.suffix == ".gz" else file
        try:
            for line in stream:
                number += 1
                text = line.decode()
                yield number, text.removeprefix(_BYTE_ORDER_MARK) if number == 1 else text, file.tell()
        except UnicodeDecodeError as error:
            raise InvalidInput(
                f"not UTF-8: byte 0x{error.object[error.start]:02x} at byte {error.start + 1} of the line",
                path=path,
                line=number,
            ) from None
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InvalidInput(f"damaged gzip file after this line: {error}", path=path, line=number) from None
