"""What must not be written down: passwords in URLs, and the values of variables that hold a secret."""

import os
import re
from collections.abc import Mapping
from urllib.parse import unquote

WORDS = r"(?:password|passwd|pwd|secret|token|credential|signature|sig|api_?key|access_?key|private_?key)"
SECRET_NAME = re.compile(rf"(?:^|[_\W]|x-amz-){WORDS}(?:$|[_\W])", re.IGNORECASE)
QUERY_WORDS = rf"(?:{WORDS}|key|auth|pass|jwt|sas)"
SECRET_IN_QUERY = re.compile(rf"(?:^|[_\W]|x-amz-){QUERY_WORDS}(?:$|[_\W])", re.IGNORECASE)
IN_URL = re.compile(r"\b(?P<scheme>[a-z][\w+.-]*)://(?P<user>[^\s/:@]*)(?P<rest>:[^\s/]*)?@", re.IGNORECASE)
PARAMETER = rf"(?:[\w.-]*[_.-])?{QUERY_WORDS}(?:[_.-][\w.-]*)?"
IN_QUERY = re.compile(rf"(?P<name>[?&;#]{PARAMETER}=)[^\s&;'\"]+", re.IGNORECASE)
CONTAINERS = {"abfs", "abfss", "wasb", "wasbs"}  # schemes of Azure: what stands before the @ is a container
FOLDERS = {"PWD", "OLDPWD"}  # which every shell sets: where it is, and was
HIDDEN = "***"
SHORTEST = 6  # characters of a secret that is looked for by its value; "yes" would hide half a log


def holds_secret(url: str) -> bool:
    """Say whether a URL names a user, a password or a token, or has a key among the words of its query."""
    if "://" not in url:
        return False
    if any(match["rest"] or match["scheme"].lower() not in CONTAINERS for match in IN_URL.finditer(url)):
        return True
    _, mark, rest = url.partition("?")
    words = rest.replace("#", "&").replace(";", "&") if mark else url.partition("#")[2]
    return any(SECRET_IN_QUERY.search(unquote(word.partition("=")[0])) for word in words.split("&"))


def mask(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the text with every known secret hidden."""
    text = IN_QUERY.sub(rf"\g<name>{HIDDEN}", IN_URL.sub(masked_user, text))
    for value in sorted(secrets(environment), key=len, reverse=True):
        text = text.replace(value, HIDDEN)
    return text


def masked_user(match: re.Match[str]) -> str:
    """Return the part of a URL before its host: a user who has a password may be named."""
    scheme, user = match["scheme"], match["user"]
    if match["rest"]:
        return f"{scheme}://{user}:{HIDDEN}@"
    return match[0] if scheme.lower() in CONTAINERS else f"{scheme}://{HIDDEN}@"


def mask_error(error: BaseException) -> None:
    """Hide every known secret in an error, and in those that it came from, before others write it down."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.args = tuple(mask(word) if isinstance(word, str) else word for word in error.args)
        for name, word in vars(error).items():
            if isinstance(word, str):
                setattr(error, name, mask(word))
        if error.__cause__ is not None and error.__context__ not in (None, error.__cause__):
            mask_error(error.__context__)
        error = error.__cause__ or error.__context__  # type: ignore[assignment]


def secrets(environment: Mapping[str, str]) -> set[str]:
    """Return the values that no log may show, the passwords of URLs among them.

    A value that is the path of a file or a folder is none.
    """
    named = (pair for pair in environment.items() if pair[0] not in FOLDERS)
    found = {value for name, value in named if SECRET_NAME.search(name)}
    for value in environment.values():
        for match in IN_URL.finditer(value):
            password = (match["rest"] or "")[1:] or (
                match["user"] if match["scheme"].lower() not in CONTAINERS else ""
            )
            found |= {password, unquote(password)}
    return {value for value in found if len(value) >= SHORTEST and not is_path(value)}


def is_path(value: str) -> bool:
    """Say whether a value is the path of something that exists."""
    try:
        return os.path.isabs(value) and os.path.exists(value)
    except ValueError:
        return False
