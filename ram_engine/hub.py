"""Uploads to the Hugging Face Hub: a model folder or a dataset folder, each with its card."""

from __future__ import annotations

from pathlib import Path


class HubError(ValueError):
    """An upload that could not be made; the folder is left as it was written."""


def push_folder(folder: Path, repository: str, kind: str, public: bool) -> str:
    """Uploads ``folder`` as the model or dataset ``repository`` (OWNER/NAME); its address, and who may see it.

    Where there is no such repository it is made, private unless ``public``. Raises :class:`HubError` where it is there
    and public, and that was not asked for; without a network, a login or the right to write; the folder stays.
    """
    import httpx
    import requests
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    api = HfApi()
    try:
        api.create_repo(repository, repo_type=kind, private=not public, exist_ok=True)
        private = bool(api.repo_info(repository, repo_type=kind).private)
        if not private and not public:
            raise HubError(
                f"{repository} is there already and public: add --public, or name another repository; {folder} is "
                "left, to upload later"
            )
        address = api.upload_folder(repo_id=repository, repo_type=kind, folder_path=folder)
    except OfflineModeIsEnabled as error:
        raise HubError(
            f"the Hub is not asked while HF_HUB_OFFLINE is set; {folder} is left, to upload later"
        ) from error
    except LocalTokenNotFoundError as error:
        raise HubError(
            f"nobody is logged in to the Hub (`hf auth login`); {folder} is left, to upload later"
        ) from error
    except HfHubHTTPError as error:
        raise HubError(f"the Hub refused {repository}: {error}; {folder} is left, to upload later") from error
    except (ConnectionError, requests.RequestException, httpx.TransportError) as error:
        raise HubError(
            f"the Hub cannot be reached ({type(error).__name__}); {folder} is left, to upload later"
        ) from error
    return f"{address} ({'private' if private else 'public'})"
