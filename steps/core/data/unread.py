"""Files that are samples in a format that is not read here: few are left out by name, many stop the run."""

from collections import Counter
from collections.abc import Iterable, Mapping

from steps.core.system.errors import DataError


def refuse_unread(
    root: str, paths: Iterable[str], endings: tuple[str, ...], unread: Mapping[str, str], limit: float
) -> None:
    """Refuse a data set of which too large a part is in formats that are not read.

    Args:
        root: The data set, for the message.
        paths: Of its files.
        endings: Of samples that are read, in lower case.
        unread: Of samples that are not: by the ending, what to do.
        limit: Share of all samples, up to which they are left out with a warning.

    Raises:
        DataError: There are more; names the endings and what to do.
    """
    lower = [path.lower() for path in paths]
    read = sum(path.endswith(endings) for path in lower)
    counts = Counter(ending for path in lower for ending in unread if path.endswith(ending))
    left = counts.total()
    if left <= limit * (read + left):
        return
    ways = {unread[ending]: None for ending, _ in counts.most_common()}
    found = ", ".join(f"{count} {ending}" for ending, count in counts.most_common())
    raise DataError(
        f"{root}: {left} of {read + left} samples have formats that are not read ({found}), more than "
        f"ingest_data.max_unknown_formats ({limit}): {'; '.join(ways)}; or raise the limit to leave them out"
    )
