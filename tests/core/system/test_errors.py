import inspect
import re

from steps.core.system import errors
from steps.core.system.errors import HeadstartError


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in str(errors.__doc__).splitlines():
        if found := re.match(r"^([│├└─ ]*)([A-Z]\w*(?:Error|Rejected|Diverged|Drift|ed))\b", line):
            depth = len(found[1]) // 4
            path[depth:] = [found[2]]
            drawn[found[2]] = path[depth - 1] if depth else "Exception"
    classes = {
        name: str(kind.__base__ and kind.__base__.__name__)
        for name, kind in inspect.getmembers(errors, inspect.isclass)
    }
    assert drawn == classes


def test_every_error_is_one_of_ours_and_says_when_it_is_raised() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    assert len(kinds) > 5
    assert all(issubclass(kind, HeadstartError) and kind.__doc__ for kind in kinds)
