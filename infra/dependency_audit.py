"""Look for known weaknesses of the pinned packages: `python -m infra.dependency_audit`, part of `make lint`.

The answer comes from osv.dev. Where that cannot be reached, nothing was looked up, and it says so.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 20  # for all of it; a build must not wait for a service
OUT_OF_REACH = (
    "ConnectionError",
    "Could not connect",
    "Max retries",
    "timed out",
    "NameResolution",
    "ServiceError",
)


def audit(command: list[str], seconds: float = SECONDS) -> tuple[int, str]:
    """Return the exit code of the whole, and what to say."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds, cwd=ROOT)
    except subprocess.TimeoutExpired:
        return 0, skipped(f"no answer within {seconds:g} s")
    except FileNotFoundError:
        return 0, skipped("pip-audit is not installed")
    output = (done.stdout + done.stderr).strip()
    if done.returncode and any(word in output for word in OUT_OF_REACH):
        return 0, skipped(output.splitlines()[-1][:200])
    return done.returncode, output


def skipped(why: str) -> str:
    """Return a text that cannot be overlooked."""
    return f"{'!' * 20} DEPENDENCY AUDIT SKIPPED: {why}. No package was looked up. {'!' * 20}"


def main() -> None:
    """Run pip-audit over constraints.txt, without asking pip or an index for anything."""
    tool = str(Path(sys.executable).parent / "pip-audit")
    words = [
        "--requirement",
        "constraints.txt",
        "--no-deps",
        "--disable-pip",
        "--vulnerability-service",
        "osv",
    ]
    code, output = audit([tool, *words, "--timeout", "5", "--progress-spinner", "off"])
    print(output)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
