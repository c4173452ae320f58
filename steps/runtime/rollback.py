"""Going back to the previous champion. Every move can be made twice, and a kill between two is made good."""

import json
from collections.abc import Mapping

from steps.core.system.errors import RegistryError
from steps.runtime.registry import CHAMPION, PREVIOUS, Registry


def roll_back(registry: Registry, who: str, why: str, force: bool) -> tuple[str, str]:
    """Swap champion and previous; return the version that is champion now, and the one that was.

    A version that was itself rolled back becomes champion only by `force`, and is then no longer marked.

    Raises:
        RegistryError: There is no previous champion, its files are gone, or it was rolled back before.
    """
    name, aliases = registry.name, registry.aliases()
    if CHAMPION not in aliases or PREVIOUS not in aliases:
        raise RegistryError(f"{name} has {aliases or 'no versions'}: nothing to roll back to")
    now, before = aliases[PREVIOUS], aliases[CHAMPION]
    if not registry.whole(now):
        raise RegistryError(
            f"{name}: the files of version {now}, the previous champion, are gone: version {before} stays "
            "champion; restore them, or let the next model succeed it (promote.on_lost_champion: succeed)"
        )
    if now == before:  # a kill came between the two moves of the aliases below
        before = rolled_back_to(registry, now)
    elif reason := registry.rolled_back(registry.tags(now).get("model_digest", "")):
        if not force:
            raise RegistryError(
                f"{name}: version {now}, the previous champion, was itself rolled back ({reason}): version "
                f"{before} stays champion; --force makes {now} champion all the same"
            )
        forgive(registry, now)
    told = json.dumps({"who": who, "why": why, "to": now})
    registry.client.set_model_version_tag(name, before, "rolled_back", told)
    registry.client.set_registered_model_alias(name, CHAMPION, now)
    registry.client.set_registered_model_alias(name, PREVIOUS, before)
    return now, before


def finish_rollback(registry: Registry) -> None:
    """Make good a rollback that was killed between its mark and its last move."""
    aliases = registry.aliases()
    now, before = aliases.get(PREVIOUS), aliases.get(CHAMPION)
    if now is None or before is None:
        return
    if now == before:
        marked = [v for v in registry.versions() if marked_for(v.tags) == now]
        before = str(marked[0].version) if marked else before
    elif marked_for(registry.tags(before)) != now:
        return
    registry.client.set_registered_model_alias(registry.name, CHAMPION, now)
    registry.client.set_registered_model_alias(registry.name, PREVIOUS, before)


def forgive(registry: Registry, version: str) -> None:
    """Take the mark of a rollback off every version of a version's model."""
    model = registry.tags(version).get("model_digest")
    for other in registry.versions():
        if other.tags.get("model_digest") == model and "rolled_back" in other.tags:
            registry.client.delete_model_version_tag(registry.name, str(other.version), "rolled_back")


def marked_for(tags: Mapping[str, str]) -> str | None:
    """Return the version for which one with these tags was rolled back; None: it was not."""
    told: dict[str, str] = json.loads(tags.get("rolled_back", "{}"))
    return told.get("to")


def rolled_back_to(registry: Registry, version: str) -> str:
    """Return the version that was champion before `version` was made so by a rollback.

    Raises:
        RegistryError: There is none: a promotion was killed half way.
    """
    for other in registry.versions():
        if marked_for(other.tags) == version:
            return str(other.version)
    raise RegistryError(
        f"{registry.name}: version {version} is champion and previous at once, since a promotion was killed "
        "half way: run the same pipeline again, which finishes it, and then roll back"
    )
