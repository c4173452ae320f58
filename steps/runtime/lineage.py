"""Where a run comes from: the commit of the code, and the engine's run that a process belongs to."""

import os
import subprocess
import time
from functools import cache

import psutil


@cache
def lineage_tags() -> dict[str, str]:
    """Return the tags that say which code this is."""
    commit = git("rev-parse", "HEAD") or "none"
    changed = bool(git("status", "--porcelain", "--untracked-files=no"))
    return {"git_commit": commit, "git_changed": str(changed).lower()}


def git(*words: str) -> str:
    """Ask git; an empty answer where there is no repository or no git."""
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def dvc_run() -> str:
    """Return the key of the pipeline run that this process belongs to, if DVC has started it.

    All stages of one `dvc repro` have the same ancestor. A phase run by hand is a run of its own.
    """
    for ancestor in psutil.Process().parents():
        try:
            words = " ".join(ancestor.cmdline()[:4])
        except psutil.Error:
            continue
        if "dvc" in words:
            begun = time.strftime("%Y-%m-%d-%H-%M-%S", time.localtime(ancestor.create_time()))
            name = os.environ.get("DVC_EXP_NAME") or "dvc-repro"
            return f"{name}-{begun}-{ancestor.pid}"
    return f"by-hand-{time.strftime('%Y-%m-%d-%H-%M-%S')}-{os.getpid()}"
