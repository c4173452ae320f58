"""What must not be written down: passwords in URLs, and the values of variables that hold a secret."""

import os
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

WORDS = r"(?:password|passwd|pwd|secret|token|credential|signature|sig|api_?key|access_?key|private_?key)"
SECRET_NAME = re.compile(rf"(?:^|[_\W]|x-amz-){WORDS}(?:$|[_\W])", re.IGNORECASE)
IN_URL = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://[^\s/:@]*):[^\s/@]+@", re.IGNORECASE)
IN_QUERY = re.compile(rf"(?P<name>[?&][\w-]*{WORDS}[\w-]*=)[^\s&'\"]+", re.IGNORECASE)
FOLDERS = {"PWD", "OLDPWD"}  # which every shell sets: where it is, and was
HIDDEN = "***"
SHORTEST = 6  # characters of a secret that is looked for by its value; "yes" would hide half a log


def holds_secret(url: str) -> bool:
    """Say whether a URL has a password, or a key among the words of its query."""
    if "://" not in url:
        return False
    parts = urlsplit(url)
    return parts.password is not None or any(SECRET_NAME.search(name) for name, _ in parse_qsl(parts.query))


def mask(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the text with every known secret hidden."""
    text = IN_QUERY.sub(rf"\g<name>{HIDDEN}", IN_URL.sub(rf"\g<scheme>:{HIDDEN}@", text))
    for value in secrets(environment):
        text = text.replace(value, HIDDEN)
    return text


def secrets(environment: Mapping[str, str]) -> set[str]:
    """Return the values that no log may show, the passwords of URLs among them."""
    named = (pair for pair in environment.items() if pair[0] not in FOLDERS)
    found = {value for name, value in named if SECRET_NAME.search(name)}
    for value in environment.values():
        if "://" in value and (password := password_of(value)):
            found.add(password)
    return {value for value in found if len(value) >= SHORTEST}


def password_of(url: str) -> str | None:
    """Return a URL's password; None also for what only looks like a URL."""
    try:
        return urlsplit(url).password
    except ValueError:
        return None
