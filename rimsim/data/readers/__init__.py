"""File formats: from bytes to the rows of a table.

From the outside in: ``containers`` opens files, ``layouts`` finds the files of a folder, ``lines`` cuts text into
rows, ``tables`` reads these and Parquet into an ``events.Collector``, ``attributes`` reads the tables of users and
items, and ``events.assemble`` makes the log.
"""
