"""TensorBoard event files, written and read with TensorBoard's own records, in the thread of whoever writes."""

from __future__ import annotations

import itertools
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from rimsim.errors import RunFolderError, reason

HyperParameter: TypeAlias = bool | int | float | str

_BINS = 30
_COUNT = itertools.count()
"""Tells the event files apart that a process makes within a second."""
_ALL_POINTS = {"scalars": 0}  # TensorBoard samples long series unless told 0


class Point(NamedTuple):
    """One point of a series."""

    step: int
    """Round, or arrivals in the group ``zz_by_arrivals``."""
    value: float
    """The scalar."""


@dataclass(frozen=True)
class Chart:
    """A chart of the custom-scalar page: several lines, or a line with a band."""

    title: str
    """Stands above the chart."""
    tags: tuple[str, ...]
    """Tags of the lines; of a band exactly mid, low and high."""
    band: bool = False
    """Whether it is a band."""

    def _record(self) -> Any:
        if self.band:
            mid, low, high = self.tags
            series = layout_pb2.MarginChartContent.Series(value=mid, lower=low, upper=high)
            return layout_pb2.Chart(title=self.title, margin=layout_pb2.MarginChartContent(series=[series]))
        # To TensorBoard these are regular expressions that a tag begins with: `guarantee/shortfall` would draw
        # `guarantee/shortfall_units` too.
        lines = [f"{tag}$" for tag in self.tags]
        return layout_pb2.Chart(title=self.title, multiline=layout_pb2.MultilineChartContent(tag=lines))


class EventFile:
    """A new event file in a folder, which takes the place of older ones.

    It begins with a purge at step 0, so that TensorBoard hides what an older file of the folder still holds. Records
    are written by the caller's own thread: TensorBoard's writer has one of its own, which prints a traceback when the
    disk is full.

    Args:
        folder: Made if missing.

    Raises:
        RunFolderError: If the folder cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / _file_name()).open("wb")
        except OSError as error:
            raise RunFolderError(f"{folder}: cannot be written to ({reason(error)})") from error
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        started = SessionLog(status=SessionLog.START)
        self._write(Event(wall_time=time.time(), step=0, session_log=started))

    def _write(self, event: Any) -> None:
        with self._given_up_if_full():
            self._records.write(event.SerializeToString())

    @contextmanager
    def _given_up_if_full(self) -> Iterator[None]:
        """Close the file where it cannot be written to: Python would try once more at its end, and complain."""
        try:
            yield
        except OSError:
            with suppress(OSError):
                self._file.close()
            raise

    def _add(self, summary: Any, step: int) -> None:
        self._write(Event(wall_time=time.time(), step=step, summary=summary))

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Add a point, of which single precision is kept: TensorBoard's own loader passes over anything wider."""
        self._add(Summary(value=[Summary.Value(tag=tag, simple_value=value)]), step)

    def text(self, tag: str, markdown: str) -> None:
        """Add a page of Markdown."""
        record = TensorProto(
            dtype="DT_STRING", string_val=[markdown.encode()], tensor_shape=TensorShapeProto()
        )
        kind = text_metadata.create_summary_metadata(display_name=None, description="")
        self._add(Summary(value=[Summary.Value(tag=tag, tensor=record, metadata=kind)]), 0)

    def picture(self, tag: str, png: bytes) -> None:
        """Add a picture, given as the content of a PNG file."""
        width, height = struct.unpack(">II", png[16:24])  # of the header that every PNG begins with
        held = [str(width).encode(), str(height).encode(), png]
        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=len(held))])
        record = TensorProto(dtype="DT_STRING", string_val=held, tensor_shape=shape)
        kind = image_metadata.create_summary_metadata(display_name=None, description="")
        self._add(Summary(value=[Summary.Value(tag=tag, tensor=record, metadata=kind)]), 0)

    def histogram(self, tag: str, values: NDArray[np.generic], step: int) -> None:
        """Add a histogram of some finite numbers, in 30 bins from the least to the greatest."""
        numbers = np.asarray(values, np.float64).ravel()
        counts, edges = np.histogram(numbers, bins=_BINS)
        record = HistogramProto(
            min=numbers.min(),
            max=numbers.max(),
            num=len(numbers),
            sum=numbers.sum(),
            sum_squares=float(numbers @ numbers),
            bucket_limit=edges[1:].tolist(),
            bucket=counts.tolist(),
        )
        self._add(Summary(value=[Summary.Value(tag=tag, histo=record)]), step)

    def layout(self, categories: Mapping[str, Sequence[Chart]]) -> None:
        """Lay out the custom-scalar page: category → its charts, in the order in which they are to be seen."""
        page = layout_pb2.Layout(
            category=[
                # TensorBoard shows the charts of a category from the last to the first.
                layout_pb2.Category(title=title, chart=[chart._record() for chart in reversed(charts)])  # noqa: SLF001 - ours
                for title, charts in categories.items()
            ]
        )
        text = TensorProto(
            dtype="DT_STRING", string_val=[page.SerializeToString()], tensor_shape=TensorShapeProto()
        )
        value = Summary.Value(tag="custom_scalars__config__", tensor=text, metadata=_plugin("custom_scalars"))
        self._add(Summary(value=[value]), 0)

    def hyperparameters(
        self, values: Mapping[str, HyperParameter], metrics: Sequence[tuple[str, str]]
    ) -> None:
        """Add the row of this folder to the table of hyperparameters, as of a run that is over.

        Args:
            values: Name → value.
            metrics: Tag and display name of the scalars that are its columns.
        """
        names = [api_pb2.HParamInfo(name=name, type=_kind(value)) for name, value in values.items()]
        columns = [summary_v2.Metric(tag, display_name=title).as_proto() for tag, title in metrics]
        table = api_pb2.Experiment(hparam_infos=names, metric_infos=columns)
        self._add(_hparams(metadata.EXPERIMENT_TAG, plugin_data_pb2.HParamsPluginData(experiment=table)), 0)
        self._add(summary_v2.hparams_pb(dict(values)), 0)
        done = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=time.time())
        end = plugin_data_pb2.HParamsPluginData(session_end_info=done)
        self._add(_hparams(metadata.SESSION_END_INFO_TAG, end), 0)

    def copy(self, older: Sequence[Path], keep: Callable[[str, int], bool]) -> None:
        """Take over records of older event files with their own wall times, up to a torn last record.

        Args:
            older: Paths of event files.
            keep: Says of a tag and a step whether to take the record over.
        """
        for event in _records(older):
            tags = [value.tag for value in event.summary.value]
            if tags and keep(tags[0], event.step):
                self._write(event)

    def flush(self) -> None:
        """Bring all records to disk."""
        with self._given_up_if_full():
            self._file.flush()

    def close(self) -> None:
        """Flush and close; closing twice is harmless."""
        self._file.close()  # closed even where it cannot be flushed


