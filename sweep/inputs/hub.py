"""The model hub, through huggingface_hub: what is in its cache, and what it can give.

The user's settings count (HF_HOME, HF_TOKEN, HF_HUB_OFFLINE, a mirror). Only data is taken:
safetensors, JSON, tokenizer files, parquet; never a pickle, never code.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sweep.errors import InputError, ResourceError

MODEL_FILES = (
    "*.json",
    "*.jinja",
    "model*.safetensors",
    "tokenizer.model",
    "merges.txt",
    "vocab.txt",
)


def cached(
    repo: str, revision: str | None, patterns: Sequence[str], kind: str = "model"
) -> Path | None:
    """The snapshot folder in the hub's cache if it has the files that match; no network.

    Whether it has them all is known only for a snapshot whose list of files was kept with it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            repo,
            revision=revision,
            repo_type=kind,
            allow_patterns=list(patterns),
            local_files_only=True,
        )
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise InputError(f"{repo!r} is no id of the model hub: {_first_line(error)}") from None
    return Path(folder)


def snapshot(repo: str, revision: str | None, patterns: Sequence[str], kind: str = "model") -> Path:
    """The snapshot folder with the files that match, downloaded where they are not there yet.

    A download that was cut off is resumed. Raises InputError where the hub knows no such
    repository or revision, ResourceError where it cannot be reached or wants a login.
    """
    from huggingface_hub import errors, snapshot_download

    what = f"{repo}@{revision}" if revision else repo
    try:
        folder = snapshot_download(
            repo, revision=revision, repo_type=kind, allow_patterns=list(patterns)
        )
    except errors.GatedRepoError:
        raise ResourceError(
            f"{what} is on the hub but its licence must be accepted there first; "
            "then set HF_TOKEN, or run `hf auth login`"
        ) from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise InputError(
            f"the hub knows no {kind} {what} ({_first_line(error)}); if it is private, set HF_TOKEN"
        ) from None
    except errors.HFValidationError as error:
        raise InputError(f"{repo!r} is no id of the model hub: {_first_line(error)}") from None
    except OSError as error:  # what is not in the cache either, and every fault of the connection
        raise ResourceError(
            f"{what} is not in the cache of the hub, and the hub did not answer "
            f"({_first_line(error)}).\n"
            f"  Fetch it where the hub can be reached and set HF_HOME to a copy of that cache, or "
            f"name a local folder or file of yours in the sweep file instead"
        ) from None
    return Path(folder)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
