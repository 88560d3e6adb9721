"""What ``cnnport evaluate`` prints: a row for each network and runtime, and what is confused most."""

from typing import TYPE_CHECKING

from cnnport.cli import console

if TYPE_CHECKING:
    from cnnport.evaluation import Evaluated

_MOST_CONFUSED = 3


def print_evaluation(results: "list[Evaluated]") -> None:
    """Print the results that there are; how long they took goes to standard error."""
    done = [each for each in results if each.metrics is not None]
    shown = ((each.data, str(each.network.protocol)) for each in done if each.network is not None)
    for data, protocol in dict.fromkeys(shown):
        console.say(f"data      {data}")
        console.say(f"shown     {protocol}")
    table = console.table(
        "",
        "network",
        "precision",
        "runtime",
        "top-1 %",
        "95 %",
        "top-5 %",
        "95 %",
        "macro F1 %",
        "calibration error %",
        "pictures",
        "unreadable",
        numbers=("top-1 %", "95 %", "top-5 %", "macro F1 %", "calibration error %", "pictures", "unreadable"),
    )
    for each in done:
        metrics, artifact = each.metrics, each.request.artifact
        assert metrics is not None
        assert each.tally is not None
        random = artifact.metadata.get("cnnport.weights") == "random"
        table.add_row(
            artifact.model.replace("[", r"\[") + (" (random weights)" if random else ""),
            artifact.precision,
            each.request.runtime,
            _percent(metrics.top1),
            _interval(metrics.top1_interval),
            _percent(metrics.top5),
            _interval(metrics.top5_interval),
            _percent(metrics.macro["f1"]),
            _percent(metrics.calibration_error),
            str(metrics.count),
            str(each.tally.unreadable),
        )
    console.results().print(table)
    _print_confused(done[0])
    for each in done:
        assert each.tally is not None
        resumed = f", {each.resumed} of them in an earlier run (--fresh begins again)" if each.resumed else ""
        total = each.tally.count + each.tally.unreadable
        pace = (total - each.resumed) / each.seconds if each.seconds > 0 else 0.0
        console.note(
            f"{each.request.runtime}: {total} pictures{resumed}, {each.seconds:.1f} s"
            + (f", {pace:.1f} a second" if total > each.resumed else "")
        )


def _print_confused(result: "Evaluated") -> None:
    metrics = result.metrics
    assert metrics is not None
    names = {each.index: each.label or str(each.index) for each in metrics.classes}
    most = [
        f"{names[label]} for {names[best]} ({times})"
        for label, best, times in metrics.confusion[:_MOST_CONFUSED]
    ]
    if most:
        console.say(f"taken     {', '.join(most)}")


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _interval(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f}"
