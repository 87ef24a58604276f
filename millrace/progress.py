"""Progress bars, on the error stream so that standard output stays for results."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@contextmanager
def progress_bar(what: str, total_count: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar while the block runs; call what is yielded with each number of things done."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as progress:
        task = progress.add_task(what, total=total_count, speed="")

        def advance(count: int) -> None:
            progress.advance(task, count)
            speed = progress.tasks[0].finished_speed or progress.tasks[0].speed
            if speed:
                progress.update(task, speed=f"{speed:,.0f}/s")

        yield advance
