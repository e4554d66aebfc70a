"""Files of the Hugging Face hub, downloaded or from its cache."""

from __future__ import annotations

import re
from pathlib import Path

from retouch_common.files import check_sha256

HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*(@[\w./-]+)?")  # owner/name, optionally @revision
_SECONDS = 5.0  # to wait for an answer


def verified_file(name: str, filename: str) -> Path:
    """Return a verified file of a Hugging Face hub repository ``owner/name[@revision]``, downloaded or cached.

    Raises:
        ValueError: If the repository, revision or file does not exist, or the hub cannot be reached.
    """
    from huggingface_hub import errors

    repo, _, revision = name.partition("@")
    try:
        path = download(name, filename)
    except errors.RevisionNotFoundError as error:
        raise ValueError(f"{repo} on the Hugging Face hub has no revision {revision!r}") from error
    except errors.LocalEntryNotFoundError as error:
        raise ValueError(
            f"weights {name!r}: no such file or folder here, and cannot reach the Hugging Face hub, of which the cache "
            f"has no copy: correct the path, connect and try again, or download {filename} elsewhere and give its path"
        ) from error
    except errors.EntryNotFoundError as error:
        raise ValueError(f"{repo} on the Hugging Face hub has no {filename}") from error
    except errors.GatedRepoError as error:
        raise ValueError(f"{repo}: accept its terms on its hub page, then run `hf auth login`") from error
    except errors.RepositoryNotFoundError as error:
        raise ValueError(
            f"weights {name!r}: no such file or folder here, and nothing of that name on the Hugging Face "
            "hub (a private one needs `hf auth login`)"
        ) from error
    except errors.HfHubHTTPError as error:
        raise ValueError(f"the Hugging Face hub answered with an error for {name!r}: {_first_line(error)}") from error
    blob = path.resolve().name  # the cache names large files by their SHA-256
    if re.fullmatch(r"[0-9a-f]{64}", blob):
        check_sha256(path, blob)
    return path


def download(name: str, filename: str) -> Path:
    """Return a file of a hub repository ``owner/name[@revision]``, from the cache alone if the hub does not answer.

    Raises:
        huggingface_hub.errors.HfHubHTTPError: If the hub refuses it.
        huggingface_hub.errors.EntryNotFoundError: If the repository, or without the hub the cache, lacks the file.
        ValueError: If the download breaks off; with some releases of huggingface_hub, OSError.
    """
    from huggingface_hub import errors, hf_hub_download

    repo, _, revision = name.partition("@")
    offline = not _answers(repo, filename, revision or None)
    try:
        return Path(hf_hub_download(repo, filename, revision=revision or None, local_files_only=offline))
    except (errors.HfHubHTTPError, errors.EntryNotFoundError, OSError, ValueError):
        raise
    except Exception as error:  # of the HTTP client, which differs between releases of huggingface_hub
        raise ValueError(f"the download of {name!r} broke off ({_first_line(error)}); try again") from error


def _answers(repo: str, filename: str, revision: str | None) -> bool:
    """Whether the hub is reachable; a download would try for half a minute."""
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(repo, filename, revision=revision), timeout=_SECONDS)
    except errors.HfHubHTTPError:
        return True
    except Exception:  # likewise
        return False
    return True


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
