"""The windows of a text that a task works on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.inputs import texts


def text_windows(
    payload: Mapping[str, Any],
    where: Mapping[str, Any],
    chosen: Sequence[int] | slice,
    calibration: bool = False,
) -> NDArray[np.int64]:
    """Token ids [windows, window_tokens] of the chosen windows of the text of a `TextRun`."""
    return texts.windows(
        where["text_name"],
        where["model"],
        payload["window_tokens"],
        calibration,
        payload.get("bos", texts.FIRST_WINDOW),
        chosen,
    )
