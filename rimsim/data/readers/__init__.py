"""The file formats: from bytes in a file, a folder or a zip to the events and tables of a log.

From the outside in: ``containers`` opens files, ``layouts`` knows which file of a folder is which, ``lines`` and
``dialect`` cut text into rows, ``delimited`` and ``parquet`` read events into a ``collect.Collector``,
``attributes`` reads the tables of users and items beside them, and ``assemble`` makes the log of it all. ``observed``
reads tables of answers.
"""
