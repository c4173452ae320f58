"""`headstart`: the one command line. A command is a few lines here and a call of the module that does it."""

import os
from pathlib import Path
from typing import Annotated

import typer

from steps.core.system.code import ROOT
from steps.core.system.errors import HeadstartError
from steps.runtime.params import DATA_FOLDER, PARAMS_FILE

REMOTE = ("://", "hub:")  # what a data set's address holds that is no path
ANALYTICS = {
    "ZENML_ANALYTICS_OPT_IN": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}
RUNS = "Runs and models"
USE = "Using a model"
HELP = "This machine"

app = typer.Typer(
    name="headstart",
    help="From a folder of labelled samples to a model in production, with the proof that it is good.",
    epilog="First run: headstart run FOLDER, where FOLDER holds a folder of samples for each class.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Model = Annotated[str, typer.Argument(help="Name of the registered model, as the end of a run says it.")]


def address(text: str, before: Path) -> str:
    """Return what a data set or file is called from the project's folder: URLs stay, paths become absolute.

    Args:
        text: As it was typed, in the folder `before`; `~` is the user's home.
        before: Where the command was typed.
    """
    if any(mark in text for mark in REMOTE):
        return text
    return os.path.normpath(before / Path(text).expanduser())


def enter_project() -> Path:
    """Make the project's folder the working directory, wherever the command was typed; return the latter.

    The project is this folder where it has a params.yaml, else the one that the code is in.
    """
    before = Path.cwd()
    if not Path("params.yaml").is_file():
        os.chdir(ROOT)
    for name, value in ANALYTICS.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("ZENML_CUSTOM_SOURCE_ROOT", str(Path.cwd()))
    return before


@app.callback()
def common() -> None:
    """Keep the commands apart from the app's own options."""


@app.command(rich_help_panel=RUNS)
def run(
    data: Annotated[
        str | None,
        typer.Argument(
            help="A folder with a folder per class (or train/val/test folders of those), a table with the "
            "columns path and label or others that say as much, a URL, or hub:NAME. Default: "
            "ingest_data.path of the parameters."
        ),
    ] = None,
    params: Annotated[str | None, typer.Option(help="Another file than params.yaml.")] = None,
    config: Annotated[
        str | None, typer.Option(help="What the steps need on a cluster: infra/configs.")
    ] = None,
) -> None:
    """Train, judge and, if it passes the gates, promote a model. What is finished already is reused."""
    before = enter_project()
    if data is not None:
        os.environ[DATA_FOLDER] = address(data, before)
    if params is not None:
        os.environ[PARAMS_FILE] = address(params, before)
    run_pipeline("finetune", address(config, before) if config else None)


@app.command(rich_help_panel=RUNS)
def retrain(
    if_due: Annotated[bool, typer.Option(help="Only if the schedule in params.yaml says so.")] = False,
) -> None:
    """Look for new data and drift, and train where there is a reason."""
    from infra import retrain as retraining

    enter_project()
    retraining.start(at_once=not if_due)


@app.command(rich_help_panel=RUNS)
def report(
    name: Annotated[str | None, typer.Argument(help="Of a run. Default: the newest.")] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Say where the report of a run is."""
    import webbrowser

    before = enter_project()
    found = sorted(Path("reports").glob(f"{name or '*'}/report.html"), key=lambda page: page.stat().st_mtime)
    if not found:
        raise SystemExit(f"{ROOT / 'reports'} has none of {name or 'any run'}: headstart run DATA makes one")
    page = found[-1].absolute()
    typer.echo(page.relative_to(before) if page.is_relative_to(before) else page)
    if show:
        webbrowser.open(page.as_uri())


@app.command(rich_help_panel=USE)
def predict(
    model: Model,
    data: Annotated[
        str, typer.Argument(help="A folder, a .csv or .parquet table, or a URL; no labels are needed.")
    ],
    out: Annotated[
        str | None, typer.Option(help="Folder for the answers. Default: predictions/MODEL-TIME.")
    ] = None,
) -> None:
    """Label many samples with the champion: a table, and a page of the least sure ones."""
    import time

    from infra import predict as prediction

    before = enter_project()
    default = Path.cwd() / "predictions" / f"{model}-{time.strftime('%Y_%m_%d-%H_%M_%S')}"
    prediction.predict(model, address(data, before), Path(address(out, before)) if out else default)


@app.command(rich_help_panel=USE)
def serve(
    model: Model,
    port: int = 8000,
    host: Annotated[
        str, typer.Option(help="The address to listen at; others than this machine need a token.")
    ] = "127.0.0.1",
) -> None:
    """Answer requests with the champion, on this machine, with a page to try it."""
    from infra import serve as server

    enter_project()
    server.serve(model, host, port)


@app.command(rich_help_panel=USE)
def rollback(
    model: Model,
    why: Annotated[str, typer.Option(help="The reason; it is recorded.")],
    force: Annotated[bool, typer.Option(help="Also to a version that was rolled back before.")] = False,
) -> None:
    """Make the previous champion the champion again."""
    from infra import rollback as rolling

    enter_project()
    rolling.make_previous_champion(model, why, force)


@app.command(rich_help_panel=HELP)
def doctor() -> None:
    """Say whether this machine is able: Python, packages, disk, memory, cores, GPU, ports, git."""
    from infra import doctor as examination

    enter_project()
    raise SystemExit(examination.report_on(Path.cwd()))


@app.command(rich_help_panel=HELP)
def demo(folder: Annotated[str, typer.Argument(help="Where to.")] = "data/demo") -> None:
    """Write 1,797 scanned digits, as a data set to try."""
    from infra import demo as digits

    before = enter_project()
    place = Path(address(folder, before)) if folder != "data/demo" else Path(folder)
    typer.echo(f"{digits.write_digits(place)} images in {place}")


@app.command(rich_help_panel=HELP)
def stack(name: Annotated[str, typer.Argument(help="A file in infra/stacks, without its ending.")]) -> None:
    """Choose where the pipeline runs."""
    from infra import stack as stacks

    enter_project()
    stacks.choose(name)


def run_pipeline(name: str, config: str | None) -> None:
    """Run a ZenML pipeline of `pipelines`, in this process; its phases have the terminal from the start."""
    from importlib import import_module

    from steps import PHASES
    from steps.runtime.terminal import terminal

    with terminal(PHASES, f"{name}_pipeline"):
        pipeline = getattr(import_module(f"pipelines.{name}"), f"{name}_pipeline")
        pipeline.with_options(config_path=config)()


def main() -> None:
    """Run the command line; what is wrong is one block of text."""
    try:
        app()
    except HeadstartError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None


if __name__ == "__main__":
    main()
