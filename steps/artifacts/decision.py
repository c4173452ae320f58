"""The promotion decision."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from steps.core.system.storage import (
    Artifact,
    Blob,
    Headline,
    RunSummary,
    read_json,
    to_json,
)

LISTED = 3  # layers that are named


@dataclass(frozen=True)
class Decision(Artifact):
    """The promotion verdict, with the evidence of every gate.

    What changes from run to run (`measured`: latencies, models judged on the test set) is kept
    beside it, and is no part of the digest.
    """

    verdict: str
    gates: list[dict[str, Any]]
    registered: dict[str, Any]
    deployment: list[dict[str, Any]] = field(default_factory=list)
    """Each exported file: size, agreement with torch, test accuracy, and why it is withheld, if it is."""
    measured: dict[str, Any] = field(default_factory=dict)
    candidate: dict[str, Any] = field(default_factory=dict)
    """Which model was put forward, why, and what the others were on validation."""

    promoted: ClassVar[str] = "promoted"
    rolled_back: ClassVar[str] = "rolled back"

    def files(self) -> Mapping[str, Blob]:
        names = ("verdict", "gates", "registered", "deployment", "candidate")
        return {"decision.json": to_json({name: getattr(self, name) for name in names})}

    def undigested_files(self) -> Mapping[str, bytes]:
        return {"measured.json": to_json(self.measured)}

    @classmethod
    def read(cls, folder: Path) -> Self:
        facts, measured = read_json(folder, "decision", "measured")
        return cls(**facts, measured=measured)

    def evidence(self) -> list[dict[str, Any]]:
        """Return the gates with every figure, the measured ones too."""
        return [
            {**gate, "found": gate["found"] or self.measured["gates"][gate["gate"]]} for gate in self.gates
        ]

    def explanation(self) -> list[str]:
        """Return sentences: the verdict with its reason, what to do, the candidate, what was withheld."""
        from steps.core.promotion.explanation import explain

        sentences = explain(self.verdict, self.evidence(), self.registered)
        if self.candidate:
            sentences.append(f"Put forward: {self.model}; {self.candidate['reason']}.")
        sentences += [
            mixed_precision(row, clock)
            for row, clock in zip(self.deployment, self.measured.get("latencies", []), strict=False)
            if row.get("float_layers")
        ]
        return sentences + [
            f"Withheld: {row['model']}, {row['variant']}, which does not agree ({row['withheld']})."
            for row in self.deployment
            if row.get("withheld")
        ]

    @property
    def model(self) -> str:
        """The candidate's name, in words."""
        return str(self.candidate.get("chosen", "")).replace("_", " ")

    def run_summary(self) -> RunSummary:
        name, version = self.registered["name"], self.registered["version"]
        tags = {
            "verdict": self.verdict,
            "registered_version": f"{name} {version}",
            "mlflow.note.content": "\n\n".join(self.explanation()),
        }
        return RunSummary(f"{name}: {self.model or 'model'}, {self.verdict}", tags=tags)

    def headline(self) -> Headline:
        passed = sum(gate["passed"] for gate in self.gates)
        model = {"model": self.model} if self.candidate else {}
        return {"verdict": self.verdict, **model, "gates": f"{passed}/{len(self.gates)}"}

    @classmethod
    def in_words(cls, headline: Headline) -> str:
        """See `Artifact.in_words`."""
        model = f", {headline['model']}" if "model" in headline else ""
        return f"{headline['verdict']}{model}: passed {str(headline['gates']).replace('/', ' of ')} gates"


def mixed_precision(row: Mapping[str, Any], clock: Mapping[str, float]) -> str:
    """Say which layers of an int8 file stay in float, and what that costs."""
    names = row["float_layers"]
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    cost = f"{row['megabytes'] - row['megabytes_all_layers']:.2f} MB"
    if "all_layers_p50_ms" in clock:
        cost += f" and {clock['latency_p50_ms'] - clock['all_layers_p50_ms']:.2f} ms"
    return (
        f"In the int8 file of {row['model']} {len(names)} of {row['layers']} layers stay in float for it to "
        f"agree ({', '.join(names[:LISTED])}{more}), which costs {cost}."
    )
