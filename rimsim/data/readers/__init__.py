"""File formats: from bytes to the rows of a table.

``containers`` opens files, ``layouts`` finds the files of a folder, and ``lines`` splits text into rows. ``tables``
reads these rows and Parquet into an ``events.Collector``, and ``attributes`` reads the tables of users and items.
``events.assemble`` makes the log.
"""