def event_files(folder: Path) -> list[Path]:
    """The event files of a folder, oldest first; none if there is no folder."""
    return sorted(folder.glob("events.out.tfevents.*"), key=lambda path: (path.stat().st_mtime_ns, path.name))


def read_scalars(folder: Path) -> dict[str, list[Point]]:
    """Read back all scalars of a folder of event files, as TensorBoard would show them.

    Returns:
        Tag → its points in order of writing.

    Raises:
        RunFolderError: If there is no event file.
    """
    from tensorboard.backend.event_processing import event_accumulator  # noqa: PLC0415 - only readers need it

    if not event_files(folder):
        raise RunFolderError(f"{folder}: no event files; allowed: the folder of an agent and a seed")
    events = event_accumulator.EventAccumulator(str(folder), size_guidance=_ALL_POINTS)
    events.Reload()
    names = events.Tags()["scalars"]
    return {name: [Point(event.step, event.value) for event in events.Scalars(name)] for name in names}


def _records(paths: Sequence[Path]) -> Iterator[Any]:
    from tensorboard.backend.event_processing import event_file_loader  # noqa: PLC0415 - only resuming needs it

    for path in paths:
        yield from event_file_loader.LegacyEventFileLoader(str(path)).Load()


def _file_name() -> str:
    """As TensorBoard looks for it: time, machine, process and a count."""
    return f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_COUNT)}"


def _plugin(name: str) -> Any:
    return SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=name))


def _hparams(tag: str, data: Any) -> Any:
    kind = metadata.create_summary_metadata(data)
    return Summary(value=[Summary.Value(tag=tag, metadata=kind, tensor=metadata.NULL_TENSOR)])


def _kind(value: HyperParameter) -> Any:
    if isinstance(value, bool):
        return api_pb2.DATA_TYPE_BOOL
    return api_pb2.DATA_TYPE_STRING if isinstance(value, str) else api_pb2.DATA_TYPE_FLOAT64
