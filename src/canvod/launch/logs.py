"""Log lines: structured by structlog, on stderr, shaped by whoever owns the process.

The library only asks for a logger. A program that embeds it keeps its own set-up of structlog or of the
standard library; the command ``canvod-launch`` calls :func:`configure_logging`.
"""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TextIO, cast

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from structlog.typing import Processor

LogFormat = Literal["console", "json"]
"""Lines for people, or lines of JSON."""

LogLevel = Literal["debug", "info", "warning", "error"]
"""The least important lines to show."""

_OURS = "canvod"
_TALKATIVE = ("asyncio", "distributed", "tornado")
_FOREIGN = ("bokeh", "distributed", "docker", "tornado", "urllib3")


def configure_logging(
    format: LogFormat = "console",  # noqa: A002 (the word of the setting log_format)
    level: LogLevel = "info",
    *,
    stream: TextIO | None = None,
) -> None:
    """Set up all log lines of this process; for programs, not for libraries.

    Lines of canvod-launch are shown from ``level`` up; those of other libraries (Dask, Docker, warnings of
    Python) from WARNING up, in the same form. Times are UTC in ISO 8601. A second call replaces the first.

    Parameters
    ----------
    format : {"console", "json"}, default "console"
        ``console``: lines for people, with colours on a terminal. ``json``: one object a line.
    level : {"debug", "info", "warning", "error"}, default "info"
        The least important lines of canvod-launch to show.
    stream : TextIO, optional
        Where to write; where None, what ``sys.stderr`` is when a line comes, so that lines go above a
        progress bar of rich.

    Examples
    --------
    >>> configure_logging("json", "warning")
    >>> get_logger("canvod.launch").info("not_shown")
    """
    on_terminal = (sys.stderr if stream is None else stream).isatty()
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    # Neither shows the local variables of a traceback: they may hold secrets.
    last: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=on_terminal, exception_formatter=structlog.dev.plain_traceback)]
        if format == "console"
        else [
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            structlog.processors.JSONRenderer(default=str),
        ]
    )
    foreign_level = max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()])
    handler = _Handler(stream, foreign_level, writes_json=format == "json")
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    logging.getLogger(_OURS).setLevel(level.upper())
    logging.captureWarnings(capture=True)
    # A library that was imported before may have set up lines of its own, as distributed does.
    for name in [name for name in logging.root.manager.loggerDict if name.split(".")[0] in _FOREIGN]:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return a structured logger that follows the set-up of the process it runs in.

    Where structlog is configured, lines go through that configuration. Where it is not, they go to the
    standard library's logger of that name, and never to the standard output of a program that embeds this
    library.

    Parameters
    ----------
    name : str
        Name of the logger, such as ``canvod.launch``.

    Returns
    -------
    structlog.stdlib.BoundLogger
        A logger; it looks at the set-up anew for each line.
    """
    return cast("structlog.stdlib.BoundLogger", _Logger(name))


@contextmanager
def quiet_dask() -> Iterator[None]:
    """Keep Dask from telling how a cluster ends: what went wrong with that, its owner says.

    Yields
    ------
    None
        While loggers of asyncio, distributed and tornado are disabled.
    """
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in _TALKATIVE]
    before = {logger: logger.disabled for logger in map(logging.getLogger, names)}
    try:
        for logger in before:
            logger.disabled = True
        yield
    finally:
        for logger, disabled in before.items():
            logger.disabled = disabled


class _Logger:
    """Chooses where a line goes when it is written, not when the logger was made."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if structlog.is_configured():
            return getattr(structlog.get_logger(self._name), attribute)
        processors: list[Processor] = [
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ]
        logger, kind = logging.getLogger(self._name), structlog.stdlib.BoundLogger
        return getattr(structlog.wrap_logger(logger, processors, kind), attribute)


class _Handler(logging.StreamHandler[TextIO]):
    """The handler of :func:`configure_logging`, with a level of its own for other libraries.

    The command line looks at `writes_json`: its own messages are lines of the log then.
    """

    def __init__(self, stream: TextIO | None, foreign_level: int, *, writes_json: bool) -> None:
        super().__init__(stream)
        self.writes_json = writes_json
        self._follows_stderr = stream is None
        self._foreign_level = foreign_level

    def emit(self, record: logging.LogRecord) -> None:
        if self._follows_stderr:
            self.stream = sys.stderr
        super().emit(record)

    def filter(self, record: logging.LogRecord) -> bool | logging.LogRecord:
        # distributed sets its level to INFO when it is imported, so the level of its logger is not enough.
        ours = record.name.split(".")[0] == _OURS
        return super().filter(record) if ours or record.levelno >= self._foreign_level else False
