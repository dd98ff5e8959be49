"""Whether the hub can be reached at all: its own clients try for most of a minute before they say no."""

from urllib.error import HTTPError
from urllib.request import Request, urlopen

_WAIT_S = 5.0


def hub_answers() -> bool:
    """Whether it answers anything; False where it is switched off."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or not constants.ENDPOINT.startswith(("https://", "http://")):
        return False
    try:
        with urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=_WAIT_S):  # noqa: S310  # http only, see above
            return True
    except HTTPError:
        return True
    except (OSError, ValueError):
        return False
