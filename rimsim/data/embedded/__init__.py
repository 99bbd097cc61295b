"""MovieLens latest-small, edition of October 2016: the log that ships with rimsim (see NOTICE.md for its terms)."""
