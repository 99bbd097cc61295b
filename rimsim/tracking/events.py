"""TensorBoard event files, written and read with TensorBoard's own records."""

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

from rimsim.errors import RunFolderError, reason, refuse

HyperParameter: TypeAlias = bool | int | float | str

_BINS = 30
_COUNT = itertools.count()  # number in file names, because a process can make several files within a second
# Largest number of points that TensorBoard reads per series; 0: all points. By default, it reads a sample of a long
# series.
_ALL_POINTS = {"scalars": 0}


class ScalarPoint(NamedTuple):
    """Value of a series at a step."""

    step: int  # round number, or number of arrivals in the group ``zz_by_arrivals``
    value: float


Point = ScalarPoint


@dataclass(frozen=True)
class TagChart:
    """Chart of the custom-scalar page: lines, or a band."""

    title: str
    tags: tuple[str, ...]  # tag of each line in the chart; a band has tags of its mid, low and high lines
    band: bool = False

    def record(self) -> Any:
        """TensorBoard's record of the chart."""
        if self.band:
            mid, low, high = self.tags
            series = layout_pb2.MarginChartContent.Series(value=mid, lower=low, upper=high)
            return layout_pb2.Chart(title=self.title, margin=layout_pb2.MarginChartContent(series=[series]))
        # TensorBoard draws each tag whose beginning matches this regular expression. Without `$`, `guarantee/shortfall`
        # would draw `guarantee/shortfall_units` too.
        lines = [f"{tag}$" for tag in self.tags]
        return layout_pb2.Chart(title=self.title, multiline=layout_pb2.MultilineChartContent(tag=lines))


class EventFile:
    """New event file of a folder.

    The file begins with a purge at step 0, which makes TensorBoard hide the points of older files in the folder.
    Records are written in the caller's thread, because the thread of TensorBoard's writer prints a traceback if the
    disk is full. The folder is made if missing.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / _file_name()).open("wb")
        except OSError as error:
            raise RunFolderError(f"{folder}: cannot be written to ({reason(error)})") from error
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        self._write(Event(wall_time=time.time(), step=0, session_log=SessionLog(status=SessionLog.START)))

    def _write(self, event: Any) -> None:
        """Write one event; close the file if this fails."""
        with self._given_up_if_full():
            self._records.write(event.SerializeToString())

    @contextmanager
    def _given_up_if_full(self) -> Iterator[None]:
        """Close a file after a failed write."""
        try:
            yield
        except OSError:
            # Python would otherwise write the rest when it exits, and print a traceback.
            with suppress(OSError):
                self._file.close()
            raise

    def _add(self, step: int, **value: Any) -> None:
        """Write a summary with one value, given by its fields."""
        self._add_summary(step, Summary(value=[Summary.Value(**value)]))

    def _add_summary(self, step: int, summary: Any) -> None:
        """Write a summary as an event at a step."""
        self._write(Event(wall_time=time.time(), step=step, summary=summary))

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Add a point (step, value), in single precision."""
        # TensorBoard's loader ignores values in double precision.
        self._add(step, tag=tag, simple_value=value)

    def text(self, tag: str, markdown: str, step: int = 0) -> None:
        """Add a page of Markdown at a step."""
        text_kind = text_metadata.create_summary_metadata(display_name=None, description="")
        self._add(step, tag=tag, tensor=_strings(markdown.encode()), metadata=text_kind)

    def picture(self, tag: str, png: bytes) -> None:
        """Add a picture of the content of a PNG file."""
        # Bytes 16 to 23 of a PNG file hold its width and height.
        width, height = struct.unpack(">II", png[16:24])
        record = _strings(str(width).encode(), str(height).encode(), png)
        image_kind = image_metadata.create_summary_metadata(display_name=None, description="")
        self._add(0, tag=tag, tensor=record, metadata=image_kind)

    def histogram(self, tag: str, values: NDArray[np.generic], step: int) -> None:
        """Add a histogram of finite numbers in 30 bins."""
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
        self._add(step, tag=tag, histo=record)

    def layout(self, categories: Mapping[str, Sequence[TagChart]]) -> None:
        """Lay out the custom-scalar page: category → charts in order."""
        page = layout_pb2.Layout(
            category=[
                # The charts are reversed, because TensorBoard shows the last chart of a category first.
                layout_pb2.Category(title=title, chart=[chart.record() for chart in reversed(charts)])
                for title, charts in categories.items()
            ]
        )
        plugin = SummaryMetadata.PluginData(plugin_name="custom_scalars")
        text = _strings(page.SerializeToString())
        kind = SummaryMetadata(plugin_data=plugin)
        self._add(0, tag="custom_scalars__config__", tensor=text, metadata=kind)

    def hyperparameters(
        self, values: Mapping[str, HyperParameter], metrics: Sequence[tuple[str, str]]
    ) -> None:
        """Add a row of hyperparameters; metrics are pairs (tag, title)."""
        names = [api_pb2.HParamInfo(name=name, type=_kind(value)) for name, value in values.items()]
        columns = [summary_v2.Metric(tag, display_name=title).as_proto() for tag, title in metrics]
        table = api_pb2.Experiment(hparam_infos=names, metric_infos=columns)
        self._add_hyper(metadata.EXPERIMENT_TAG, plugin_data_pb2.HParamsPluginData(experiment=table))
        self._add_summary(0, summary_v2.hparams_pb(dict(values)))
        session_end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=time.time())
        end = plugin_data_pb2.HParamsPluginData(session_end_info=session_end)
        self._add_hyper(metadata.SESSION_END_INFO_TAG, end)

    def _add_hyper(self, tag: str, data: Any) -> None:
        """Write a record of the plugin for hyperparameters."""
        kind = metadata.create_summary_metadata(data)
        self._add(0, tag=tag, metadata=kind, tensor=metadata.NULL_TENSOR)

    def copy(self, older: Sequence[Path], keep: Callable[[str, int], bool]) -> None:
        """Copy the records of older files that ``keep(tag, step)`` accepts.

        Records keep their wall times; an incomplete last record is left out.
        """
        for event in _records(older):
            tags = [value.tag for value in event.summary.value]
            if tags and keep(tags[0], event.step):
                self._write(event)

    def flush(self) -> None:
        """Write all records to disk."""
        with self._given_up_if_full():
            self._file.flush()

    def close(self) -> None:
        """Flush and close; closing twice is harmless."""
        self._file.close()  # the file is closed even if a full disk makes flushing fail


