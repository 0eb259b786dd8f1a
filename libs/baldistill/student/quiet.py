"""Keeps transformers' progress bars and notices out of our own output."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence loading bars and log lines of transformers below ERROR; errors still raise."""
    from transformers import modeling_gguf_pytorch_utils
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    gguf_bar = modeling_gguf_pytorch_utils.tqdm
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    # This one bar does not listen to the setting.
    modeling_gguf_pytorch_utils.tqdm = lambda items, **_: items
    try:
        yield
    finally:
        modeling_gguf_pytorch_utils.tqdm = gguf_bar
        logging.set_verbosity(verbosity)
