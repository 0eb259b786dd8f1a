"""How our code enters transformers and peft: one thread at a time, and without their bars in our output."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

# Two threads that import transformers' lazy modules at once get "cannot import name" (seen with 5.23), and what is
# half imported stays broken for the rest of the process.
_ENTERING = threading.RLock()


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hold the only right to import and load, with loading bars and notices below ERROR silenced; errors still raise.

    Every student is loaded inside of it, so whoever has one can import from transformers and peft without a race.
    """
    with _ENTERING:
        import peft  # noqa: F401
        from transformers import (  # noqa: F401
            AutoModelForCausalLM,
            AutoTokenizer,
            BitsAndBytesConfig,
            DynamicCache,
            modeling_gguf_pytorch_utils,
        )
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