def event_files(folder: Path) -> list[Path]:
    """Event files of a folder, oldest first."""
    return sorted(folder.glob("events.out.tfevents.*"), key=lambda path: (path.stat().st_mtime_ns, path.name))


@contextmanager
def replaced_file(folder: Path) -> Iterator[EventFile]:
    """New event file that replaces a folder's older files."""
    older = event_files(folder)
    file = EventFile(folder)
    try:
        yield file
    finally:
        file.close()
    for path in older:
        path.unlink()


def read_scalars(folder: Path) -> dict[str, list[ScalarPoint]]:
    """Points in a folder's event files, by tag."""
    from tensorboard.backend.event_processing import event_accumulator  # noqa: PLC0415  # slow to import, and only readers need it

    if not event_files(folder):
        refuse(RunFolderError, str(folder), "no event files", "the folder of an agent and a seed")
    events = event_accumulator.EventAccumulator(str(folder), size_guidance=_ALL_POINTS)
    events.Reload()
    names = events.Tags()["scalars"]
    return {name: [ScalarPoint(event.step, event.value) for event in events.Scalars(name)] for name in names}


def _records(paths: Sequence[Path]) -> Iterator[Any]:
    """Events of files, one file after the other."""
    from tensorboard.backend.event_processing import event_file_loader  # noqa: PLC0415  # slow to import, and only resumed runs need it

    for path in paths:
        yield from event_file_loader.LegacyEventFileLoader(str(path)).Load()


def _file_name() -> str:
    """File name with time, machine, process and count, for TensorBoard."""
    return f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_COUNT)}"


def _strings(*values: bytes) -> Any:
    """Tensor of one string, or of a list of strings."""
    sizes = [TensorShapeProto.Dim(size=len(values))] if len(values) > 1 else []
    shape = TensorShapeProto(dim=sizes)
    return TensorProto(dtype="DT_STRING", string_val=values, tensor_shape=shape)


def _kind(value: HyperParameter) -> Any:
    """TensorBoard's type of a hyperparameter: boolean, text or number."""
    if isinstance(value, bool):
        return api_pb2.DATA_TYPE_BOOL
    return api_pb2.DATA_TYPE_STRING if isinstance(value, str) else api_pb2.DATA_TYPE_FLOAT64
